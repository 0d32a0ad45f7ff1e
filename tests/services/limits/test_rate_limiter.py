"""Checks: what is allowed, what is left, who is told, and what a command it costs."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels.errors import BadRequest, RateLimited, SettingsError
from services.limits.policy import PlanLimit, Policy
from services.limits.rate_limiter import RateLimiter
from services.limits.teller import Teller

from ..test_session_commands import counted
from .support import exceeded, make, policy, take


async def test_gcra_allows_its_burst_and_then_its_rate(any_store):
    """Five at once, then one each two seconds."""
    limiter, hand = make(any_store, policy())
    assert await take(limiter, 8) == 5
    hand.move(1.999)
    assert await take(limiter, 2) == 0
    hand.move(0.001)
    assert await take(limiter, 2) == 1
    hand.move(100)
    assert await take(limiter, 8) == 5


async def test_a_sliding_window_never_allows_more_than_its_limit(any_store):
    """Whatever came when: in no window of ten seconds are there more than five."""
    limiter, hand = make(any_store, policy(algorithm="sliding"))
    taken = []
    for step in range(160):
        if await limiter.check_limit("ann", "p"):
            taken.append(hand.ms)
        hand.move(0.05 + 0.37 * (step % 3))
    for at in taken:
        assert sum(at <= other < at + 10_000 for other in taken) <= 5
    # It gives back late by a 20th of the window at most.
    assert len(taken) >= math.floor((hand.ms - taken[0]) / 10_500) * 5


async def test_what_one_policy_denies_takes_nothing_from_the_others(any_store):
    """Twenty tries take five of each, because the tighter one denies the rest."""
    wide = policy("wide", 100)
    limiter, _ = make(any_store, policy(), wide, policy("slow", 50, algorithm="sliding"))
    assert await take(limiter, 20, also=("wide", "slow")) == 5
    left = await limiter.get_remaining("ann", "p", also=("wide", "slow"))
    assert [state.remaining for state in left["policies"]] == [0, 95, 45]


async def test_the_result_says_where_each_policy_stands(any_store):
    """Limit, what is left, and when."""
    limiter, hand = make(any_store, policy())
    result = await limiter.check_limit("ann", "p", cost=3)
    (state,) = result.policies
    assert result
    assert (state.limit, state.remaining, state.reset_after_ms, state.next_after_ms) == (
        *(5, 2, 6000, 2000),
    )
    denied = await limiter.check_limit("ann", "p", cost=4)
    assert not denied
    assert denied.violated == ("p",)
    assert denied.retry_after_ms == 4000
    hand.move(4)
    assert await limiter.check_limit("ann", "p", cost=4)


async def test_what_costs_more_than_there_is_never_passes(any_store):
    """There is no time to come back at, and nobody is told of a limit that is not reached."""
    limiter, _ = make(any_store, policy(), policy("s", algorithm="sliding"))
    for name in ("p", "s"):
        result = await limiter.check_limit("ann", name, cost=6)
        assert not result
        assert result.retry_after_ms is None
        with pytest.raises(RateLimited) as told:
            await limiter.enforce_limit("ann", name, cost=6)
        assert "Retry-After" not in told.value.headers
    assert await exceeded(any_store) == 0
    assert await take(limiter, 6) == 5


async def test_looking_takes_nothing(any_store):
    """A look at an idle key writes nothing; one at a used key changes nothing."""
    limiter, _ = make(any_store, policy())
    left = await limiter.get_remaining("ann", "p")
    assert (left["limit"], left["remaining"], left["reset_in_seconds"]) == (5, 5, 0)
    assert await any_store.execute("DBSIZE") == 0
    await limiter.check_limit("ann", "p")
    before = await any_store.execute("GET", "fw:{ann}:rl:p")
    left = await limiter.get_remaining("ann", "p")
    assert (left["remaining"], left["reset_in_seconds"]) == (4, 2)
    assert await any_store.execute("GET", "fw:{ann}:rl:p") == before


async def test_keys_end_when_they_say_nothing_any_more(any_store):
    """Their TTL is what is owed."""
    limiter, _ = make(any_store, policy(), policy("s", algorithm="sliding"))
    await limiter.check_limit("ann", "p", also=("s",))
    assert 0 < await any_store.execute("PTTL", "fw:{ann}:rl:p") <= 2000
    assert 0 < await any_store.execute("PTTL", "fw:{ann}:rl:s") <= 10_500


async def test_an_unknown_policy_lists_those_there_are(any_store):
    """Nobody gets the limits of another policy by a spelling mistake."""
    limiter, _ = make(any_store, policy(), policy("q"))
    with pytest.raises(SettingsError, match="'dayly'; there are: p, q"):
        await limiter.check_limit("ann", "dayly")


@pytest.mark.parametrize("cost", [0, -1, 1.5, True])
async def test_a_cost_is_a_positive_number(any_store, cost):
    """A negative cost would give back what others took."""
    limiter, _ = make(any_store, policy())
    with pytest.raises(BadRequest):
        await limiter.check_limit("ann", "p", cost=cost)


async def test_tenants_cannot_reach_each_other(any_store):
    """Neither by separators in ids nor by those in endpoints."""
    limiter, _ = make(
        any_store, policy("e", 1, subject="endpoint"), policy("w", subject="workspace")
    )
    assert await take(limiter, 1, name="e", endpoint="a:b") == 1
    assert await take(limiter, 1, name="e", endpoint="a") == 1
    assert await take(limiter, 1, user="bob", name="e", endpoint="a:b") == 1
    for bad in ("ann:e", "a}b", "", "x" * 65):
        with pytest.raises(BadRequest):
            await limiter.check_limit(bad, "e")
    with pytest.raises(BadRequest, match="expected workspace="):
        await limiter.check_limit("ann", "w")


async def test_who_has_no_user_is_limited_by_address(any_store):
    """An IPv6 address counts as its /64, which is one customer's."""
    limiter, _ = make(any_store, policy("p", 1))
    assert await take(limiter, 2, user="", address="192.0.2.1") == 1
    assert await take(limiter, 1, user="", address="::ffff:192.0.2.1") == 0
    assert await take(limiter, 1, user="", address="2001:db8::1") == 1
    assert await take(limiter, 1, user="", address="2001:db8::2") == 0
    assert b"192.0.2.1" not in b"".join(await any_store.execute("KEYS", "*"))


