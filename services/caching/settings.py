"""How caches behave: the policy of a value, and the bounds that all share."""

from __future__ import annotations

from typing import Annotated, TypedDict

import msgspec
from msgspec import Meta

__all__ = ["CachePolicy", "CacheSettings", "LlmPolicy", "PolicyOptions"]

_Seconds = Annotated[float, Meta(ge=0)]


class CachePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a value is good, and what happens then.

    The three windows follow each other: a value is *fresh* for ``ttl_s``; for ``stale_s`` more
    it is returned at once while somebody loads it anew; for ``fail_safe_s`` more it is
    returned only if the load fails or takes longer than ``soft_timeout_s``. An invalidation
    ends all three.
    """

    ttl_s: Annotated[float, Meta(gt=0, le=30 * 86_400)] = 300.0
    stale_s: Annotated[float, Meta(ge=0, le=30 * 86_400)] = 0.0
    fail_safe_s: Annotated[float, Meta(ge=0, le=30 * 86_400)] = 0.0
    #: What there is not (None) is known for so long, and never longer than ``ttl_s``; 0: not.
    negative_ttl_s: _Seconds = 30.0
    #: A caller who could have an old value waits no longer than this; None: until the load ends.
    soft_timeout_s: _Seconds | None = None
    #: A load that takes longer is cancelled, and has failed.
    hard_timeout_s: Annotated[float, Meta(gt=0, le=600)] = 30.0
    #: Times of expiry are spread by so much, both ways, so that not all end at once.
    jitter: Annotated[float, Meta(ge=0, le=0.5)] = 0.1
    #: The part of its time after which a value that is read is loaded anew beforehand; 1: never.
    eager: Annotated[float, Meta(gt=0, le=1)] = 1.0
    #: Seconds a process keeps it in its own memory; None: what the settings say; 0: not.
    local_ttl_s: _Seconds | None = None


class PolicyOptions(TypedDict, total=False):
    """The fields of a policy, one by one, as calls take them."""

    ttl_s: float
    stale_s: float
    fail_safe_s: float
    negative_ttl_s: float
    soft_timeout_s: float | None
    hard_timeout_s: float
    jitter: float
    eager: float
    local_ttl_s: float | None


class LlmPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which answers of language models are kept, and how long."""

    ttl_s: Annotated[float, Meta(gt=0, le=30 * 86_400)] = 86_400.0
    #: Above it answers are meant to differ. A request that names none is cached.
    max_temperature: Annotated[float, Meta(ge=0)] = 0.3
    keep_tool_calls: bool = False
    #: A call that takes longer is cancelled, and has failed.
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 300.0


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all caches of a process share."""

    #: What holds where a call says nothing else.
    policy: CachePolicy = CachePolicy()
    llm: LlmPolicy = LlmPolicy()
    #: Longest a process answers from its own memory without asking: the bound on how long an
    #: invalidation that was lost on the way goes unnoticed. 0 switches it off.
    local_ttl_s: _Seconds = 10.0
    #: The same where the store has no subscriptions, so that nobody tells of invalidations.
    unwatched_local_ttl_s: _Seconds = 0.0
    local_entries: Annotated[int, Meta(ge=0)] = 10_000
    local_bytes: Annotated[int, Meta(ge=0)] = 64 * 1024 * 1024
    #: A larger value is returned and not kept.
    max_value_bytes: Annotated[int, Meta(ge=1, le=64 * 1024 * 1024)] = 1024 * 1024
    #: What a process that dies while it loads costs the others at most; renewed while it lives.
    lease_s: Annotated[float, Meta(ge=0.1, le=60)] = 5.0
    #: Deadline of one call to Redis.
    timeout_s: Annotated[float, Meta(gt=0)] = 0.5
    #: Calls in a row that fail before Redis is left alone, and for how long.
    breaker_failures: Annotated[int, Meta(ge=1)] = 3
    breaker_s: Annotated[float, Meta(gt=0)] = 1.0
    #: How long a load that failed is not tried again.
    failure_s: _Seconds = 1.0
    #: Without Redis: how old a value in memory may be, and how often it is loaded meanwhile.
    outage_age_s: _Seconds = 300.0
    outage_refresh_s: _Seconds = 5.0
    #: A workspace whose cache nobody uses for so long is not followed any more.
    idle_s: Annotated[float, Meta(gt=0)] = 60.0
