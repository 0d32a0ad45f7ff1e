"""Whether Redis is fit for work: it answers, it takes writes, and keeps what it was given.

    health = await verify_redis_connection(store)

At the start of a process it tells what is wrong instead of stopping it: a hub that waits for
its Redis comes up with it, one that died of it has to be started again.
"""

from __future__ import annotations

import time

import msgspec

from channels.errors import StoreError, StoreRefused
from channels.ids import new_id
from services.store.inspection import Finding, read_info, weaknesses
from services.store.keys import Keys
from services.store.port import Store

__all__ = ["RedisHealth", "verify_redis_connection"]

#: Milliseconds a check's key lives, should nobody else remove it.
_KEPT_MS = 10_000


class RedisHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How Redis is. ``ok`` means that it answered and took a write."""

    ok: bool
    #: Milliseconds of one round trip; None where none was made.
    latency_ms: float | None = None
    #: Such as ``Valkey 9.1.2``; empty where the server does not tell.
    server: str = ""
    #: Why it is not ok, in a sentence.
    trouble: str = ""
    #: Under which settings of the server a promise of ours does not hold; it works all the same.
    findings: list[Finding] = []


async def verify_redis_connection(
    store: Store, keys: Keys | None = None, *, timeout_s: float | None = None
) -> RedisHealth:
    """Write, read back, and ask the server how it is set up; never raises ``StoreError``.

    Three commands in two round trips. A server whose access list forbids the write is not
    called ill: it may allow all that is needed.
    """
    key, written = (keys or Keys()).check(new_id()), new_id()
    began = time.perf_counter()
    try:
        set_, got = await store.pipeline(
            [("SET", key, written, "PX", _KEPT_MS), ("GET", key)], timeout_s=timeout_s
        )
        latency_ms = round((time.perf_counter() - began) * 1000, 3)
        told = await read_info(store)
    except StoreError as error:
        return RedisHealth(ok=False, trouble=error.message)
    trouble = ""
    forbidden = any(isinstance(one, StoreRefused) and one.prefix == "NOPERM" for one in (set_, got))
    if forbidden:
        pass
    elif isinstance(set_, Exception):
        trouble = f"Redis takes no writes: {set_}"
    elif got != written.encode():
        trouble = f"Redis does not give back what was written: expected {written!r}, got {got!r}"
    return RedisHealth(
        ok=not trouble,
        latency_ms=latency_ms,
        server=_name(told),
        trouble=trouble,
        findings=weaknesses(told),
    )


def _name(told: dict[str, str]) -> str:
    if version := told.get("valkey_version"):
        return f"Valkey {version}"
    if version := told.get("redis_version"):
        return f"Redis {version}"
    return ""
