"""The hub on :class:`~benchmarks.redis_py_store.RedisPyStore`, as a process.

    FANWIRE_REDIS_URL=redis://... python -m benchmarks.redis_py_hub

Everything but the listening is as ``fanwire serve`` has it; settings come from ``FANWIRE_*``.
"""

from __future__ import annotations

import os

from channels.errors import SettingsError
from hub.listener import bind, url_of
from hub.logs import set_up_logs
from hub.server import build_server
from hub.settings import load_settings

from .redis_py_store import RedisPyStore


def main() -> None:
    """Serve until a signal ends it."""
    settings = load_settings(None, os.environ, {})
    if settings.redis_url is None:
        raise SettingsError("expected the address of a Redis in FANWIRE_REDIS_URL; got none")
    set_up_logs(settings.log_level, json=settings.log_json)
    listener = bind(settings)

    def say_ready() -> None:
        print(f"Fanwire with redis-py's pub/sub on {url_of(listener)}", flush=True)

    store = RedisPyStore(settings.redis_url)
    build_server(settings, say_ready, store=store).run([listener])


if __name__ == "__main__":
    main()
