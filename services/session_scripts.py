"""The scripts of sessions, each with its one typed caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Final, cast

from channels.catalogue import Channel
from channels.declaration import ChannelDeclaration
from channels.errors import OutcomeUnknown
from channels.ids import check_id, new_id
from channels.position import Position
from services.changes import Outcome
from services.context import Context
from services.session_events import SessionEvents
from services.session_settings import DAY_MS
from services.snapshots import Snapshot
from services.store.port import Argument, Reply
from services.store.script import load_script
from services.sweeper import Sweeper
from services.working_memory import StoredSession, from_ms

__all__ = ["FAMILY", "Code", "SessionScripts"]

#: What sessions are called among all that ends by itself.
FAMILY: Final = "session"


class Code(IntEnum):
    """What a script says came of it (``lua/lib/session.lua``)."""

    DONE = 0
    REPEATED = 1
    MISSING = 2
    NOT_OWNER = 3
    OTHER_VERSION = 4
    OTHER_SCHEMA = 5
    UNCHANGED = 6
    LATER = 7


class SessionScripts:
    """The scripts on one session; what they return is described in their files.

    ``user`` is who must own it, None for whoever does. Each change is sent once more when its
    outcome is unknown: all of them can be repeated.
    """

    __slots__ = ("_channel", "_context", "_session", "_state", "_workspace")

    def __init__(
        self, context: Context, workspace: str, session: str, declaration: ChannelDeclaration
    ) -> None:
        """Speak about a session; ``declaration`` is that of the channels of sessions.

        Raises:
            BadRequest: ``session`` is no id.
        """
        keys = context.keys
        self._context = context
        self._workspace = workspace
        self._session = check_id(session, "session")
        params = {"workspace": workspace, "session": session}
        name = f"session:{workspace}:{session}"
        self._channel = Channel(name, declaration, params, workspace)
        self._state = [
            keys.session(workspace, session),
            keys.session_messages(workspace, session),
            keys.session_message_ids(workspace, session),
        ]

    # -- changes -----------------------------------------------------------------------------

    async def create(self, user: str, values: Mapping[str, bytes], idle: int, age: int) -> Outcome:
        """Begin it; ``idle`` time and longest ``age`` in ms. DONE brings a ``StoredSession``."""
        settings = self._context.session_settings
        now = self._context.clock.now_ms()
        expires, ends = now + min(idle, age), now + age
        begun = StoredSession.begin(user, values, settings, now, expires, ends, idle)
        event = new_id()
        body = self._events(event, now).created(user, begun.json(self._workspace, self._session))
        await self._context.sweeper.register(self._workspace, expires)
        outcome = await self._run(
            "session_create",
            [*self._state, *self._sets(user)],
            [
                self._session,
                user,
                expires,
                ends,
                idle,
                settings.window,
                settings.schema,
                age + DAY_MS,
                self._member,
                *body,
                *(part for value in values.items() for part in value),
            ],
            event=event,
            now=now,
        )
        if outcome.code == Code.DONE:
            return Outcome(Code.DONE, [begun.flat(), []])
        return outcome

    async def update(
        self,
        user: str | None,
        op: str,
        expected: int | None,
        schemas: tuple[int, int],
        values: Mapping[str, bytes],
    ) -> Outcome:
        """Replace ``values``, clear those that are empty; from one schema to another."""
        now, event = self._context.clock.now_ms(), new_id()
        cleared = [name for name, text in values.items() if not text]
        return await self._run(
            "session_update",
            self._state,
            [
                user or "",
                f"o:{op}",
                "" if expected is None else expected,
                *schemas,
                self._context.session_settings.remembered,
                *self._events(event, now).updated(values),
                len(cleared),
                *cleared,
                *(part for value in values.items() if value[1] for part in value),
            ],
            event=event,
            now=now,
        )

    async def add_message(
        self, user: str | None, id: str, role: str, content: object
    ) -> tuple[Outcome, tuple[bytes, bytes]]:
        """Add a message; return also its JSON before and after its sequence."""
        now, event = self._context.clock.now_ms(), new_id()
        text = self._events(event, now).message(id, role, content)
        settings = self._context.session_settings
        outcome = await self._run(
            "session_add_message",
            self._state,
            [
                user or "",
                id,
                settings.remembered,
                *text.pieces,
                text.start + 1,
                text.end,
                int(settings.on_trim is not None),
            ],
            event=event,
            now=now,
        )
        return outcome, (text.pieces[1][text.start :], text.pieces[2][: text.end])

    async def extend(self, user: str | None, *, op: str = "", extra: int | None = None) -> Outcome:
        """Let it end ``extra`` ms later; None is as if it was used."""
        now, event = self._context.clock.now_ms(), new_id()
        return await self._run(
            "session_extend",
            [self._state[0], self._state[2]],
            [
                user or "",
                f"o:{op}" if op else "",
                "" if extra is None else extra,
                self._context.session_settings.remembered,
                *self._events(event, now).extended(),
            ],
            event=event,
            now=now,
        )

    async def delete(self, owner: str) -> Outcome:
        """End it, if it is ``owner``'s. MISSING after an unknown outcome is taken for done."""
        now, event = self._context.clock.now_ms(), new_id()
        keys = [*self._state, *self._sets(owner)]
        body = self._events(event, now).deleted()
        args: list[Argument] = [owner, self._session, self._member, *body]
        script, run = load_script("session_delete"), self._context.changes.run
        try:
            return await run(script, self._channel, keys, args, event=event, now_ms=now)
        except OutcomeUnknown:
            again = await run(script, self._channel, keys, args, event=event, now_ms=now)
            return Outcome(Code.DONE, []) if again.code == Code.MISSING else again

    async def expire(self, owner: str) -> Outcome:
        """End it if its time is up, it being ``owner``'s."""
        now, event = self._context.clock.now_ms(), new_id()
        events = self._events(event, now)
        bodies = [*events.expired("idle"), *events.expired("absolute")]
        return await self._run(
            "session_expire",
            [*self._state, *self._sets(owner)],
            [owner, self._session, self._member, *bodies],
            event=event,
            now=now,
        )

    # -- reads -------------------------------------------------------------------------------

    async def read(self, user: str | None) -> Outcome:
        """Read it."""
        now = self._context.clock.now_ms()
        script, keys = load_script("session_get"), self._state[:2]
        code, *values = cast(
            "list[Reply]", await self._context.store.run(script, keys, [now, user or ""])
        )
        return Outcome(cast(int, code), values)

    async def owner(self) -> str:
        """Return whose it is; empty if there is none."""
        owner = await self._context.store.execute("HGET", self._state[0], "u")
        return cast(bytes, owner).decode() if owner else ""

    async def snapshot(self) -> Snapshot:
        """Return its JSON, ``null`` if there is none, and where its channel stands."""
        log = self._context.log
        reply = await self._context.store.run(
            load_script("session_snapshot"),
            [*log.keys_of(self._channel), *self._state[:2]],
            log.top_terms(),
        )
        epoch, offset, top_id, flat, messages = cast(
            "tuple[bytes, int, bytes, list[Reply], list[Reply]]", reply
        )
        data = b"null"
        if flat:
            stored = StoredSession.from_reply(flat, messages)
            data = stored.migrated(self._context.session_settings).json(
                self._workspace, self._session
            )
        return Snapshot(data, Position(epoch.decode(), offset), top_id.decode())

    # -- what they share ---------------------------------------------------------------------

    @property
    def channel(self) -> Channel:
        """Where its changes are told."""
        return self._channel

    def _events(self, id: str, now_ms: int) -> SessionEvents:
        return SessionEvents(self._workspace, self._session, id, from_ms(now_ms))

    def _sets(self, user: str) -> list[str]:
        keys = self._context.keys
        return [
            keys.sessions(self._workspace),
            keys.sessions_of(self._workspace, check_id(user, "user")),
            keys.due(self._workspace),
        ]

    @property
    def _member(self) -> str:
        return Sweeper.member(FAMILY, self._session)

    async def _run(
        self, name: str, keys: Sequence[str], args: Sequence[Argument], *, event: str, now: int
    ) -> Outcome:
        script, run = load_script(name), self._context.changes.run
        try:
            return await run(script, self._channel, keys, args, event=event, now_ms=now)
        except OutcomeUnknown:
            return await run(script, self._channel, keys, args, event=event, now_ms=now)
