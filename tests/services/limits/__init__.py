"""Rate limits: what is promised, on a real server."""
