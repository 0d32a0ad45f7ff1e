"""Every change of every service may be repeated after an unknown outcome: it is made once.

A lost answer is of three kinds: the script ran, it never arrived, or it arrives when the next
attempt is over. The caller knows none of them from another, and repeats the call as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec
import pytest

from channels.catalogue import Catalogue
from channels.errors import NotFound, OutcomeUnknown
from services import approvals, auth_sessions, onboarding, session_manager
from services.approvals import Approvals
from services.auth_session import Issued
from services.auth_sessions import AuthSessions
from services.clock import Clock
from services.context import Context
from services.gate import Gate
from services.onboarding import Onboarding
from services.preferences import Preferences
from services.session_manager import SessionManager
from services.store.keys import Keys
from services.store.port import Reply, Store

from .accounts import HandClock

CHANNELS = ("session:w1:s1", "approvals:w1", "auth:ann", "workspace:w1")


class Unheard:
    """A store that loses the answer to one script of some name."""

    def __init__(self, store: Store, kind: str) -> None:
        self._store = store
        self._kind = kind
        self.next = ""
        self.late: Callable[[], Awaitable[Reply]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def run(self, script: Any, keys: Any, args: Any, **options: Any) -> Reply:
        """Run the script; or say that nobody knows whether it ran."""
        if self.next not in script.name:
            return await self._store.run(script, keys, args, **options)
        self.next = "nothing more"
        if self._kind == "ran":
            await self._store.run(script, keys, args, **options)
        elif self._kind == "late":
            self.late = lambda: self._store.run(script, keys, args)
        raise OutcomeUnknown("no answer")


class World:
    """All services on one store, at one time."""

    def __init__(self, store: Store, keys: Keys, clock: HandClock) -> None:
        self.clock = clock
        self.context = Context(store, keys, Catalogue(), clock=Clock(store, now=clock))
        for service in (session_manager, approvals, auth_sessions, onboarding):
            service.install(self.context)
        self.sessions = SessionManager(self.context, "w1")
        self.approvals = Approvals(self.context, "w1")
        self.logins = AuthSessions(self.context)
        self.onboarding = Onboarding(self.context, "w1")
        self.preferences = Preferences(self.context, "w1", shape=dict)
        self.tokens: list[str] = []
        self.digest = ""

    async def begin(self) -> None:
        """Make one of everything."""
        await self.sessions.create_session("s1", "ann", idle_ttl_s=60)
        gate = await self.approvals.request("pay", {}, gate_id="g1", expires_in_s=60)
        self.digest = gate.digest
        await self.approvals.request("pay", {}, gate_id="g2", quorum=2)
        await self.approvals.request("pay", {}, gate_id="g3")
        await self.approvals.decide("g3", "approve", actor="ann", decision_id="d3")
        for _ in range(2):
            self.tokens.append((await self.logins.create("ann", idle_ttl_s=60)).token)
        await self.onboarding.start("ann", expires_in_s=60)
        await self.preferences.patch({"theme": "dark"}, user="ann")

    async def told(self) -> list[str]:
        """Return the types of all events."""
        types = []
        for name in CHANNELS:
            page = await self.context.log.read(self.context.catalogue.find(name), limit=500)
            types += [msgspec.json.decode(one.object)["data"]["type"] for one in page.publications]
        return types

    async def state(self) -> list[Any]:
        """Return all there is, but for what is random."""
        gates = [await self.approvals.get(gate) for gate in ("g1", "g2", "g3")]
        with contextlib.suppress(NotFound):
            gates.append(await self.approvals.get("new"))
        return [
            [msgspec.structs.replace(gate, consumed_by=gate.consumed_by[:5]) for gate in gates],
            await self.sessions.get_session("s1"),
            await self.sessions.get_session("new"),
            sorted(
                repr(msgspec.structs.replace(one, id=""))
                for one in await self.logins.list_sessions("ann")
            ),
            await self.onboarding.get(),
            await self.preferences.get(user="ann"),
            len((await self.approvals.audit()).items),
        ]


Call: TypeAlias = Callable[[World], Awaitable[object]]


async def end_all(world: World) -> None:
    """Let everything end by itself; a look that failed is repeated when its claim is over."""
    world.clock.forward(61)
    try:
        await world.context.sweeper.sweep()
    finally:
        world.clock.forward(10)


CHANGES: dict[str, tuple[str, Call]] = {
    "begin a session": (
        "session_create",
        lambda w: w.sessions.create_session("new", "ann", fields={"current_agent": "a"}),
    ),
    "update a session": (
        "session_update",
        lambda w: w.sessions.update_session("s1", current_agent="b", op_id="o1"),
    ),
    "update it at a version": (
        "session_update",
        lambda w: w.sessions.update_session(
            "s1", current_agent="b", op_id="o1", expected_version=1
        ),
    ),
    "add a message": (
        "session_add_message",
        lambda w: w.sessions.add_message("s1", "user", "x", message_id="m1"),
    ),
    "extend a session": ("session_extend", lambda w: w.sessions.extend_session("s1", 5, op_id="o")),
    "delete a session": ("session_delete", lambda w: w.sessions.delete_session("s1")),
    "ask": ("approval_request", lambda w: w.approvals.request("pay", {"a": 1}, gate_id="new")),
    "approve": (
        "approval_change",
        lambda w: w.approvals.decide("g1", "approve", actor="bob", decision_id="d"),
    ),
    "edit": (
        "approval_change",
        lambda w: w.approvals.decide("g1", "edit", actor="b", decision_id="d", payload={"a": 2}),
    ),
    "reject": (
        "approval_change",
        lambda w: w.approvals.decide(
            "g1", "reject", actor="bob", decision_id="d", expected_version=1
        ),
    ),
    "vote": (
        "approval_change",
        lambda w: w.approvals.decide("g2", "approve", actor="bob", decision_id="d"),
    ),
    "take back": ("approval_change", lambda w: w.approvals.cancel("g1", actor="b", op_id="o")),
    "use": (
        "approval_change",
        lambda w: w.approvals.consume("g3", run="r", args_sha256=w.digest),
    ),
    "use without a run": (
        "approval_change",
        lambda w: w.approvals.consume("g3", args_sha256=w.digest),
    ),
    "log in": ("auth_create", lambda w: w.logins.create("ann", limit=2)),
    "rotate": ("auth_rotate", lambda w: w.logins.rotate(w.tokens[0], scopes=["a"])),
    "log out": (
        "auth_revoke",
        lambda w: w.logins.revoke("ann", w.tokens[0].partition("~")[2].partition(".")[0]),
    ),
    "log out everywhere": ("auth_revoke", lambda w: w.logins.revoke_all("ann")),
    "begin an onboarding": ("onboarding_start", lambda w: w.onboarding.start("ann")),
    "go on": (
        "onboarding_change",
        lambda w: w.onboarding.advance("b", patch={"a": {"b": 1}}, op_id="o"),
    ),
    "answer": ("onboarding_change", lambda w: w.onboarding.update({"a": 1}, op_id="o")),
    "complete": (
        "onboarding_change",
        lambda w: w.onboarding.complete(op_id="o", expected_version=1),
    ),
    "begin anew": ("onboarding_end", lambda w: w.onboarding.reset()),
    "prefer": (
        "preferences_patch",
        lambda w: w.preferences.patch({"mail": {"daily": 1}}, user="ann", op_id="o"),
    ),
    "prefer at a version": (
        "preferences_patch",
        lambda w: w.preferences.patch({"b": 1}, user="ann", op_id="o", expected_version=1),
    ),
    "prefer nothing": ("preferences_patch", lambda w: w.preferences.reset(user="ann")),
    "end a session": ("session_expire", end_all),
    "end a gate": ("approval_change", end_all),
    "end a login": ("auth_expire", end_all),
    "end an onboarding": ("onboarding_end", end_all),
}
#: Whether there was one, nobody can say who did not hear the first answer.
_SAYS_WHETHER = {"log out everywhere", "begin anew"}


async def persist(world: World, call: Call) -> object:
    """Do what every caller does: the same again, until it is known."""
    for _ in range(5):
        try:
            return await call(world)
        except OutcomeUnknown:
            continue
    raise AssertionError("it is never known")


def comparable(result: object) -> object:
    """Return a result without what is random in it."""
    if isinstance(result, Gate):
        return msgspec.structs.replace(result, consumed_by=result.consumed_by[:5])
    if isinstance(result, list):
        return len(result)
    return None if isinstance(result, Issued) else result


@pytest.mark.parametrize("kind", ["ran", "lost", "late"])
@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_is_made_once(tcp_store: Store, keys: Keys, name: str, kind: str) -> None:
    """State, events and what the caller is told are as if the first answer had come."""
    script, call = CHANGES[name]
    plain = World(tcp_store, keys, HandClock())
    await plain.begin()
    result, told = await call(plain), await plain.told()
    if call is end_all:
        await end_all(plain)
    state = await plain.state()

    await tcp_store.execute("FLUSHALL")
    unheard = Unheard(tcp_store, kind)
    unheard.next = "nothing yet"
    world = World(unheard, keys, HandClock())  # type: ignore[arg-type]  # all the rest is a store's
    await world.begin()
    unheard.next = script
    again = await persist(world, call)
    if unheard.late is not None:
        await unheard.late()
    if call is end_all:
        await end_all(world)
        world.clock.at_s = plain.clock.at_s
        assert sorted(await world.told()) == sorted(told)
        return
    assert await world.told() == told
    assert await world.state() == state
    if name not in _SAYS_WHETHER or kind != "ran":
        assert comparable(again) == comparable(result)
