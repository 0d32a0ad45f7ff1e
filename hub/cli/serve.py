"""``fanwire serve``: run the hub."""

from __future__ import annotations

import os
from typing import Any

import click

from .options import config_option

__all__ = ["command"]


@click.command("serve")
@click.option("--host", help="Address to listen on (127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port (8000); 0 takes a free one.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that share the port (1).")
@click.option("--redis-url", help="Redis or Upstash to use; without one, an embedded Valkey.")
@click.option("--data-dir", help="Where the embedded Valkey keeps its data (.fanwire).")
@click.option("--database-url", help="sqlite:///path or postgresql://...; else a file in data-dir.")
@click.option("--api-key", help="Key of the server API; better in FANWIRE_API_KEY.")
@click.option(
    "--insecure",
    is_flag=True,
    default=None,
    help="Everybody may do everything: for development, on a loopback address only.",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["auto", "console", "json"]))
@config_option
def command(*, config_path: str | None, **flags: Any) -> None:  # noqa: ANN401 - one a setting
    """Run the hub until it is interrupted or told to end (SIGTERM).

    Settings come from fanwire.toml, then from FANWIRE_* variables, then from these flags;
    'fanwire config' shows the result.
    """
    from hub.server import serve  # noqa: PLC0415 - the other commands need no server
    from hub.settings import load_settings  # noqa: PLC0415 - as above

    serve(load_settings(config_path, os.environ, flags))
