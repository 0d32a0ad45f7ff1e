"""What is not cached: what differs each time, concerns one person, or is no answer. No I/O."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from .settings import SkipRules

__all__ = ["skip_prompt", "skip_response"]

_USER: Final = (
    # Somebody's address; only from where a word begins, or a long one is tried at each letter.
    r"(?<![\w.+-])[\w.+-]+@[\w-]+\.\w+",
    r"\b\d{7,}\b|\+\d[\d -]{7,}",  # a number of an order, an account, a telephone
    (
        r"\b(?:my|our) (?:\w+ )?(?:order|orders|balance|invoice|invoices|bill|ticket|appointment|"
        r"booking|bookings|reservation|salary|payslip|results?|diagnosis|medication|address|"
        r"birthday|package|parcel|shipment|delivery|case|claim|application|schedule|calendar|"
        r"meetings?|manager|conversation|last message)\b"
    ),
    r"\bwho am i\b|\bwhat(?: is|'s) my (?:name|age|email|phone|id)\b|\babout me\b",
    (
        r"\b(?:what|as) (?:i|we) (?:just )?(?:said|asked|told|discussed)\b|\bprevious (?:answer|"
        r"question|message)\b"
    ),
)
_VOLATILE: Final = (
    r"\b(?:today|tonight|tomorrow|yesterday)\b",
    r"\bright now\b|\bat the moment\b|\bcurrently\b|\bas of now\b|\bjust now\b",
    (
        r"\b(?:this|last|next|past) (?:minute|hour|morning|afternoon|evening|week|weekend|month|"
        r"quarter|year)\b"
    ),
    r"\blatest\b|\bnewest\b|\bmost recent\b|\bup[- ]to[- ]date\b|\bbreaking\b",
    r"\bwhat time is it\b|\bwhat(?: is|'s) the (?:time|date|weather)\b",
    r"\b(?:current|live) (?:time|date|weather|price|score|status|rate|exchange|temperature)\b",
    r"\brandom\b|\bsurprise me\b",
)
_ERRORS: Final = frozenset({"length", "content_filter", "error", "max_tokens", "refusal"})
_CALLS: Final = frozenset({"tool_use", "tool_call", "function_call", "server_tool_use"})


@lru_cache(maxsize=64)
def _pattern(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{one})" for one in patterns), re.IGNORECASE)


def skip_prompt(prompt: str, rules: SkipRules, *, user: str, temperature: float) -> str:
    """Return why a prompt is not to be looked up; empty if it is."""
    if not temperature <= rules.max_temperature:  # nor what is no number
        return "temperature"
    about = rules.user_specific and not user
    if about and _pattern((*_USER, *rules.user_patterns)).search(prompt):
        return "user"
    if rules.volatile and _pattern((*_VOLATILE, *rules.volatile_patterns)).search(prompt):
        return "volatile"
    return ""


def skip_response(response: Any) -> str:  # noqa: ANN401 - whatever a model returns
    """Return why a response is not to be kept; empty if it is.

    Knows what the common interfaces of models return, as JSON.
    """
    match response:
        case None:
            return "empty"
        case str():
            return "" if response.strip() else "empty"
        case dict():
            return _skip_object(response)
        case list():
            return "tools" if any(map(_is_call, response)) else ""
    return ""


def _skip_object(response: dict[str, Any]) -> str:
    if response.get("error"):
        return "error"
    status = response.get("finish_reason") or response.get("stop_reason") or response.get("status")
    if isinstance(status, str) and status.lower() in _ERRORS | {"failed", "incomplete"}:
        return "error"
    if isinstance(status, str) and status.lower() in _CALLS | {"tool_calls"}:
        return "tools"
    if response.get("tool_calls") or response.get("function_call") or _is_call(response):
        return "tools"
    for name in ("choices", "message", "content", "output"):
        inner = response.get(name)
        for one in inner if isinstance(inner, list) else [inner]:
            if isinstance(one, dict) and (why := _skip_object(one)):
                return why
    return ""


def _is_call(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") in _CALLS
