"""The server: what browsers and agents connect to."""
