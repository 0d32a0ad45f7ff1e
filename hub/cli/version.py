"""``fanwire version``: which version this is."""

from __future__ import annotations

import platform

import click

__all__ = ["command"]


@click.command("version")
def command() -> None:
    """Print the version of Fanwire and of Python."""
    from hub.version import version  # noqa: PLC0415 - 'fanwire --help' need not load it

    click.echo(f"fanwire {version()} (Python {platform.python_version()})")
