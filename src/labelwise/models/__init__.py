"""A model: found, loaded, and what its logits mean."""
