"""How working memory behaves: what is kept, what may be stored, what happens to the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from typing import Any, Final, TypeAlias

import msgspec

from channels.errors import SettingsError
from channels.events import Message

__all__ = ["DAY_MS", "SCHEMA", "TAKEN", "SessionSettings", "Trimmed"]

#: The schema that values are written in. It rises when a value changes its meaning; a value
#: that is only new needs no new schema.
SCHEMA: Final = 1

#: How long the keys of a session outlive the last moment it can live: by then its end is told.
DAY_MS: Final = 86_400_000

#: Names that an application cannot give to values of its own: those of ``WorkingMemoryState``,
#: one that the state must never have, and what ``update_session`` takes besides values.
TAKEN: Final = frozenset(
    [
        "session_id",
        "workspace_id",
        "user_id",
        "version",
        "created_at",
        "expires_at",
        "ends_at",
        "idle_ttl_s",
        "window",
        "message_count",
        "recent_messages",
        "current_agent",
        "current_task",
        "foundation_summary",
        "active_icps",
        "last_output",
        "extra",
        "pending_approvals",
        "expected_version",
        "op_id",
    ]
)

#: Takes the values of a session in one schema, returns them in the next.
Migration: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]


class Trimmed(msgspec.Struct, frozen=True):
    """Messages that fell out of a session's window, oldest first."""

    workspace_id: str
    session_id: str
    messages: list[Message]


class SessionSettings:
    """The same for every node that shares a Redis.

    Attributes:
        window: how many of the newest messages a session that begins now keeps.
        remembered: how many of the latest messages, and of other changes, are known by their
            id or operation when they come again. At least 1,000.
        fields: values that an application stores beside those of ``WorkingMemoryState``, by
            name and type (anything that ``msgspec.convert`` takes). They are in ``extra``.
        on_trim: called with what falls out of the window, for a summariser. It is called by
            the process that added the message, after the message stands, and not at all when
            that process dies: a convenience, while the ``session.message`` events are the
            record. It must not block; what it raises is logged.
        schema, migrations: the schema of the values, and for each earlier one what turns it
            into the next. A session is migrated when it is read, and stored so when its values
            next change.
    """

    __slots__ = ("fields", "migrations", "on_trim", "remembered", "schema", "window")

    def __init__(
        self,
        *,
        window: int = 50,
        remembered: int = 1_024,
        fields: Mapping[str, Any] | None = None,
        on_trim: Callable[[Trimmed], None] | None = None,
        schema: int = SCHEMA,
        migrations: Mapping[int, Migration] | None = None,
    ) -> None:
        """Make them.

        Raises:
            SettingsError: one of them has a value that cannot be.
        """
        if not 1 <= window <= 1_000:
            raise SettingsError(f"window must be 1 to 1000 messages; got {window}")
        if remembered < 1_000:
            raise SettingsError(f"remembered must be 1000 or more; got {remembered}")
        if on_trim is not None and iscoroutinefunction(on_trim):
            raise SettingsError("on_trim must be a plain function; let it start a task")
        self.window = window
        self.remembered = remembered
        self.fields = dict(fields or {})
        self.on_trim = on_trim
        self.schema = schema
        self.migrations = dict(migrations or {})
        for name in self.fields:
            if name in TAKEN or not name.isidentifier():
                raise SettingsError(f"fields cannot hold {name[:80]!r}: taken, or no name")
        missing = [one for one in range(1, schema) if one not in self.migrations]
        if missing:
            raise SettingsError(f"schema {schema} needs migrations from {missing}")
