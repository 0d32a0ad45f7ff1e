"""Denials as errors."""

from __future__ import annotations

from channels.errors import RateLimited
from services.limits.fields import limit_fields
from services.limits.result import LimitResult

__all__ = ["ReducedCapacity", "refusal"]


class ReducedCapacity(RateLimited):
    """A policy that is closed in an outage denied it: whether it is over a limit is not known."""

    http_status = 503

    @property
    def public_message(self) -> str:
        """Say so: it names no place."""
        return self.message

    @property
    def problem_type(self) -> str:
        """The type of draft-ietf-httpapi-ratelimit-headers-10, section 6.2."""
        return "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"


def refusal(result: LimitResult, *, legacy: bool = False) -> RateLimited:
    """Return the error that tells a denied ``result``."""
    violated = result.violated
    names = ", ".join(violated)
    retry_ms = result.retry_after_ms
    fields = limit_fields(result, legacy=legacy)
    if result.closed:
        return ReducedCapacity(
            f"whether {names} allows it cannot be found out now; "
            f"try again in {_wait(retry_ms or 0)}",
            retry_after_ms=retry_ms,
            violated=violated,
        )
    if retry_ms is None:
        message = f"a cost of {result.cost} is more than {names} ever allows at once"
    else:
        message = f"rate limit exceeded ({_limits(result)}); try again in {_wait(retry_ms)}"
    return RateLimited(message, retry_after_ms=retry_ms, violated=violated, fields=fields)


def _limits(result: LimitResult) -> str:
    return ", ".join(
        f"{state.name}: {state.limit} in {state.window_s:g} s"
        for state in result.policies
        if state.retry_after_ms != 0
    )


def _wait(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else f"{-(-ms // 1000)} s"
