"""What every agent reads of its workspace: the foundation and the ideal customer profiles.

They are in the database and cached under keys of their own. Writers go through here too, so
that the cache never holds what the database does not (``CacheManager.writing``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from channels.errors import BadRequest, LimitExceeded, NotAvailable
from channels.event import Event
from channels.events import FoundationUpdated, IcpsUpdated, WorkspaceChangeData
from channels.ids import check_id, new_id
from services.database import Database
from services.database.tables import FOUNDATIONS, ICP_PROFILES

from .memory import FOUNDATION, ICPS
from .settings import CachePolicy

if TYPE_CHECKING:
    from .shared import Shared

__all__ = ["Profiles"]

#: An hour, as it always was; then a little longer while it is read anew, and for a day where
#: the database does not answer.
_POLICY: Final = CachePolicy(
    ttl_s=3600, stale_s=60, fail_safe_s=86_400, negative_ttl_s=60, soft_timeout_s=1.0
)
_MAX_ICPS: Final = 500
_FIELDS: Final = ("summary", "brand_voice", "messaging_guardrails", "soundbite_library")
_ICP_FIELDS: Final = ("id", "name", "description", "attributes")


class Profiles:
    """Reads and writes them; a part of the cache of a workspace."""

    __slots__ = ()

    if TYPE_CHECKING:
        workspace: str
        _shared: Shared
        get_or_set: Callable[..., Any]
        writing: Callable[..., AbstractAsyncContextManager[None]]
        _invalidate: Callable[..., Any]

    async def get_foundation(self) -> dict[str, Any] | None:
        """Return the foundation of the workspace, None where it has none.

        ``summary``, ``brand_voice``, ``messaging_guardrails``, ``soundbite_library`` and
        ``updated_at``.

        Raises:
            NotAvailable: there is no database, or this is not the cache of a workspace.
            DatabaseUnavailable: it does not answer, and there is no value of the last day.
        """
        self._database()
        found: dict[str, Any] | None = await self.get_or_set(
            FOUNDATION, self._load_foundation, policy=_POLICY
        )
        return found

    async def get_icps(self) -> list[dict[str, Any]]:
        """Return the ideal customer profiles of the workspace, in their order.

        Raises like :meth:`get_foundation`.
        """
        self._database()
        found: list[dict[str, Any]] = await self.get_or_set(ICPS, self._load_icps, policy=_POLICY)
        return found

    async def invalidate_foundation(self) -> int:
        """Forget the foundation, because it changed, and tell so: ``foundation.updated``.

        Return its new version. Raises like ``CacheManager.invalidate``.
        """
        version: int = await self._invalidate([FOUNDATION], [], make=self._foundation_updated)
        return version

    async def invalidate_icps(self) -> int:
        """Forget the profiles, because they changed, and tell so: ``icps.updated``.

        Return their new version. Raises like ``CacheManager.invalidate``.
        """
        version: int = await self._invalidate([ICPS], [], make=self._icps_updated)
        return version

    async def put_foundation(self, foundation: Mapping[str, Any]) -> None:
        """Write the foundation to the database and tell of it: ``foundation.updated``.

        Fields that are not named are emptied. It may be repeated.

        Raises:
            BadRequest: it has a field that there is not.
            NotAvailable: there is no database.
            DatabaseUnavailable: it may have been written.
            StoreError: it may have been written; nobody reads an older one from the cache, but
                nobody was told. Do it again.
        """
        database = self._database()
        _check_fields(foundation, _FIELDS)
        values = {name: foundation.get(name) for name in _FIELDS}
        values["updated_at"] = datetime.now(UTC)
        kind = postgresql if database.dialect == "postgresql" else sqlite
        row = {"workspace_id": self.workspace, **values}
        put = kind.insert(FOUNDATIONS).values(row)
        put = put.on_conflict_do_update(index_elements=["workspace_id"], set_=values)
        async with (
            self.writing(keys=FOUNDATION, updated=self._foundation_updated),
            database.begin() as connection,
        ):
            await connection.execute(put)

    async def put_icps(self, icps: Iterable[Mapping[str, Any]]) -> None:
        """Write all profiles of the workspace, in this order, and tell so: ``icps.updated``.

        Those that are not among them are deleted. One without an ``id`` gets a new one.

        Raises:
            LimitExceeded: more than 500.
            BadRequest: one has no name, a field that there is not, or an id of another's.
            NotAvailable, DatabaseUnavailable, StoreError: as :meth:`put_foundation`.
        """
        database = self._database()
        rows = [self._icp_row(icp, position) for position, icp in enumerate(icps)]
        if len(rows) > _MAX_ICPS:
            raise LimitExceeded(f"{len(rows)} profiles; at most {_MAX_ICPS} are kept")
        if len({row["id"] for row in rows}) < len(rows):
            raise BadRequest("two profiles have the same id")
        async with (
            self.writing(keys=ICPS, updated=self._icps_updated),
            database.begin() as connection,
        ):
            await self._replace_icps(connection, rows)

    async def _replace_icps(self, connection: AsyncConnection, rows: list[dict[str, Any]]) -> None:
        ids = [row["id"] for row in rows]
        taken = select(ICP_PROFILES.c.id).where(
            ICP_PROFILES.c.id.in_(ids), ICP_PROFILES.c.workspace_id != self.workspace
        )
        if (await connection.execute(taken)).first() is not None:
            raise BadRequest("a profile has an id that is taken; leave it out to get a new one")
        mine = ICP_PROFILES.c.workspace_id == self.workspace
        await connection.execute(delete(ICP_PROFILES).where(mine))
        if rows:
            await connection.execute(insert(ICP_PROFILES), rows)

    def _icp_row(self, icp: Mapping[str, Any], position: int) -> dict[str, Any]:
        _check_fields(icp, _ICP_FIELDS)
        name = icp.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= 200:
            raise BadRequest(f"a profile's name must be 1-200 characters; got {name!r:.80}")
        return {
            "id": check_id(icp.get("id") or new_id(), "profile id"),
            "workspace_id": self.workspace,
            "position": position,
            "name": name,
            "description": icp.get("description"),
            "attributes": icp.get("attributes"),
            "updated_at": datetime.now(UTC),
        }

    # -- the database ----------------------------------------------------------------------

    def _database(self) -> Database:
        if not self.workspace:
            raise NotAvailable("expected the cache of a workspace: for_workspace(...).cache")
        database = self._shared.database
        if database is None:
            raise NotAvailable(
                "foundations and profiles are in the database, and none is configured "
                "(FANWIRE_DATABASE_URL)"
            )
        return database

    async def _load_foundation(self) -> dict[str, Any] | None:
        columns = [FOUNDATIONS.c[name] for name in (*_FIELDS, "updated_at")]
        query = select(*columns).where(FOUNDATIONS.c.workspace_id == self.workspace)
        async with self._database().begin(write=False) as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else _plain(row._mapping)  # noqa: SLF001 - SQLAlchemy's way

    async def _load_icps(self) -> list[dict[str, Any]]:
        columns = [ICP_PROFILES.c[name] for name in (*_ICP_FIELDS, "updated_at")]
        query = (
            select(*columns)
            .where(ICP_PROFILES.c.workspace_id == self.workspace)
            .order_by(ICP_PROFILES.c.position, ICP_PROFILES.c.id)
        )
        async with self._database().begin(write=False) as connection:
            rows = (await connection.execute(query)).all()
        return [_plain(row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's way

    # -- what is told ----------------------------------------------------------------------

    def _foundation_updated(self, version: int) -> Event:
        return FoundationUpdated(
            data=WorkspaceChangeData(workspace=self.workspace, version=version)
        )

    def _icps_updated(self, version: int) -> Event:
        return IcpsUpdated(data=WorkspaceChangeData(workspace=self.workspace, version=version))


def _check_fields(given: Mapping[str, Any], known: Sequence[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise BadRequest(f"expected {', '.join(known)}; got {', '.join(map(repr, unknown))}")


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row as JSON has it; SQLite forgets the time zone, which is UTC."""
    plain = dict(row)
    updated = plain.get("updated_at")
    if isinstance(updated, datetime) and updated.tzinfo is None:
        plain["updated_at"] = updated.replace(tzinfo=UTC)
    return plain
