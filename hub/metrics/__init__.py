"""Metrics: what a worker counts, what its siblings count, and how Prometheus reads both."""
