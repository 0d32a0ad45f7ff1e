"""Working memory: what a session remembers, and how it is stored.

Each value is a hash field of its own, JSON, so that two writers of different values do not
meet, and a value that this version does not know stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, cast

import msgspec

from channels.errors import BadRequest, Conflict
from channels.events import Message
from services.session_settings import TAKEN, SessionSettings
from services.store.port import Reply

__all__ = ["StoredSession", "WorkingMemoryState", "encode_values", "from_ms", "time_text"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_decode_message = msgspec.json.Decoder(Message).decode


class WorkingMemoryState(msgspec.Struct, frozen=True, kw_only=True):
    """A session as it was at ``version``. A copy: changing a list in it changes nothing.

    ``expires_at`` is when it ends unless it is used again, ``ends_at`` when it ends at the
    latest. ``recent_messages`` are the newest ``window``, oldest first; ``message_count`` is
    how many there ever were. ``extra`` holds stored values that are not fields of this class.

    Approvals that are pending are not in it: they have one home, the gates
    (``workspace.approvals.list_open()``), and a copy would be wrong as soon as one is decided.
    """

    session_id: str
    workspace_id: str
    user_id: str
    version: int
    created_at: datetime
    expires_at: datetime
    ends_at: datetime
    idle_ttl_s: int
    window: int
    message_count: int = 0
    recent_messages: list[Message] = []
    current_agent: str | None = None
    current_task: str | None = None
    foundation_summary: str | None = None
    active_icps: list[dict[str, Any]] = []
    last_output: dict[str, Any] | None = None
    extra: dict[str, Any] = {}


#: The values that a caller may change, and their types.
_VALUES: Final[dict[str, Any]] = {
    "current_agent": str | None,
    "current_task": str | None,
    "foundation_summary": str | None,
    "active_icps": list[dict[str, Any]] | None,
    "last_output": dict[str, Any] | None,
}
#: The names of everything else in the JSON of a session: no value can be called so.
_RESERVED: Final = TAKEN - set(_VALUES)


def encode_values(values: Mapping[str, object], settings: SessionSettings) -> dict[str, bytes]:
    """Return the JSON of each value; empty for one that is to be cleared.

    ``None`` clears. ``UNSET`` is as if the name was not given.

    Raises:
        BadRequest: a name is not one that may be changed, or a value is not of its type.
    """
    encoded: dict[str, bytes] = {}
    for name, value in values.items():
        kind = _VALUES.get(name) or settings.fields.get(name)
        if kind is None:
            known = ", ".join(sorted({*_VALUES, *settings.fields}))
            raise BadRequest(f"a session's {name[:80]!r} cannot be changed; expected {known}")
        if value is msgspec.UNSET:
            continue
        if value is None:
            encoded[name] = b""
            continue
        try:
            encoded[name] = _encode(msgspec.convert(value, kind))
        except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
            raise BadRequest(f"a session's {name} must be {_named(kind)}; {error}") from None
    return encoded


class StoredSession(NamedTuple):
    """A session's hash: what the scripts keep, the values, and the messages, as JSON."""

    meta: dict[str, bytes]
    values: dict[str, bytes]
    messages: list[bytes]

    @classmethod
    def from_reply(cls, flat: Reply, messages: Reply) -> StoredSession:
        """Take what HGETALL and LRANGE returned inside a script."""
        meta: dict[str, bytes] = {}
        values: dict[str, bytes] = {}
        items = iter(cast("list[bytes]", flat))
        for name, value in zip(items, items, strict=True):
            text = name.decode("utf-8", "replace")
            if text.startswith("f:"):
                values[text[2:]] = value
            else:
                meta[text] = value
        return cls(meta, values, cast("list[bytes]", messages))

    @classmethod
    def begin(
        cls,
        user: str,
        values: Mapping[str, bytes],
        settings: SessionSettings,
        now: int,
        expires: int,
        ends: int,
        idle: int,
    ) -> StoredSession:
        """Return a session of ``user`` that begins now; times and idle time in ms."""
        numbers = {"v": 1, "s": settings.schema, "c": now, "x": expires, "e": ends}
        numbers |= {"i": idle, "w": settings.window, "q": 0}
        meta = {name: b"%d" % number for name, number in numbers.items()}
        return cls({"u": user.encode(), **meta}, dict(values), [])

    def number(self, name: str) -> int:
        """Return a number that the scripts keep (``lua/lib/session.lua``)."""
        return int(self.meta[name])

    def flat(self) -> list[Reply]:
        """Return the hash as HGETALL gives it inside a script."""
        values = {f"f:{name}": text for name, text in self.values.items()}
        items = {**self.meta, **values}.items()
        return [part for name, text in items for part in (name.encode(), text)]

    @property
    def schema(self) -> int:
        """The schema that the values are in."""
        return self.number("s")

    def changed(self, values: Mapping[str, bytes], version: int, expires_ms: int) -> StoredSession:
        """Return it as it is after ``values`` were written, empty ones cleared."""
        meta = {**self.meta, "v": b"%d" % version, "x": b"%d" % expires_ms}
        merged = {name: text for name, text in {**self.values, **values}.items() if text}
        return StoredSession(meta, merged, self.messages)

    def migrated(self, settings: SessionSettings) -> StoredSession:
        """Return it with its values in the schema of ``settings``.

        Raises:
            Conflict: they are in a later schema, which only a newer version understands.
        """
        schema = self.schema
        if schema == settings.schema:
            return self
        if schema > settings.schema:
            raise Conflict(
                f"the session is in schema {schema}; this version knows up to {settings.schema}"
            )
        values = {name: _decode(text) for name, text in self.values.items()}
        for step in range(schema, settings.schema):
            values = settings.migrations[step](values)
        return StoredSession(
            {**self.meta, "s": b"%d" % settings.schema},
            {name: _encode(value) for name, value in values.items()},
            self.messages,
        )

    def state(self, workspace: str, session: str) -> WorkingMemoryState:
        """Return it as its readers know it."""
        known: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for name, text in self.values.items():
            value = _decode(text)
            try:
                # A value of another type is no reason to lose the session.
                known[name] = msgspec.convert(value, _VALUES[name])
            except (KeyError, msgspec.ValidationError):
                extra[name] = value
        if known.get("active_icps", ()) is None:
            del known["active_icps"]
        return WorkingMemoryState(
            session_id=session,
            workspace_id=workspace,
            user_id=self.meta["u"].decode(),
            version=self.number("v"),
            created_at=from_ms(self.number("c")),
            expires_at=from_ms(self.number("x")),
            ends_at=from_ms(self.number("e")),
            idle_ttl_s=self.number("i") // 1000,
            window=self.number("w"),
            message_count=self.number("q"),
            recent_messages=[_decode_message(text) for text in self.messages],
            extra=extra,
            **known,
        )

    def json(self, workspace: str, session: str) -> bytes:
        """Return it as the JSON of snapshots and of ``session.created``; one line.

        Values stand beside what every session has, and only those that are set.
        """
        parts: list[tuple[str, bytes]] = [
            ("session_id", _encode(session)),
            ("workspace_id", _encode(workspace)),
            ("user_id", _encode(self.meta["u"].decode())),
            ("version", self.meta["v"]),
            ("created_at", _encode(time_text(self.number("c")))),
            ("expires_at", _encode(time_text(self.number("x")))),
            ("ends_at", _encode(time_text(self.number("e")))),
            ("idle_ttl_s", b"%d" % (self.number("i") // 1000)),
            ("window", self.meta["w"]),
            ("message_count", self.meta["q"]),
            ("recent_messages", b"[%b]" % b",".join(self.messages)),
        ]
        parts += [one for one in self.values.items() if one[0] not in _RESERVED]
        return b"{%b}" % b",".join(b"%b:%b" % (_encode(name), text) for name, text in parts)


def from_ms(ms: int) -> datetime:
    """Return the UTC time that is ``ms`` milliseconds after 1970."""
    return _EPOCH + timedelta(milliseconds=ms)


def time_text(ms: int) -> str:
    """Return a time as RFC 3339 with three decimals, as JavaScript writes it."""
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _named(kind: Any) -> str:  # noqa: ANN401 - any type that msgspec knows
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
