"""What budgets did since the process started, for metrics."""

from __future__ import annotations

import msgspec

__all__ = ["BudgetStats"]


class BudgetStats(msgspec.Struct):
    """Counters since start.

    ``late`` and ``overage`` are commits that came after the end of their hold, or charged more
    than was set aside; both are ``committed`` too. ``told`` are thresholds.
    """

    reserved: int = 0
    extended: int = 0
    committed: int = 0
    late: int = 0
    overage: int = 0
    released: int = 0
    expired: int = 0
    told: int = 0
    seeded: int = 0
    denied_user: int = 0
    denied_workspace: int = 0
    denied_org: int = 0
