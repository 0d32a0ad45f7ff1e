"""Whose accounts something counts in: the user's, the workspace's and the organisation's."""

from __future__ import annotations

import asyncio
import time

from sqlalchemy import select

from channels.errors import DatabaseUnavailable
from channels.ids import check_id
from channels.scope import Scope
from services.database import Database
from services.database.tables import WORKSPACES

__all__ = ["Organisations", "scopes_of"]

#: Seconds for which the organisation of a workspace is remembered, and how many are.
_FRESH_S = 60.0
_MOST = 10_000
#: Seconds after a failure in which the database is not asked again.
_PAUSE_S = 2.0


def scopes_of(user: str, workspace: str, organisation: str = "") -> tuple[Scope, ...]:
    """Return the scopes of an amount, the user's first; empty ids are left out.

    Raises:
        BadRequest: one of them is not an id.
    """
    scopes = [Scope("user", check_id(user, "user"))]
    if workspace:
        scopes.append(Scope("workspace", check_id(workspace, "workspace")))
    if organisation:
        scopes.append(Scope("org", check_id(organisation, "organisation")))
    return tuple(scopes)


class Organisations:
    """Which organisation a workspace belongs to, by the database; remembered for a minute."""

    __slots__ = ("_database", "_known", "_patience_s", "_retry_at")

    def __init__(self, database: Database | None, *, patience_s: float = 2.0) -> None:
        """Make it; ``patience_s`` is how long a database that does not answer is waited for."""
        self._database = database
        self._patience_s = patience_s
        self._known: dict[str, tuple[float, str]] = {}
        self._retry_at = 0.0

    def known(self, workspace: str) -> str | None:
        """Return what was looked up within the last minute; None if nothing was."""
        if self._database is None:
            return ""
        found = self._known.get(workspace)
        return found[1] if found is not None and found[0] > time.monotonic() else None

    async def find(self, workspace: str) -> str:
        """Return the organisation of ``workspace``, "" for none.

        While the database is away, what was known last holds.

        Raises:
            DatabaseUnavailable: it is away, and nothing is known.
        """
        known = self.known(workspace)
        if known is not None or self._database is None:
            return known or ""
        try:
            organisation = await self._ask(self._database, workspace)
        except DatabaseUnavailable:
            if workspace in self._known:
                return self._known[workspace][1]
            raise
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[workspace] = (time.monotonic() + _FRESH_S, organisation)
        return organisation

    async def _ask(self, database: Database, workspace: str) -> str:
        if time.monotonic() < self._retry_at:
            raise DatabaseUnavailable("the database was away a moment ago")
        query = select(WORKSPACES.c.organisation_id).where(WORKSPACES.c.id == workspace)
        try:
            async with asyncio.timeout(self._patience_s), database.begin(write=False) as connection:
                return (await connection.execute(query)).scalar() or ""
        except (DatabaseUnavailable, TimeoutError) as error:
            self._retry_at = time.monotonic() + _PAUSE_S
            raise DatabaseUnavailable(f"no organisation could be looked up: {error}") from error
