"""What clients of the Hub find here with ``HF_ENDPOINT`` set to this server: models and files."""