async def test_plans_have_their_own_limits(any_store):
    """By name or by the resolver, which is asked once for callers who come together."""
    asked = []

    async def plan_of(user, workspace):
        asked.append(user)
        await asyncio.sleep(0)
        return {"ann": "pro"}.get(user, "")

    plans = {"pro": PlanLimit(limit=8), "unlimited": PlanLimit(limit=None)}
    limiter, _ = make(any_store, policy(plans=plans), plan_of=plan_of)
    found = await asyncio.gather(*(limiter.check_limit("ann", "p") for _ in range(10)))
    assert sum(map(bool, found)) == 8
    assert asked == ["ann"]
    assert await take(limiter, 10, user="bob") == 5
    assert await take(limiter, 30, user="bob", plan="unlimited") == 30
    limiter.forget_plan("ann")
    await limiter.check_limit("ann", "p")
    assert asked == ["ann", "bob", "ann"]


async def test_a_lower_plan_owes_no_more_than_all_of_it(any_store):
    """Who used a thousand on a large plan waits for one window of the small one."""
    limiter, hand = make(any_store, policy(plans={"pro": PlanLimit(limit=1000, burst=5000)}))
    await limiter.check_limit("ann", "p", cost=5000, plan="pro")
    assert not await limiter.check_limit("ann", "p")
    hand.move(2)
    assert await limiter.check_limit("ann", "p")


async def test_a_user_is_told_once_when_the_limit_is_reached(any_store):
    """Again only after something was left again; what is denied from memory tells nobody."""
    limiter, hand = make(any_store, policy())
    other, _ = make(any_store, policy(), hand=hand)
    await take(limiter, 9)
    await take(other, 3)
    assert await exceeded(any_store) == 1
    for _ in range(5):  # at the very edge: allowed, denied, allowed, ...
        hand.move(2)
        assert await take(limiter, 2) == 1
    assert await exceeded(any_store) == 1
    hand.move(10)
    await take(limiter, 9)
    assert await exceeded(any_store) == 2
    assert limiter.stats.told == 2


async def test_a_crash_between_denial_and_event_is_told_by_the_next_denial(any_store, monkeypatch):
    """Until it is told a denial is not remembered."""
    limiter, _ = make(any_store, policy())
    await take(limiter, 5)

    async def crash(*args, **options):
        return False

    with monkeypatch.context() as broken:
        broken.setattr(Teller, "tell", crash)
        assert await take(limiter, 2) == 0
    assert await exceeded(any_store) == 0
    await take(limiter, 1)
    assert await exceeded(any_store) == 1


