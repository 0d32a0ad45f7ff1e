"""The events of budgets, as scripts take them: text around what only the script knows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from channels.event import Event, encode_event
from channels.events import (
    BudgetData,
    BudgetExceeded,
    BudgetHoldData,
    BudgetReleased,
    BudgetReleasedData,
    BudgetReserved,
    BudgetThreshold,
    BudgetThresholdData,
    NotificationCreated,
    NotificationCreatedData,
)
from channels.publication import encode_body
from channels.scope import Scope
from channels.template import body_pieces
from services.budgets.hold import Hold

__all__ = ["extended", "notices", "released", "reserved", "threshold"]

Reason = Literal["released", "expired", "committed"]
Unit = Literal["micro_usd", "tokens"]


#: Stand-ins for what only a script knows. What may be in these events beside them are ids; one
#: that holds such a number is told more slowly.
_MARKS = tuple(range(731_926_540_187_301, 731_926_540_187_308))


def _pieces(make: Callable[..., Event], holes: int) -> list[bytes]:
    """Do what :func:`body_pieces` does, for what is told with every call."""
    text = encode_body(encode_event(make(*_MARKS[:holes])))
    pieces: list[bytes] = []
    for mark in _MARKS[:holes]:
        before, _, text = text.partition(b"%d" % mark)
        pieces.append(before)
    pieces.append(text)
    if any(b"7319265401873" in piece for piece in pieces):
        return body_pieces(make, holes)
    return pieces


def reserved(hold: Hold, event: str, time: datetime) -> list[bytes]:
    """Tell of a new hold; holes: the user's limit, spent and reserved of the month."""
    return _pieces(
        lambda limit, spent, aside: _reserved(
            hold, event, time, limit, spent, aside, hold.amount_micro_usd, hold.amount_tokens
        ),
        3,
    )


def extended(hold: Hold, event: str, time: datetime) -> list[bytes]:
    """Tell that a hold has more; holes: as before, then its amount and its tokens."""
    return _pieces(lambda *marks: _reserved(hold, event, time, *marks), 5)


def _reserved(
    hold: Hold,
    event: str,
    time: datetime,
    limit: int,
    spent: int,
    aside: int,
    amount: int,
    tokens: int,
) -> BudgetReserved:
    data = BudgetHoldData(
        **_of(hold, limit, spent, aside), amount_micro_usd=amount, amount_tokens=tokens
    )
    return BudgetReserved(data=data, id=event, time=time, subject=f"user:{hold.user}")


def released(
    hold: Hold, reason: Reason, event: str, time: datetime, *, charged: int = 0, tokens: int = 0
) -> list[bytes]:
    """Tell that a hold is over.

    Holes: the user's limit, spent and reserved; what is free again, micro-USD and tokens; what
    was charged beyond it; whether it was late, as JSON.
    """

    def make(
        limit: int, spent: int, aside: int, amount: int, amount_tokens: int, over: int, late: int
    ) -> BudgetReleased:
        data = BudgetReleasedData(
            **_of(hold, limit, spent, aside),
            amount_micro_usd=amount,
            amount_tokens=amount_tokens,
            reason=reason,
            charged_micro_usd=charged,
            charged_tokens=tokens,
            overage_micro_usd=over,
            late=late,  # type: ignore[arg-type]  # a stand-in that the script replaces
        )
        return BudgetReleased(data=data, id=event, time=time, subject=f"user:{hold.user}")

    return _pieces(make, 7)


def _of(hold: Hold, limit: int, spent: int, aside: int) -> dict[str, Any]:
    return {
        "scope": f"user:{hold.user}",
        "period": hold.month,
        "limit_micro_usd": limit,
        "spent_micro_usd": spent,
        "reserved_micro_usd": aside,
        "hold": hold.id,
        "workspace": hold.workspace,
        "organisation": hold.organisation,
    }


def threshold(
    scope: Scope, unit: Unit, period: str, event: str, time: datetime
) -> tuple[list[bytes], list[bytes]]:
    """Tell that a share is reached (holes: limit, spent, reserved, percent), or all (three)."""
    more: dict[str, Any] = {"id": event, "time": time, "subject": str(scope)}

    def amounts(limit: int, spent: int, aside: int) -> dict[str, Any]:
        what: dict[str, Any] = {"scope": str(scope), "period": period, "unit": unit}
        if unit == "micro_usd":
            return {
                **what,
                "limit_micro_usd": limit,
                "spent_micro_usd": spent,
                "reserved_micro_usd": aside,
            }
        return {
            **what,
            "limit_micro_usd": None,
            "spent_micro_usd": 0,
            "limit_tokens": limit,
            "spent_tokens": spent,
            "reserved_tokens": aside,
        }

    return (
        body_pieces(
            lambda limit, spent, aside, percent: BudgetThreshold(
                data=BudgetThresholdData(**amounts(limit, spent, aside), percent=percent), **more
            ),
            4,
        ),
        body_pieces(
            lambda limit, spent, aside: BudgetExceeded(
                data=BudgetData(**amounts(limit, spent, aside)), **more
            ),
            3,
        ),
    )


def notices(
    scope: Scope, unit: Unit, period: str, user: str, channel: str, event: str, time: datetime
) -> tuple[list[bytes], list[bytes]]:
    """Notify ``user`` that a share is reached (hole: percent), or all of it (none)."""
    what = "budget" if unit == "micro_usd" else "token budget"
    whose = "your" if scope == Scope("user", user) else f"the {scope.kind} {scope.id}'s"
    named: dict[str, Any] = {
        "user": user,
        "notification": event,
        "ref": channel,
        "subject": str(scope),
    }
    more: dict[str, Any] = {"id": event, "time": time, "subject": event}

    def share(percent: int) -> NotificationCreated:
        title = f"{percent} % of {whose} {what} for {period} is used"
        data = NotificationCreatedData(**named, title=title, level="warning")
        return NotificationCreated(data=data, **more)

    def spent() -> NotificationCreated:
        title = f"{whose[0].upper()}{whose[1:]} {what} for {period} is spent"
        data = NotificationCreatedData(**named, title=title, level="error")
        return NotificationCreated(data=data, **more)

    return body_pieces(share, 1), body_pieces(spent, 0)
