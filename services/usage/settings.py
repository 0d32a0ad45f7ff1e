"""What can be set about the counting of usage."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from channels.errors import SettingsError

__all__ = ["UsageSettings"]


class UsageSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How usage is counted and kept.

    ``time_zone`` is the billing time zone: where days and months begin. ``lag_s`` is how long
    usage waits for the database at least, so that one transaction takes much of it;
    ``thresholds`` are the percentages of a limit that are told; ``names`` how many agents,
    models and workspaces a user's account shows a day, each, before they are "other";
    ``database_patience_s`` how long somebody who records waits for a database that does not
    answer, before it is counted without.
    """

    time_zone: str = "UTC"
    lag_s: float = 2.0
    thresholds: tuple[int, ...] = (50, 80, 100)
    names: int = 64
    database_patience_s: float = 2.0

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise SettingsError(
                f"time_zone must be a name of the time zone database; got {self.time_zone!r}"
            ) from None
        if not 0.05 <= self.lag_s <= 3_600:
            raise SettingsError(f"lag_s must be 0.05 to 3600; got {self.lag_s!r}")
        if not all(1 <= percent <= 1_000 for percent in self.thresholds):
            raise SettingsError(f"thresholds must be 1 to 1000; got {self.thresholds!r}")
        if not 1 <= self.names <= 1_000:
            raise SettingsError(f"names must be 1 to 1000; got {self.names!r}")
        if not 0 < self.database_patience_s <= 60:
            raise SettingsError(
                f"database_patience_s must be up to 60; got {self.database_patience_s!r}"
            )

    @property
    def zone(self) -> ZoneInfo:
        """The billing time zone."""
        return ZoneInfo(self.time_zone)
