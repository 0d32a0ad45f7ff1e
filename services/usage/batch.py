"""Batches: entries of many users that come into the database in one transaction.

A batch has the next number, and batches commit in their order: the row that holds the number is
locked first. Who reads sums and number in one snapshot has every batch up to it and no later
one. Numbers are times, so that they go on rising where a database was restored from a backup.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import case, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from services.auth_session import from_ms
from services.database import Database
from services.database.tables import USAGE_BATCHES, USAGE_EVENTS, USAGE_RECORDS
from services.usage.entry import UsageEntry
from services.usage.sums import Amounts, add

__all__ = ["Pending", "Written", "write_batch"]

_Row: TypeAlias = dict[str, Any]
_E = USAGE_EVENTS.c
_R = USAGE_RECORDS.c
#: Keys one query asks for.
_KEYS = 400


class Pending(NamedTuple):
    """An entry of the pending stream: its id there, and the generations it was counted in.

    ``entry`` is None where this version cannot read it.
    """

    id: str
    entry: UsageEntry | None
    generations: tuple[str, ...]


class Written(NamedTuple):
    """The batch that an event is in; ``duplicate`` if another entry brought it there."""

    batch: int
    duplicate: bool


async def write_batch(
    database: Database, entries: Sequence[tuple[str, UsageEntry]], now_ms: int
) -> list[Written]:
    """Write entries, each with its id, in one transaction; those that are there are found.

    Raises:
        DatabaseUnavailable: nothing was written; or, where it broke off in the end, all was.
        DBAPIError: the database refuses one of them.
    """
    first: dict[tuple[str, str], tuple[str, UsageEntry]] = {}
    for id_, entry in entries:
        first.setdefault((entry.user, entry.id), (id_, entry))
    async with database.begin() as connection:
        insert = postgresql.insert if database.dialect == "postgresql" else sqlite.insert
        number = await _next_number(connection, insert, now_ms)
        rows = [_event_row(id_, entry, number) for id_, entry in first.values()]
        adding = insert(USAGE_EVENTS).on_conflict_do_nothing().returning(_E.user_id, _E.id)
        inserted = {(user, id_) for user, id_ in await connection.execute(adding, rows)}
        found = {key: (number, first[key][0]) for key in inserted}
        if len(inserted) < len(first):
            found |= await _find(connection, [key for key in first if key not in inserted])
        if inserted:
            await _add(connection, insert, [first[key][1] for key in inserted], now_ms)
    written = []
    for id_, entry in entries:
        batch, brought_by = found[(entry.user, entry.id)]
        written.append(Written(batch, brought_by != id_))
    return written


async def _next_number(connection: AsyncConnection, insert: Any, now_ms: int) -> int:  # noqa: ANN401 - of either dialect
    number = USAGE_BATCHES.c.number
    statement = (
        insert(USAGE_BATCHES)
        .values(id=1, number=now_ms)
        .on_conflict_do_update(
            index_elements=[USAGE_BATCHES.c.id],
            set_={"number": case((number < now_ms, now_ms), else_=number + 1)},
        )
        .returning(number)
    )
    return int((await connection.execute(statement)).scalar_one())


async def _find(
    connection: AsyncConnection, keys: list[tuple[str, str]]
) -> dict[tuple[str, str], tuple[int, str]]:
    """Return batch and entry of events that are there."""
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for at in range(0, len(keys), _KEYS):
        query = select(_E.user_id, _E.id, _E.batch, _E.entry).where(
            tuple_(_E.user_id, _E.id).in_(keys[at : at + _KEYS])
        )
        for user, id_, batch, entry in await connection.execute(query):
            found[(user, id_)] = (batch, entry)
    return found


async def _add(
    connection: AsyncConnection,
    insert: Any,  # noqa: ANN401 - of either dialect
    entries: list[UsageEntry],
    now_ms: int,
) -> None:
    """Add events to the rows of their days."""
    sums: dict[tuple[str, str, str, str, str, str], Amounts] = {}
    for entry in entries:
        key = (
            entry.user,
            entry.workspace,
            entry.organisation or "",
            entry.day,
            entry.agent,
            entry.model,
        )
        sums[key] = add(sums.get(key, (0, 0, 0, 0)), entry.amounts)
    now = from_ms(now_ms)
    rows = [
        {
            "user_id": user,
            "workspace_id": workspace,
            "organisation_id": organisation,
            "date": date.fromisoformat(day),
            "agent": agent,
            "model": model,
            "cost_micro_usd": amounts[0],
            "tokens_input": amounts[1],
            "tokens_output": amounts[2],
            "requests": amounts[3],
            "updated_at": now,
        }
        for (user, workspace, organisation, day, agent, model), amounts in sorted(sums.items())
    ]
    statement = insert(USAGE_RECORDS)
    new = statement.excluded
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(USAGE_RECORDS.primary_key.columns),
            set_={
                "cost_micro_usd": _R.cost_micro_usd + new.cost_micro_usd,
                "tokens_input": _R.tokens_input + new.tokens_input,
                "tokens_output": _R.tokens_output + new.tokens_output,
                "requests": _R.requests + new.requests,
                "updated_at": new.updated_at,
            },
        ),
        rows,
    )


def _event_row(id: str, entry: UsageEntry, batch: int) -> _Row:
    return {
        "user_id": entry.user,
        "id": entry.id,
        "kind": entry.kind,
        "workspace_id": entry.workspace,
        "organisation_id": entry.organisation or "",
        "agent": entry.agent,
        "model": entry.model,
        "tokens_input": entry.tokens_input,
        "tokens_output": entry.tokens_output,
        "cost_micro_usd": entry.cost_micro_usd,
        "requests": entry.requests,
        "date": date.fromisoformat(entry.day),
        "occurred_at": from_ms(entry.occurred_ms),
        "recorded_at": from_ms(entry.recorded_ms),
        "batch": batch,
        "entry": id,
    }
