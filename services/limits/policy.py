"""Policies: how much of something who may have in which time, declared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from channels.errors import SettingsError
from channels.ids import Id, check_id

__all__ = [
    "DEFAULT_POLICIES",
    "Algorithm",
    "Fail",
    "PlanLimit",
    "Policies",
    "Policy",
    "Subject",
]

Algorithm: TypeAlias = Literal["gcra", "sliding", "slots"]
Subject: TypeAlias = Literal["user", "endpoint", "agent", "workspace", "address", "global"]
Fail: TypeAlias = Literal["open", "closed"]

#: More than this in a second, and whole microseconds would be too coarse: 10 % off.
MAX_RATE = 100_000
#: Each acquisition reads who holds the others.
MAX_SLOTS = 1_000
#: 366 days: microseconds of it, and of a limit's debt, stay far below 2^53.
MAX_WINDOW_S = 366 * 86_400

_Limit = Annotated[int, Meta(ge=1, le=1_000_000_000)]
_Window = Annotated[float, Meta(ge=0.001, le=MAX_WINDOW_S)]


class PlanLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is different on a plan. ``limit`` None is no limit at all."""

    limit: _Limit | None
    window_s: _Window | None = None
    burst: _Limit | None = None


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One limit: ``limit`` units in ``window_s``, for each ``subject``.

    ``gcra`` gives units back one by one, evenly, up to ``burst`` (``limit`` unless set): who was
    away has ``burst`` at once and then the rate, so at most ``burst + limit`` in any window.
    ``sliding`` never allows more than ``limit`` in any window, whatever came before; it counts in
    20 buckets, so that a unit comes back up to a 20th of the window late. ``slots`` are ``limit``
    at the same time, each held for ``window_s`` unless renewed or released (``RateLimiter.slot``).

    ``subject``: ``user``; ``endpoint``, a user's calls of one endpoint; ``agent``, a user's calls
    of one agent; ``workspace``; ``address``, a network address (an IPv6 one by its /64);
    ``global``, everybody together. A caller without a user is limited by its address instead.

    ``fail`` says what an outage means: ``open`` allows (guarded by the process alone), ``closed``
    denies. It is known after ``deadline_ms`` (100 unless set; 1,000 over REST). With ``shared``
    off, which only ``gcra`` can, each process counts by itself, and Redis is never asked.
    """

    name: Id
    limit: _Limit
    window_s: _Window = 60
    algorithm: Algorithm = "gcra"
    burst: _Limit | None = None
    subject: Subject = "user"
    fail: Fail = "open"
    deadline_ms: Annotated[int, Meta(ge=1, le=60_000)] | None = None
    shared: bool = True
    plans: dict[str, PlanLimit] = {}

    def __post_init__(self) -> None:
        """Check what a field cannot say alone; raises ``SettingsError``."""
        check_id(self.name, "a policy's name")
        self._check(self.limit, self.window_s, self.burst, "")
        for plan, other in self.plans.items():
            if other.limit is not None:
                window_s = other.window_s or self.window_s
                self._check(other.limit, window_s, other.burst, f" on plan {plan[:80]!r}")
        if self.algorithm != "gcra" and not self.shared:
            # A process counts evenly: twice the limit in some window.
            raise SettingsError(f"policy {self.name!r}: {self.algorithm} is always shared")

    def _check(self, limit: int, window_s: float, burst: int | None, where: str) -> None:
        name = f"policy {self.name!r}{where}"
        if limit < 1 or not 0.001 <= window_s <= MAX_WINDOW_S or (burst or 1) < 1:
            raise SettingsError(
                f"{name}: expected a limit and a burst of at least 1 and a window of 1 ms to "
                f"366 days; got {limit} in {window_s:g} s"
            )
        if self.algorithm == "slots":
            if limit > MAX_SLOTS:
                raise SettingsError(f"{name}: at most {MAX_SLOTS} slots; got {limit}")
        elif limit / window_s > MAX_RATE or (burst or 1) * window_s / limit > MAX_WINDOW_S:
            raise SettingsError(
                f"{name}: at most {MAX_RATE} units a second, and a burst that is back within 366 "
                f"days; got {limit} in {window_s:g} s"
            )
        if burst is not None and self.algorithm != "gcra":
            raise SettingsError(f"{name}: only gcra has a burst; got {self.algorithm}")


#: Those of the application that Fanwire began from, and one for a workspace and for an address.
DEFAULT_POLICIES: tuple[Policy, ...] = (
    Policy(name="api", limit=100, window_s=60, subject="endpoint"),
    Policy(name="agent", limit=20, window_s=60),
    Policy(name="daily", limit=1_000, window_s=86_400, algorithm="sliding"),
    Policy(name="workspace", limit=3_000, window_s=60, subject="workspace"),
    Policy(name="address", limit=600, window_s=60, subject="address"),
)


class Policies:
    """The policies of one application, by name."""

    __slots__ = ("_by_name",)

    def __init__(self, policies: Iterable[Policy] = DEFAULT_POLICIES) -> None:
        """Collect them.

        Raises:
            SettingsError: two have one name.
        """
        self._by_name: dict[str, Policy] = {}
        for policy in policies:
            if policy.name in self._by_name:
                raise SettingsError(f"policy {policy.name!r} is declared twice")
            self._by_name[policy.name] = policy

    def __iter__(self) -> Iterator[Policy]:
        """Yield the policies as they were declared."""
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> Policy:
        """Return the policy called ``name``.

        Raises:
            SettingsError: there is none; the message lists those there are.
        """
        policy = self._by_name.get(name)
        if policy is None:
            known = ", ".join(sorted(self._by_name)) or "none"
            raise SettingsError(f"there is no rate limit policy {name[:80]!r}; there are: {known}")
        return policy

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called, as declared."""
        return tuple(self._by_name)
