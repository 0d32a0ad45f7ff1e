"""What several commands share: where the hub is, how long it is awaited, durations."""

from __future__ import annotations

import re

import click

from clients import Patience

__all__ = [
    "PATIENCE",
    "api_key_option",
    "config_option",
    "duration_callback",
    "json_option",
    "parse_duration",
    "token_option",
    "url_option",
    "workspace_option",
]

#: Somebody waits at the terminal, and a wrong address is likelier than a hub that comes up
#: later. A hub that was there is awaited longer: it is being started again.
PATIENCE = Patience(unreached_s=2.0)

url_option = click.option(
    "--url",
    envvar="FANWIRE_URL",
    default="http://127.0.0.1:8000",
    show_default=True,
    show_envvar=True,
    metavar="URL",
    help="Address of the hub.",
)
api_key_option = click.option(
    "--api-key",
    envvar="FANWIRE_API_KEY",
    show_envvar=True,
    default="",
    metavar="KEY",
    help="Key of the server API; a hub in insecure mode needs none.",
)
token_option = click.option(
    "--token", envvar="FANWIRE_TOKEN", show_envvar=True, default="", help="Connection token."
)
workspace_option = click.option(
    "--workspace",
    "-w",
    envvar="FANWIRE_WORKSPACE",
    show_envvar=True,
    default="",
    help="The workspace; a token for exactly one needs none.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for other programs.")
config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Configuration file; by default fanwire.toml where there is one.",
)

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_is_duration = re.compile(r"\A([0-9]{1,9})([smhd])\Z").match


def parse_duration(text: str) -> int:
    """Return the seconds in ``90s``, ``5m``, ``2h`` or ``7d``.

    Raises:
        click.BadParameter: it is no duration.
    """
    found = _is_duration(text)
    if not found:
        raise click.BadParameter(f"expected a duration such as 90s, 5m, 2h or 7d; got {text!r}")
    return int(found[1]) * _UNITS_S[found[2]]


def duration_callback(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    """Read an option that is a duration."""
    return parse_duration(value)
