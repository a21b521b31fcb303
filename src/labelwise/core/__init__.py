"""What stands between a caller and the engine: the model, packing, scores."""
