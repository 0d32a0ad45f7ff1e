"""Results as HTTP fields: ``RateLimit-Policy`` and ``RateLimit`` (httpapi-ratelimit-headers-10).

Structured fields (RFC 9651): lists of strings with parameters. ``q`` and ``w`` are what there is
in how many seconds, ``r`` what is left, ``t`` the seconds until any more is there; it is absent
when there is nothing to wait for. Seconds are rounded up.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence

from services.limits.result import LimitResult
from services.limits.rule import PolicyState

__all__ = ["legacy_fields", "limit_fields", "policy_field", "state_field"]

#: The largest integer of a structured field.
_MOST = 999_999_999_999_999


def limit_fields(
    result: LimitResult, *, legacy: bool = False, partition: bytes | None = None
) -> dict[str, str]:
    """Return the fields that tell ``result``; none where no policy applies.

    ``partition`` is told as ``pk``: what identifies the caller's share, if it may be told.
    """
    states = result.policies
    if not states:
        return {}
    fields = {
        "RateLimit-Policy": policy_field(states, partition),
        "RateLimit": state_field(states, partition),
    }
    if legacy:
        fields |= legacy_fields(result)
    return fields


def policy_field(states: Sequence[PolicyState], partition: bytes | None = None) -> str:
    """Return ``RateLimit-Policy``: what each policy allows."""
    return ", ".join(
        f"{_text(state.name)};q={_int(state.limit)};w={_int(math.ceil(state.window_s))}"
        f"{_key(partition)}"
        for state in states
    )


def state_field(states: Sequence[PolicyState], partition: bytes | None = None) -> str:
    """Return ``RateLimit``: where each policy stands."""
    return ", ".join(
        f"{_text(state.name)};r={_int(state.remaining)}{_wait(state)}{_key(partition)}"
        for state in states
    )


def legacy_fields(result: LimitResult) -> dict[str, str]:
    """Return ``X-RateLimit-*`` of the tightest policy; ``Reset`` is in seconds from now."""
    tightest = result.tightest
    if tightest is None:
        return {}
    return {
        "X-RateLimit-Limit": str(tightest.limit),
        "X-RateLimit-Remaining": str(tightest.remaining),
        "X-RateLimit-Reset": str(tightest.reset_in_seconds),
    }


def _wait(state: PolicyState) -> str:
    return f";t={_int(-(-state.next_after_ms // 1000))}" if state.next_after_ms else ""


def _text(name: str) -> str:
    """Return a String; names are ids, so nothing in them needs an escape."""
    return f'"{name}"'


def _int(number: int) -> int:
    return min(number, _MOST)


def _key(partition: bytes | None) -> str:
    if partition is None:
        return ""
    return f";pk=:{base64.b64encode(partition).decode()}:"
