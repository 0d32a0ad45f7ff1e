"""What every script of the accounts keeps to: one slot, all or nothing, patches that add up."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from channels.errors import StoreRefused
from services.auth_sessions import AuthSessions
from services.documents import merge
from services.onboarding import Onboarding
from services.preferences import Preferences

from .accounts import HandClock, context_of, told


class Watched:
    """A store that notes which keys each script was given."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.keys: list[tuple[str, list[str]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def run(self, script: Any, keys: Any, args: Any, **options: Any) -> Any:
        """Note the keys, and run the script."""
        self.keys.append((script.name, list(keys)))
        return await self._store.run(script, keys, args, **options)


@pytest.fixture
def clock():
    """The time, moved by hand."""
    return HandClock()


@pytest.fixture
def context(store, keys, clock):
    """The ground, on a store that is watched."""
    return context_of(Watched(store), keys, clock)


async def use_all(context, clock) -> None:
    """Have every script run once at least."""
    sessions = AuthSessions(context)
    issued = await sessions.create("ann", limit=1)
    issued = await sessions.create("ann", limit=1)
    clock.forward(61)
    await sessions.verify(issued.token)
    await sessions.rotate(issued.token)
    await sessions.expire("ann", issued.session.id)
    await sessions.revoke_all("ann")
    await Preferences(context, "w1", shape=dict).patch({"a": {"b": 1}}, user="ann", op_id="o")
    onboarding = Onboarding(context, "w1")
    await onboarding.start("ann", expires_in_s=10)
    await onboarding.advance("a", op_id="p")
    await onboarding.reset()


async def test_the_keys_of_a_script_share_a_slot(context, clock):
    """On a Cluster it would be refused otherwise; and no tenant's key is another's."""
    await use_all(context, clock)
    names = {name for name, _ in context.store.keys}
    assert {name for name in names if name.partition("_")[0] in {"auth", "onboarding"}} == {
        "auth_create", "auth_touch", "auth_rotate", "auth_expire", "auth_revoke",
        "onboarding_start", "onboarding_change", "onboarding_end",
    }  # fmt: skip
    assert "preferences_patch" in names
    for name, keys in context.store.keys:
        tags = {re.fullmatch(r"fw:\{([^{}]+)\}:.*", key)[1] for key in keys}
        assert tags == {"ann"} if name.startswith("auth_") else {"w1"}, name


async def dump(store) -> dict[bytes, Any]:
    """Return everything there is, but for what the clock of the server changes."""
    return {
        key: await store.execute("DUMP", key)
        for key in await store.execute("KEYS", "*")
        if not key.endswith(b"{hub}:roots")
    }


async def test_a_change_that_cannot_be_told_does_not_happen(context, clock, store, keys):
    """The log is no log: every change is refused, and nothing at all was written."""
    sessions = AuthSessions(context)
    preferences = Preferences(context, "w1", shape=dict)
    onboarding = Onboarding(context, "w1")
    issued = await sessions.create("ann", idle_ttl_s=100)
    await preferences.patch({"a": 1})
    await onboarding.start("ann")
    for channel in ("auth:ann", "workspace:w1"):
        log = keys.log(context.catalogue.find(channel))
        await store.execute("SET", log, "no log")
    before = await dump(store)
    calls = (
        lambda: sessions.create("ann", limit=1),
        lambda: sessions.rotate(issued.token),
        lambda: sessions.revoke("ann", issued.session.id),
        lambda: sessions.revoke_all("ann"),
        lambda: preferences.patch({"a": 2, "b": None}, op_id="o"),
        lambda: onboarding.advance("b", patch={"x": 1}, op_id="p"),
        onboarding.complete,
        onboarding.reset,
    )
    for call in calls:
        with pytest.raises(StoreRefused):
            await call()
    clock.forward(101)
    with pytest.raises(StoreRefused):
        await sessions.expire("ann", issued.session.id)
    assert await dump(store) == before


def random_patch(chance: random.Random, depth: int = 0) -> dict[str, Any]:
    """Return a patch over few names, so that its parts meet those of others."""

    def value() -> Any:
        kind = chance.random()
        if kind < 0.4 and depth < 3:
            return random_patch(chance, depth + 1)
        return chance.choice([None, None, 1, "x", [1, {"a": None}], True, {}])

    return {name: value() for name in chance.sample("abcd", chance.randint(1, 3))}


@pytest.mark.parametrize("seed", range(5))
async def test_random_patches_add_up(context, seed):
    """What is stored is what RFC 7396 makes of all that was told, at every version."""
    chance = random.Random(seed)
    preferences = Preferences(context, "w1", shape=dict)
    expected: Any = {}
    for version in range(1, 81):
        patch = random_patch(chance)
        expected = merge(expected, patch)
        state = await preferences.patch(patch)
        assert (state.version, state.values) == (version, expected)
    seen: Any = {}
    for event in await told(context, "workspace:w1"):
        seen = merge(seen, event["data"]["patch"])
    assert seen == expected
