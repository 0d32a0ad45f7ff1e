"""``fanwire database``: make the tables, or bring them to the version that this hub needs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from channels.errors import SettingsError

from .options import config_option

if TYPE_CHECKING:
    from services.database import Database

__all__ = ["command"]

_url_option = click.option(
    "--database-url",
    metavar="URL",
    help="sqlite:///path or postgresql://...; by default that of the settings.",
)


@click.group("database")
def command() -> None:
    """Look after the database: people, workspaces, and what they used."""


@command.command("upgrade")
@config_option
@_url_option
def upgrade(*, config_path: str | None, database_url: str | None) -> None:
    """Make the tables, or change them as this version needs; safe to repeat.

    A hub does so at its start, unless database_migrate is false.
    """
    asyncio.run(_upgrade(_database(config_path, database_url)))


@command.command("current")
@config_option
@_url_option
def current(*, config_path: str | None, database_url: str | None) -> None:
    """Print the revision of the tables, and the newest one there is."""
    asyncio.run(_current(_database(config_path, database_url)))


def _database(config_path: str | None, url: str | None) -> Database:
    from hub.settings import load_settings  # noqa: PLC0415 - 'fanwire --help' need not load it
    from services.database import Database  # noqa: PLC0415

    settings = load_settings(config_path, os.environ, {"database_url": url})
    if settings.database_url is not None:
        return Database(settings.database_url)
    if settings.redis_url is not None:
        raise SettingsError(
            "expected a database_url: a hub on a Redis of its own choice has no database unless "
            "one is named"
        )
    path = Path(settings.data_dir).absolute() / "fanwire.db"
    return Database(f"sqlite:///{quote(str(path))}")


async def _upgrade(database: Database) -> None:
    async with database:
        before = await database.revision()
        await database.migrate()
        after = await database.revision()
    click.echo(f"{before or 'no tables'} -> {after}" if before != after else f"already at {after}")


async def _current(database: Database) -> None:
    async with database:
        click.echo(f"{await database.revision() or 'no tables'} (newest: {database.newest()})")
