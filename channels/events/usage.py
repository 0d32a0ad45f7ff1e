"""What is used, what it costs, and which limits it meets. Money is integer micro-USD."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ..event import Event
from ..ids import Id

__all__ = [
    "BudgetData",
    "BudgetExceeded",
    "BudgetHoldData",
    "BudgetReleased",
    "BudgetReleasedData",
    "BudgetReserved",
    "BudgetThreshold",
    "BudgetThresholdData",
    "RateLimitExceeded",
    "RateLimitExceededData",
    "UsageCorrected",
    "UsageCorrectedData",
    "UsageRecorded",
    "UsageRecordedData",
]

_Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
_Change = Annotated[int, Meta(ge=-(2**53) + 1, le=2**53 - 1)]


class UsageRecordedData(msgspec.Struct, frozen=True, kw_only=True):
    """One priced call of a model or tool."""

    user: Id
    workspace: Id
    tokens_input: _Count = 0
    tokens_output: _Count = 0
    cost_micro_usd: _Count = 0
    agent: str = ""
    model: str = ""


class UsageCorrectedData(msgspec.Struct, frozen=True, kw_only=True):
    """What is added to the sums of ``scope`` on ``day``; negative amounts are taken away.

    ``scope`` is ``user:ID``, ``workspace:ID`` or ``org:ID``, ``day`` a ``YYYY-MM-DD`` of the
    billing time zone. ``reason`` is ``reconciled`` where the database said so; otherwise it is
    the application's, and the user's workspace and organisation are corrected with it.
    """

    scope: str
    day: str
    tokens_input: _Change = 0
    tokens_output: _Change = 0
    cost_micro_usd: _Change = 0
    requests: _Change = 0
    reason: str = ""
    workspace: str = ""
    agent: str = ""
    model: str = ""


class BudgetData(msgspec.Struct, frozen=True, kw_only=True):
    """Where a budget stands. ``scope`` is ``user:ID``, ``workspace:ID`` or ``org:ID``.

    ``period`` is the month (``YYYY-MM``) or day (``YYYY-MM-DD``) of the billing time zone, and
    ``unit`` what is counted in it: money by the month, tokens by the day. The amounts of the
    other unit are 0. A limit that is null is none.
    """

    scope: str
    period: str
    limit_micro_usd: _Count | None
    spent_micro_usd: _Count
    reserved_micro_usd: _Count = 0
    unit: Literal["micro_usd", "tokens"] = "micro_usd"
    limit_tokens: _Count | None = None
    spent_tokens: _Count = 0
    reserved_tokens: _Count = 0


class BudgetThresholdData(BudgetData, frozen=True, kw_only=True):
    """``percent`` of the limit was reached, for the first time in this period.

    Where one call reaches several, the highest is told.
    """

    percent: Annotated[int, Meta(ge=1, le=100)]


class BudgetHoldData(BudgetData, frozen=True, kw_only=True):
    """An amount set aside for a call that is under way, in up to three budgets at once.

    ``scope`` is the user, whose month stands beside it as it is after this event. The amounts
    are those of the whole hold: one that was extended says what it has now.
    """

    hold: Id
    amount_micro_usd: _Count
    amount_tokens: _Count = 0
    workspace: str = ""
    organisation: str = ""


class BudgetReleasedData(BudgetHoldData, frozen=True, kw_only=True):
    """Why it is free again, and what was charged for it if something was.

    ``late`` is a charge that came when nothing was set aside any more; ``overage_micro_usd``
    is what was charged beyond what had been.
    """

    reason: Literal["released", "expired", "committed"] = "released"
    charged_micro_usd: _Count = 0
    charged_tokens: _Count = 0
    overage_micro_usd: _Count = 0
    late: bool = False


class RateLimitExceededData(msgspec.Struct, frozen=True, kw_only=True):
    """A caller went over a policy; told once, when it changes from allowed to denied."""

    user: Id
    policy: str
    limit: _Count
    retry_after_ms: _Count


class UsageRecorded(Event, frozen=True, kw_only=True, tag="usage.recorded"):
    """Something was used."""

    data: UsageRecordedData


class UsageCorrected(Event, frozen=True, kw_only=True, tag="usage.corrected"):
    """What was counted is put right by a difference."""

    data: UsageCorrectedData


class BudgetThreshold(Event, frozen=True, kw_only=True, tag="budget.threshold"):
    """A share of the budget is gone."""

    data: BudgetThresholdData


class BudgetExceeded(Event, frozen=True, kw_only=True, tag="budget.exceeded"):
    """The budget is spent."""

    data: BudgetData


class BudgetReserved(Event, frozen=True, kw_only=True, tag="budget.reserved"):
    """An amount was set aside."""

    data: BudgetHoldData


class BudgetReleased(Event, frozen=True, kw_only=True, tag="budget.released"):
    """An amount that was set aside is free again."""

    data: BudgetReleasedData


class RateLimitExceeded(Event, frozen=True, kw_only=True, tag="ratelimit.exceeded"):
    """A caller went over a rate."""

    data: RateLimitExceededData