async def test_a_hundred_denials_at_once_are_told_once(any_store):
    """The script that tells looks again."""
    limiters = [make(any_store, policy())[0] for _ in range(4)]
    found = await asyncio.gather(*(limiters[at % 4].check_limit("ann", "p") for at in range(100)))
    assert sum(map(bool, found)) == 5
    assert await exceeded(any_store) == 1


async def test_what_a_check_costs(tcp_store):
    """One script with one read, and a write for what was taken; nothing for a known denial."""
    limiter, _ = make(tcp_store, policy(), policy("q", algorithm="sliding"))
    await take(limiter, 1, user="bob", also=("q",))
    one = await counted(tcp_store, lambda: limiter.check_limit("ann", "p"))
    assert one == {"evalsha": 1, "mget": 1, "set": 1}
    both = await counted(tcp_store, lambda: limiter.check_limit("ann", "p", also=("q",)))
    assert both == {"evalsha": 1, "mget": 1, "set": 2}
    look = await counted(tcp_store, lambda: limiter.get_remaining("ann", "p"))
    assert look == {"evalsha": 1, "mget": 1}
    await take(limiter, 4)
    assert await counted(tcp_store, lambda: take(limiter, 50)) == {}
    fresh, _ = make(tcp_store, policy())
    assert await counted(tcp_store, lambda: fresh.check_limit("ann", "p")) == look


async def test_checks_of_one_turn_share_a_call(tcp_store):
    """Thirty checks of one key are one script with one write, decided one after the other."""
    limiter, _ = make(tcp_store, policy(limit=20))
    await take(limiter, 1, user="bob")

    async def thirty():
        found = await asyncio.gather(*(limiter.check_limit("ann", "p") for _ in range(30)))
        left = [result.remaining for result in found]
        assert left == [*range(19, -1, -1), *[0] * 10]

    found = await counted(tcp_store, thirty)
    assert (found["evalsha"], found["mget"], found["publish"]) == (2, 1, 1)
    assert found["set"] == 2  # what was taken, and that it was told


async def test_a_flushed_script_cache_is_survived(tcp_store):
    """The server is told the script again."""
    limiter, _ = make(tcp_store, policy())
    assert await take(limiter, 2) == 2
    await tcp_store.execute("SCRIPT", "FLUSH")
    assert await take(limiter, 4) == 3


async def test_reset_gives_everything_back(any_store):
    """Here at once; the memory of denials is forgotten too."""
    limiter, _ = make(any_store, policy())
    assert await take(limiter, 7) == 5
    await limiter.reset("ann", "p")
    assert await take(limiter, 7) == 5


async def test_a_policy_of_one_process_asks_nobody(tcp_store):
    """And is all or nothing together with shared ones."""
    limiter, _ = make(tcp_store, policy("own", 3, shared=False), policy())
    assert await counted(tcp_store, lambda: take(limiter, 9, name="own")) == {}
    assert limiter.stats.denied_by == {"own": 6}
    assert await take(limiter, 9, user="bob", name="p") == 5
    assert await take(limiter, 9, user="bob", name="own", also=("p",)) == 0
    assert await take(limiter, 3, user="bob", name="own") == 3


