"""The look-ups of clients of the Hub, which find models and files here by ``HF_ENDPOINT``."""
