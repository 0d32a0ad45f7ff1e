"""``fanwire token``: make a connection token, for trying things out and for scripts."""

from __future__ import annotations

import os
import time

import click
import jwt

from channels.errors import SettingsError

from .options import config_option, duration_callback

__all__ = ["command"]


@click.command("token")
@click.option("--user", default="", help="Whose token it is; empty means anonymous.")
@click.option("--workspace", "workspaces", multiple=True, help="A workspace of the user.")
@click.option("--scope", "scopes", multiple=True, help="A scope, such as queues or publish.")
@click.option(
    "--ttl",
    default="1h",
    show_default=True,
    callback=duration_callback,
    metavar="DURATION",
    help="How long it lives.",
)
@click.option(
    "--secret",
    "--token-hmac-secret",
    "secret",
    metavar="TEXT",
    help="HS256 key of at least 32 bytes; better in FANWIRE_TOKEN_HMAC_SECRET.",
)
@config_option
def command(
    *,
    user: str,
    workspaces: tuple[str, ...],
    scopes: tuple[str, ...],
    ttl: int,
    secret: str | None,
    config_path: str | None,
) -> None:
    """Print a connection token signed with the hub's secret.

    The secret, the audience and the issuer come from where the hub takes them: the
    configuration file, FANWIRE_* variables, or --secret.

    \b
    Example:
      fanwire tail notifications:u1 --token "$(fanwire token --user u1)"
    """
    from hub.settings import load_settings  # noqa: PLC0415 - 'fanwire --help' need not load it

    settings = load_settings(config_path, os.environ, {"token_hmac_secret": secret})
    if settings.token_hmac_secret is None:
        raise SettingsError(
            "expected a secret in FANWIRE_TOKEN_HMAC_SECRET, the configuration or --secret; "
            "got none"
        )
    if not 0 < ttl <= settings.token_max_lifetime_s:
        raise click.BadParameter(
            f"the hub takes tokens that live 1 to {settings.token_max_lifetime_s} s; got {ttl} s",
            param_hint="--ttl",
        )
    now = int(time.time())
    claims: dict[str, object] = {
        "sub": user,
        "iat": now,
        "exp": now + ttl,
        "workspaces": list(workspaces),
        "scopes": list(scopes),
    }
    if settings.token_audience is not None:
        claims["aud"] = settings.token_audience
    if settings.token_issuer is not None:
        claims["iss"] = settings.token_issuer
    click.echo(jwt.encode(claims, settings.token_hmac_secret, algorithm="HS256"))
