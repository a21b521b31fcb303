"""The service of classifications: the queue, the cache, what is served."""
