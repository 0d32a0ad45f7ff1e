"""What the tests of rate limits share."""

from __future__ import annotations

from channels.catalogue import Catalogue
from services.clock import Clock
from services.context import Context
from services.limits.policy import Policy
from services.limits.rate_limiter import RateLimiter
from services.store.keys import Keys

from ..session_support import Hand

#: Patient: what is measured here is not how busy this machine is.
PATIENT_MS = 20_000


def policy(name="p", limit=5, window_s=10, **options):
    """Return a policy of users with a long deadline."""
    options.setdefault("deadline_ms", PATIENT_MS)
    return Policy(name=name, limit=limit, window_s=window_s, **options)


def make(store, *policies, hand=None, **options):
    """Return a limiter by a clock that stands still, and the hand that moves it."""
    hand = hand or Hand()
    context = Context(store, Keys("fw"), Catalogue(), clock=Clock(store, now=hand))
    return RateLimiter(context, policies=policies, **options), hand


async def take(limiter, times, user="ann", name="p", **options):
    """Check several times, one after the other; return how often it was allowed."""
    return sum([bool(await limiter.check_limit(user, name, **options)) for _ in range(times)])


async def exceeded(store):
    """Return how many events stand in ann's log."""
    return await store.execute("XLEN", "fw:{ann}:log:usage:ann")
