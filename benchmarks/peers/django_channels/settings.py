"""Django's settings for the server beside this file."""

from __future__ import annotations

import secrets

ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "server"
# Nothing is signed and nobody comes back: one for the time of the process will do.
SECRET_KEY = secrets.token_hex()
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels.layers.InMemoryChannelLayer",
        # Messages waiting for one consumer. The layer drops what does not fit, silently: the
        # default of 100 would lose messages of a burst, and the benchmark counts them.
        "CONFIG": {"capacity": 100_000},
    }
}
