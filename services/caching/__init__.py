"""Caches: what is dear to get, kept near."""
