"""A hold: an amount that is set aside for a call that is under way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal, Self

import msgspec

from channels.errors import BadRequest
from channels.ids import check_id
from channels.scope import Scope
from services.budgets.standing import Budget

__all__ = ["Committed", "Hold", "HoldState", "hold_name"]

HoldState = Literal["open", "released", "expired", "committed"]

#: As ``lua/lib/budget.lua`` writes them.
_STATES: Final[dict[str, HoldState]] = {
    "o": "open",
    "r": "released",
    "x": "expired",
    "c": "committed",
}


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """What is set aside, for whom, and until when.

    It is part of the budgets of the month and day in which it was made. ``budgets`` says how
    those stood right after; empty where the hold was only looked up.
    """

    id: str
    user: str
    workspace: str = ""
    organisation: str = ""
    state: HoldState
    month: str
    day: str
    amount_micro_usd: int
    amount_tokens: int
    created_at: datetime
    expires_at: datetime
    charged_micro_usd: int = 0
    charged_tokens: int = 0
    overage_micro_usd: int = 0
    late: bool = False
    budgets: tuple[Budget, ...] = ()

    @property
    def name(self) -> str:
        """``user:id``: all that another process needs to commit or release it."""
        return f"{self.user}:{self.id}"

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Whose budgets it is in: the user's first."""
        return (
            Scope("user", self.user),
            *((Scope("workspace", self.workspace),) if self.workspace else ()),
            *((Scope("org", self.organisation),) if self.organisation else ()),
        )

    def pieces(self) -> tuple[str, str]:
        """Return it as ``lua/lib/budget.lua`` writes it, open, before and after its books."""
        expires = round(self.expires_at.timestamp() * 1000)
        created = round(self.created_at.timestamp() * 1000)
        amounts = f"{self.amount_micro_usd}|{self.amount_tokens}"
        whose = f"{self.workspace}|{self.organisation}"
        before = f"o|{self.month}|{self.day[-2:]}|{amounts}|{expires}|{created}|{whose}|"
        return before, "|||||"

    @classmethod
    def parse(cls, text: bytes, user: str, id: str, budgets: tuple[Budget, ...] = ()) -> Self:
        """Return the hold that ``text`` is, as ``lua/lib/budget.lua`` wrote it."""
        values = text.decode("ascii").split("|")
        state, month, day, amount, tokens, expires, created, workspace, organisation = values[:9]
        charged, charged_tokens, overage, late = values[11:15]
        return cls(
            id=id,
            user=user,
            workspace=workspace,
            organisation=organisation,
            state=_STATES[state],
            month=month,
            day=f"{month}-{day}",
            amount_micro_usd=int(amount),
            amount_tokens=int(tokens),
            created_at=_time(created),
            expires_at=_time(expires),
            charged_micro_usd=int(charged or 0),
            charged_tokens=int(charged_tokens or 0),
            overage_micro_usd=int(overage or 0),
            late=late == "1",
            budgets=budgets,
        )


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """What a commit charged.

    ``late``: nothing was set aside any more. ``overage_micro_usd``: charged beyond what was set
    aside; ``returned_micro_usd``: set aside and not used, free again. ``duplicate``: it was
    charged before, and not again now.
    """

    hold: str
    event_id: str
    charged_micro_usd: int
    charged_tokens: int
    overage_micro_usd: int
    returned_micro_usd: int
    late: bool
    duplicate: bool


def hold_name(hold: Hold | str, user: str = "") -> tuple[str, str]:
    """Return user and id of a hold, of its name (``user:id``), or of its id and ``user``.

    Raises:
        BadRequest: it is none of these.
    """
    if isinstance(hold, Hold):
        return hold.user, hold.id
    before, colon, after = hold.partition(":")
    if colon:
        if user and user != before:
            raise BadRequest(f"the hold {hold[:130]!r} is not one of user {user[:64]!r}")
        user, hold = before, after
    elif not user:
        raise BadRequest("expected a hold, its name (user:id), or its id and user=")
    return check_id(user, "user"), check_id(hold, "hold id")


def _time(ms: str) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)
