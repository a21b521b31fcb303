"""The engine: files in, logits out. It knows neither HTTP nor asyncio."""
