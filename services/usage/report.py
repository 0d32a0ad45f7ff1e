"""What usage is reported as."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from services.usage.sums import Amounts, DaySums, add

__all__ = [
    "DayUsage",
    "MonthUsage",
    "NamedUsage",
    "Source",
    "TopUser",
    "Usage",
    "day_usage",
    "fields_of",
    "total",
]

#: Where sums come from: exact to the moment, or seconds behind.
Source: TypeAlias = Literal["redis", "database"]


class _Amounts(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts. ``cost_usd`` is for show; ``cost_micro_usd`` is exact."""

    tokens_input: int = 0
    tokens_output: int = 0
    cost_usd: float = 0.0
    requests: int = 0
    cost_micro_usd: int = 0


class NamedUsage(_Amounts, frozen=True, kw_only=True):
    """What one agent, model or workspace has of it."""


class DayUsage(_Amounts, frozen=True, kw_only=True):
    """What was used on ``date`` (``YYYY-MM-DD``), in all and by whom.

    Agents, models and workspaces are those of a user; workspaces and organisations show sums
    alone. ``complete`` is false where a database that was away may have more.
    """

    date: str
    agents: dict[str, NamedUsage] = {}
    models: dict[str, NamedUsage] = {}
    workspaces: dict[str, NamedUsage] = {}
    source: Source = "redis"
    complete: bool = True


class MonthUsage(_Amounts, frozen=True, kw_only=True):
    """What was used in ``month`` (``YYYY-MM``), and on its days."""

    month: str
    days: list[DayUsage] = []
    source: Source = "redis"
    complete: bool = True


class Usage(_Amounts, frozen=True, kw_only=True):
    """What was used from ``since`` to ``until``, both included; days without any are left out."""

    since: str
    until: str
    days: list[DayUsage] = []
    complete: bool = True


class TopUser(_Amounts, frozen=True, kw_only=True):
    """What one user used."""

    user: str


def fields_of(amounts: Amounts) -> dict[str, int | float]:
    """Return amounts as the fields of a report."""
    return {
        "cost_micro_usd": amounts[0],
        "cost_usd": amounts[0] / 1_000_000,
        "tokens_input": amounts[1],
        "tokens_output": amounts[2],
        "requests": amounts[3],
    }


def day_usage(day: str, sums: DaySums, source: Source, *, complete: bool) -> DayUsage:
    """Return the report of a day."""
    named = {
        sort: {
            name: msgspec.convert(fields_of(amounts), NamedUsage)
            for name, amounts in sums.names[sort].items()
        }
        for sort in ("a", "m", "w")
    }
    return msgspec.convert(
        {
            **fields_of(sums.total),
            "date": day,
            "agents": named["a"],
            "models": named["m"],
            "workspaces": named["w"],
            "source": source,
            "complete": complete,
        },
        DayUsage,
    )


def total(days: Iterable[DayUsage]) -> Amounts:
    """Return the sum of days."""
    amounts: Amounts = (0, 0, 0, 0)
    for day in days:
        amounts = add(
            amounts, (day.cost_micro_usd, day.tokens_input, day.tokens_output, day.requests)
        )
    return amounts
