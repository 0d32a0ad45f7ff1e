"""An entry: one thing that was used, as it waits in Redis for the database."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from channels.scope import Scope

__all__ = ["UsageEntry", "decode_entry", "encode_entry"]

EntryKind = Literal["usage", "correction"]


class UsageEntry(msgspec.Struct, frozen=True, array_like=True):
    """What was used, by whom and when. New fields are added at the end, with defaults.

    ``id`` is the user's own. ``organisation`` is None where it could not be looked up: the
    writer does. ``day`` is that of the billing time zone, by when it was used; times are ms.
    """

    id: str
    kind: EntryKind
    user: str
    workspace: str
    organisation: str | None
    agent: str
    model: str
    tokens_input: int
    tokens_output: int
    cost_micro_usd: int
    requests: int
    day: str
    occurred_ms: int
    recorded_ms: int

    @property
    def month(self) -> str:
        """``YYYY-MM``: whose accounts it is counted in."""
        return self.day[:7]

    @property
    def amounts(self) -> tuple[int, int, int, int]:
        """Cost, tokens in and out, requests: in the order of an account's sums."""
        return (self.cost_micro_usd, self.tokens_input, self.tokens_output, self.requests)

    def scopes(self) -> tuple[Scope, ...]:
        """Return whose accounts it is counted in, the user first."""
        scopes = (Scope("user", self.user), Scope("workspace", self.workspace))
        if self.organisation:
            return (*scopes, Scope("org", self.organisation))
        return scopes


encode_entry: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(UsageEntry).decode


def decode_entry(data: bytes) -> UsageEntry | None:
    """Return the entry in ``data``; None if this version cannot read it."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