async def test_a_clock_that_ran_ahead_denies_for_one_window_at_most(any_store):
    """What a wrong clock wrote is no more than all of a limit."""
    wrong, hand = make(any_store, policy(), policy("s", algorithm="sliding"))
    right, true = make(any_store, policy(), policy("s", algorithm="sliding"))
    hand.move(3600)
    assert await take(wrong, 9) == 5
    assert await take(wrong, 9, name="s") == 5
    assert await take(right, 1) == 0
    assert await take(right, 1, name="s") == 0
    true.move(2)
    assert await take(right, 1) == 1


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(st.tuples(st.integers(0, 9_000), st.integers(1, 6)), min_size=1, max_size=25),
    limit=st.integers(1, 7),
    burst=st.integers(1, 9),
    seed=st.integers(0, 10**9),
)
async def test_gcra_does_as_its_definition(valkey, tcp_store, steps, limit, burst, seed):
    """Against a reference: allowed, what is left and when, after every step."""
    limiter, hand = make(tcp_store, policy(limit=limit, burst=burst), remembered=0)
    each = -(-10_000_000 // limit)
    full_at = 0
    for wait_ms, cost in steps:
        hand.move(wait_ms / 1000)
        now = limiter._clock.now_ms() * 1000
        full_at = max(full_at, now)
        fits = full_at + cost * each <= now + burst * each
        result = await limiter.check_limit(f"u{seed}", "p", cost=cost)
        assert bool(result) is fits
        if fits:
            full_at += cost * each
        (state,) = result.policies
        assert state.remaining == (now + burst * each - full_at) // each
        assert state.reset_after_ms == -(-(full_at - now) // 1000)
    await limiter.reset(f"u{seed}", "p")


def test_policies_that_make_no_sense_are_refused():
    """At their declaration, by name."""
    for options in (
        {"limit": 0},
        {"window_s": 0},
        {"limit": 10**9, "window_s": 1},
        {"algorithm": "sliding", "burst": 3},
        {"algorithm": "slots", "limit": 5000},
        {"algorithm": "slots", "shared": False},
        {"algorithm": "sliding", "shared": False},
        {"plans": {"x": PlanLimit(limit=0)}},
    ):
        with pytest.raises(SettingsError, match="'p'"):
            Policy(**{"name": "p", "limit": 5, **options})


async def test_two_policies_of_one_name_are_refused(any_store):
    """Neither would be sure to hold."""
    with pytest.raises(SettingsError, match="twice"):
        make(any_store, policy(), policy())
    assert isinstance(make(any_store, policy())[0], RateLimiter)


@pytest.mark.parametrize("algorithm", ["gcra", "sliding"])
@pytest.mark.parametrize("behind_ms", [20, 900])
async def test_clocks_a_little_apart_forgive_nothing(any_store, algorithm, behind_ms):
    """What one process took is not given back by the denials of one whose clock is behind."""
    limit = policy(limit=50, window_s=1, algorithm=algorithm)
    ahead, _ = make(any_store, limit, remembered=0)
    behind, hand = make(any_store, limit, remembered=0)
    hand.move(-behind_ms / 1000)
    assert await take(ahead, 60) == 50
    for _ in range(5):
        denied = await behind.check_limit("ann", "p")
        assert not denied
        assert denied.remaining == 0
        assert await take(ahead, 1) == 0


async def test_plans_back_and_forth_give_nothing_back(any_store):
    """A sliding window of another width counts by itself."""
    plans = {"pro": PlanLimit(limit=10, window_s=3600)}
    limiter, hand = make(any_store, policy(algorithm="sliding", plans=plans))
    allowed = 0
    for _ in range(4):
        allowed += await take(limiter, 12, plan="pro")
        assert await take(limiter, 6) == 5
        hand.move(11)
    assert allowed == 10
    await limiter.reset("ann", "p")
    assert await take(limiter, 12, plan="pro") == 10
    assert await any_store.execute("EXISTS", "fw:{ann}:rl:p~3600000000") == 1


async def test_a_plan_that_is_forgotten_while_it_is_asked_for_is_not_kept(tcp_store):
    """A check on its way is by the old plan, the next one by the new."""
    asked, answer, plan = asyncio.Event(), asyncio.Event(), "pro"

    async def plan_of(user, workspace):
        found = plan
        asked.set()
        await answer.wait()
        return found

    pro = {"pro": PlanLimit(limit=100)}
    limiter, _ = make(tcp_store, policy(plans=pro), plan_of=plan_of)
    early = asyncio.create_task(limiter.get_remaining("ann", "p"))
    await asked.wait()
    plan = ""
    limiter.forget_plan("ann")
    answer.set()
    assert (await early)["limit"] == 100
    assert (await limiter.get_remaining("ann", "p"))["limit"] == 5


async def test_a_plan_that_nobody_tells_is_none(tcp_store, monkeypatch):
    """A resolver that hangs does not stop everybody's checks."""
    monkeypatch.setattr("services.limits.plans._LONGEST_S", 0.01)

    async def plan_of(user, workspace):
        await asyncio.Event().wait()

    pro = {"pro": PlanLimit(limit=100)}
    limiter, _ = make(tcp_store, policy(plans=pro), plan_of=plan_of)
    assert (await limiter.get_remaining("ann", "p"))["limit"] == 5


async def test_a_reply_that_is_none_of_ours_leaves_nobody_waiting(tcp_store, monkeypatch):
    """It is a bug, which all who asked are told."""

    async def run(*_, **__):
        return []

    limiter, _ = make(tcp_store, policy())
    monkeypatch.setattr(type(tcp_store), "run", run)
    async with asyncio.timeout(10):
        with pytest.raises(IndexError):
            await limiter.check_limit("ann", "p")
