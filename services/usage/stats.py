"""What the counting of usage counts about itself."""

from __future__ import annotations

import msgspec

__all__ = ["UsageStats"]


class UsageStats(msgspec.Struct):
    """Counters since start, of this process.

    ``recorded`` and ``duplicates`` are events that were counted, and that had been before;
    ``seeds`` accounts that were begun from the database, ``provisional`` those of them that
    had to begin without it; ``written`` events that came into the database, ``batches`` the
    transactions it took, ``write_failures`` those that failed, ``dead`` entries set aside;
    ``settled_late`` amounts that came into a lost account from the database; ``corrected``
    days that reconciliation put right; ``untold`` thresholds that could not be told yet.
    ``pending_age_s`` is how old the oldest entry of the last batch was.
    """

    recorded: int = 0
    duplicates: int = 0
    seeds: int = 0
    provisional: int = 0
    written: int = 0
    batches: int = 0
    write_failures: int = 0
    dead: int = 0
    settled_late: int = 0
    corrected: int = 0
    untold: int = 0
    pending_age_s: float = 0.0
