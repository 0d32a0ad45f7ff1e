"""``fanwire config``: the settings as the hub would take them."""

from __future__ import annotations

import os

import click

from .options import config_option

__all__ = ["command"]


@click.command("config")
@config_option
def command(*, config_path: str | None) -> None:
    """Show every setting, its value and where it comes from. Secrets are masked."""
    from hub.settings import load_settings  # noqa: PLC0415 - 'fanwire --help' need not load it

    rows = list(load_settings(config_path, os.environ, {}).rows())
    names = max(len(row.name) for row in rows)
    values = max(len(row.value) for row in rows)
    for row in rows:
        click.echo(f"{row.name:<{names}}  {row.value:<{values}}  {row.source}")
