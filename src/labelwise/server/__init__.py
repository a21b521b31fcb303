"""The HTTP server: the wire of Hugging Face's Inference Providers."""
