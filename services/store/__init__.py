"""The port to Redis and its adapters."""
