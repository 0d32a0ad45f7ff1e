"""What a script that counts usage is given: ``lib/usage.lua`` says what it does with it.

    charge = await counting.charge(entry)
    outcome = await changes.run(script, charge.channel, charge.keys, [body, *charge.terms])

``usage_record.lua`` counts; a script that also settles a reservation includes the same library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from channels.catalogue import USAGE, Channel
from channels.scope import Scope
from services.context import Context
from services.store.port import Argument
from services.sweeper import Sweeper
from services.usage.entry import UsageEntry, encode_entry
from services.usage.seeding import ACCOUNT_TTL_MS, Seeder
from services.usage.settings import UsageSettings

__all__ = ["FAMILY", "OP_TTL_MS", "Charge", "Counting"]

#: What waits for the database, among what is due under a user's root.
FAMILY: Final = "usage"
#: How long an event is known in Redis; from then on the database knows it.
OP_TTL_MS: Final = 2 * 86_400_000
#: A round trip to a billed store costs money: there the writer comes more rarely.
_BILLED_LAG_S = 30.0
#: A root is registered for a moment this long after which it is registered again, at the
#: latest: a script that is sent by then has run when the root is looked at a second time.
_MARGIN_MS = 500
_MOST_ROOTS = 10_000
_MOST_ROUTES = 4_096


class Charge(NamedTuple):
    """Keys and terms of one event for ``lib/usage.lua``, and the channel that is told."""

    channel: Channel
    scopes: tuple[Scope, ...]
    month: str
    keys: list[str]
    terms: list[Argument]

    def scopes_at(self, places: Sequence[int]) -> list[Scope]:
        """Return the scopes of the accounts at ``places``, as scripts number them."""
        return [self.scopes[place - 1] for place in places]


class _Route(NamedTuple):
    """What the events of a user in a workspace have in common for a day."""

    channel: Channel
    scopes: tuple[Scope, ...]
    month: str
    day: str
    keys: list[str]
    fields: list[str]
    member: str


class Counting:
    """Makes charges, and has the writer look where entries will wait."""

    __slots__ = (
        "_context",
        "_lag_ms",
        "_registered",
        "_routes",
        "_settings",
        "_thresholds",
        "seeder",
    )

    def __init__(self, context: Context, settings: UsageSettings, seeder: Seeder) -> None:
        self._context = context
        self._settings = settings
        lag_s = max(settings.lag_s, _BILLED_LAG_S if context.store.traits.billed else 0.0)
        self._lag_ms = int(lag_s * 1000)
        self._thresholds = " ".join(map(str, sorted(settings.thresholds, reverse=True)))
        #: Roots, and when they will be looked at.
        self._registered: dict[str, int] = {}
        self._routes: dict[tuple[str, str, str | None, str], _Route] = {}
        self.seeder = seeder

    async def charge(self, entry: UsageEntry) -> Charge:
        """Return what counts ``entry``; run it at once.

        Raises:
            StoreError: the writer could not be told; nothing was counted.
        """
        place = (entry.user, entry.workspace, entry.organisation, entry.day)
        route = self._routes.get(place)
        if route is None:
            route = self._route(entry)
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            self._routes[place] = route
        due_ms, waiting = 0, b""
        if self._context.database is not None:
            due_ms, waiting = await self._register(entry.user), encode_entry(entry)
        day, agent, model = route.day, entry.agent, entry.model
        # Not part of the route: the rules may be replaced at any time.
        limits: list[Argument] = []
        for scope in route.scopes:
            month, daily = self._context.thresholds.limits(scope)
            limits += ("" if month is None else month, "" if daily is None else daily)
        return Charge(
            route.channel,
            route.scopes,
            route.month,
            [self._context.keys.usage_op(entry.user, entry.id), *route.keys],
            [
                *(len(route.scopes), day, "" if entry.kind == "usage" else entry.kind),
                *(entry.cost_micro_usd, entry.tokens_input, entry.tokens_output, entry.requests),
                *(agent, model, entry.workspace),
                *(self._settings.names, self._thresholds, ACCOUNT_TTL_MS, OP_TTL_MS),
                *(waiting, route.member, due_ms),
                *route.fields,
                *(f"{day}:a:{agent}", f"{day}:a", f"{day}:m:{model}", f"{day}:m"),
                *(f"{day}:w:{entry.workspace}", f"{day}:w"),
                *limits,
            ],
        )

    def _route(self, entry: UsageEntry) -> _Route:
        keys, scopes, day = self._context.keys, entry.scopes(), entry.day[-2:]
        return _Route(
            self._context.catalogue.find(USAGE.name(user=entry.user)),
            scopes,
            entry.month,
            day,
            [
                keys.usage_pending(entry.user),
                keys.due(entry.user),
                *[keys.account(scope, entry.month) for scope in scopes],
            ],
            [
                *("seeded", "L", "D", "T", f"{day}:T", "c"),
                *(f"{day}:c", f"{day}:i", f"{day}:o", f"{day}:n", f"{day}:p"),
            ],
            Sweeper.member(FAMILY, entry.user),
        )

    async def seed(self, charge: Charge, places: Sequence[int]) -> None:
        """Begin the accounts that the script found missing; then run it again.

        Raises:
            StoreError: they may still be missing.
        """
        for scope in charge.scopes_at(places):
            await self.seeder.seed(scope, charge.month)

    async def _register(self, root: str) -> int:
        """Have the root looked at; return when. Mostly it was registered a moment ago."""
        now_ms = self._context.clock.now_ms()
        at_ms = self._registered.get(root, 0)
        if now_ms + min(_MARGIN_MS, self._lag_ms // 2) < at_ms <= now_ms + self._lag_ms:
            return at_ms
        at_ms = now_ms + self._lag_ms
        await self._context.sweeper.register(root, at_ms)
        if len(self._registered) >= _MOST_ROOTS:
            self._registered = {root: at for root, at in self._registered.items() if at > now_ms}
            if len(self._registered) >= _MOST_ROOTS:
                self._registered.clear()
        self._registered[root] = at_ms
        return at_ms
