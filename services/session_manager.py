"""Sessions: the working memory of agent conversations, every change of it an event.

    sessions = services.for_workspace("w1").sessions
    await sessions.create_session("s1", "ada")
    await sessions.add_message("s1", "user", "Hello")

Nothing is read, changed and written back: each change is one script that tells of itself on
``session:{workspace}:{session}``, so that writers in many processes lose nothing of each other
and a reader who applies the events has the state (:mod:`channels.reduce_session`).

A session ends when it was not used for its idle time, and after its longest life in any case.
Every change counts as use; reading does where it is asked to. The end is told.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, NoReturn, cast

import msgspec

from channels.catalogue import Channel
from channels.errors import BadRequest, Conflict, NotFound, PermissionDenied, VersionConflict
from channels.events import Message
from channels.ids import check_id, new_id
from services.changes import Outcome
from services.context import Context
from services.page import Page
from services.session_scripts import FAMILY, Code, SessionScripts
from services.session_settings import Trimmed
from services.session_summary import SessionSummary, list_summaries
from services.snapshots import Snapshot
from services.store.port import Reply
from services.working_memory import StoredSession, WorkingMemoryState, encode_values, from_ms

__all__ = ["MAX_AGE_S", "MAX_ROLE_LENGTH", "SessionManager", "install"]

_log = logging.getLogger(__name__)

#: Longest life and idle time that can be asked for, in seconds.
MAX_AGE_S: Final = 366 * 86_400
MAX_ROLE_LENGTH: Final = 64
#: How often a change is tried that others got ahead of.
_ATTEMPTS: Final = 5
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})

_decode_message = msgspec.json.Decoder(Message).decode


class SessionManager:
    """The sessions of one workspace.

    Where ``user_id`` is given, the session must be that user's: the script checks it. Every
    change may be repeated with the same ``message_id`` or ``op_id`` after an unknown outcome,
    and is repeated here once. All methods raise ``BadRequest`` for what is no id, and
    ``StoreError`` when Redis could not do it.
    """

    __slots__ = ("_context", "_declaration", "_workspace")

    def __init__(self, context: Context, workspace: str) -> None:
        self._context = context
        self._workspace = check_id(workspace, "workspace")
        # Any session's channel: understanding a name anew with each call is a tenth of it.
        self._declaration = context.catalogue.find(f"session:{workspace}:any").declaration

    async def create_session(
        self,
        session_id: str,
        user_id: str,
        *,
        fields: Mapping[str, object] = _NOTHING,
        idle_ttl_s: int = 3600,
        max_age_s: int = 86_400,
    ) -> WorkingMemoryState:
        """Begin a session with the values in ``fields``; one that is there stays as it is.

        Raises:
            PermissionDenied: there is one, and it is another user's.
            BadRequest, LimitExceeded: a value or a time cannot be.
        """
        check_id(user_id, "user")
        idle, age = _ms(idle_ttl_s, "idle_ttl_s"), _ms(max_age_s, "max_age_s")
        encoded = encode_values(fields, self._context.session_settings)
        values = {name: text for name, text in encoded.items() if text}
        scripts = self._scripts(session_id)
        for _ in range(_ATTEMPTS):
            outcome = await scripts.create(user_id, values, idle, age)
            match outcome.code:
                case Code.DONE | Code.REPEATED:
                    return self._state(session_id, outcome)
                case Code.LATER:
                    await self.expire(session_id)  # its end is told before the next begins
                case _:
                    self._refuse(outcome, session_id, user_id)
        raise _overtaken(session_id)

    async def get_session(
        self, session_id: str, *, user_id: str | None = None, touch: bool = False
    ) -> WorkingMemoryState | None:
        """Return the session; None if there is none, or no longer.

        With ``touch`` reading is use: the idle time begins anew, to within a sixtieth of it.

        Raises:
            PermissionDenied: it is another user's.
        """
        _check_user(user_id)
        scripts = self._scripts(session_id)
        if touch:
            outcome = await scripts.extend(user_id)
            if outcome.code not in (Code.DONE, Code.UNCHANGED, Code.MISSING):
                self._refuse(outcome, session_id, user_id)
        outcome = await scripts.read(user_id)
        if outcome.code == Code.MISSING:
            return None
        if outcome.code != Code.DONE:
            self._refuse(outcome, session_id, user_id)
        return self._state(session_id, outcome)

    async def update_session(
        self,
        session_id: str,
        *,
        user_id: str | None = None,
        expected_version: int | None = None,
        op_id: str | None = None,
        **updates: object,
    ) -> WorkingMemoryState:
        """Replace the named values, each as a whole; ``None`` clears one.

        Other values stay as they are, whoever writes them meanwhile. With
        ``expected_version`` nothing at all may have changed since. Repeated with the same
        ``op_id`` (among the last thousand changes) it changes nothing more and returns the
        session as it is. Without updates nothing changes.

        Raises:
            NotFound: there is no such session, or no longer.
            VersionConflict: it is not at ``expected_version``.
            PermissionDenied: it is another user's.
            BadRequest, LimitExceeded: a name or a value cannot be.
        """
        _check_user(user_id)
        settings = self._context.session_settings
        values = encode_values(updates, settings)
        op = new_id() if op_id is None else check_id(op_id, "op_id")
        if not values:
            return await self._unchanged(session_id, user_id, expected_version)
        scripts, schemas = self._scripts(session_id), (settings.schema, settings.schema)
        for _ in range(_ATTEMPTS):
            outcome = await scripts.update(user_id, op, expected_version, schemas, values)
            match outcome.code:
                case Code.DONE:
                    flat, messages, version, expires = outcome.values
                    stored = StoredSession.from_reply(flat, messages)
                    return stored.changed(
                        values, cast(int, version), int(cast(bytes, expires))
                    ).state(self._workspace, session_id)
                case Code.REPEATED:
                    return self._state(session_id, outcome)
                case Code.OTHER_SCHEMA:
                    version = await self._migrate(session_id, user_id, expected_version)
                    if expected_version is not None:
                        expected_version = version
                case _:
                    self._refuse(outcome, session_id, user_id, expected_version)
        raise _overtaken(session_id)

    async def add_message(
        self,
        session_id: str,
        role: str,
        content: object,
        *,
        message_id: str | None = None,
        user_id: str | None = None,
    ) -> Message:
        """Add a message; ``content`` is anything that JSON can say.

        Repeated with the same ``message_id`` (among the last thousand messages) it adds
        nothing and returns the first one; where that has left the window, this one with the
        first one's ``seq``.

        Raises:
            NotFound: there is no such session, or no longer; the message is not kept.
            Conflict: another message has this id.
            PermissionDenied: it is another user's.
            BadRequest, LimitExceeded: role or content cannot be.
        """
        _check_user(user_id)
        if not 1 <= len(role) <= MAX_ROLE_LENGTH:
            raise BadRequest(f"role must be 1-{MAX_ROLE_LENGTH} characters; got {len(role)}")
        id_ = new_id() if message_id is None else check_id(message_id, "message_id")
        outcome, text = await self._scripts(session_id).add_message(user_id, id_, role, content)
        if outcome.code not in (Code.DONE, Code.REPEATED):
            self._refuse(outcome, session_id, user_id)
        seq, rest = cast("tuple[int, Reply]", tuple(outcome.values))
        message = _decode_message(b"%b%d%b" % (text[0], seq, text[1]))
        if outcome.code == Code.REPEATED:
            return _first(message, cast(bytes, rest))
        if rest:
            self._tell_trimmed(session_id, cast("list[bytes]", rest))
        return message

    async def list_sessions(
        self, *, user_id: str | None = None, limit: int = 50, cursor: str = ""
    ) -> Page[SessionSummary]:
        """Return sessions, those that began last first; of one user where one is given.

        A page may hold fewer than ``limit`` although there is a next one. At most 500 a page.
        """
        _check_user(user_id)
        return await list_summaries(
            self._context, self._workspace, user_id, limit=limit, cursor=cursor
        )

    async def extend_session(
        self,
        session_id: str,
        extra_seconds: int = 3600,
        *,
        user_id: str | None = None,
        op_id: str | None = None,
    ) -> datetime:
        """Let it end ``extra_seconds`` later than it would now; return when.

        Never later than its longest life allows.

        Raises:
            NotFound: there is no such session, or no longer.
            PermissionDenied: it is another user's.
        """
        _check_user(user_id)
        extra = _ms(extra_seconds, "extra_seconds")
        op = new_id() if op_id is None else check_id(op_id, "op_id")
        outcome = await self._scripts(session_id).extend(user_id, op=op, extra=extra)
        if outcome.code not in (Code.DONE, Code.REPEATED, Code.UNCHANGED):
            self._refuse(outcome, session_id, user_id)
        return from_ms(int(cast(bytes, outcome.values[0])))

    async def delete_session(self, session_id: str, *, user_id: str | None = None) -> bool:
        """End the session; return whether there was one.

        Raises:
            PermissionDenied: it is another user's.
        """
        _check_user(user_id)
        scripts = self._scripts(session_id)
        for _ in range(_ATTEMPTS):
            owner = user_id or await scripts.owner()
            if not owner:
                return False
            outcome = await scripts.delete(owner)
            match outcome.code:
                case Code.DONE:
                    return True
                case Code.MISSING:
                    return False
                case Code.NOT_OWNER if user_id is None:
                    pass  # it ended and began again, as another user's
                case _:
                    self._refuse(outcome, session_id, user_id)
        raise _overtaken(session_id)

    async def snapshot(self, session_id: str) -> Snapshot:
        """Return the session's JSON (``null`` for none) and where its channel stands.

        A reader that applies the events after that position has the session. A session whose
        time is up is there until the event that ends it.
        """
        return await self._scripts(session_id).snapshot()

    async def expire(self, session_id: str) -> None:
        """End the session if its time is up by the clock, and tell. The sweeper calls it."""
        scripts = self._scripts(session_id)
        for _ in range(_ATTEMPTS):
            # Without an owner nothing is left but entries in sets; any user will do.
            outcome = await scripts.expire(await scripts.owner() or "-")
            if outcome.code != Code.NOT_OWNER:
                return

    # ------------------------------------------------------------------------------------------

    def _scripts(self, session: str) -> SessionScripts:
        return SessionScripts(self._context, self._workspace, session, self._declaration)

    def _state(self, session: str, outcome: Outcome) -> WorkingMemoryState:
        """Return the session that a script returned, in the schema of now."""
        stored = StoredSession.from_reply(*outcome.values)
        return stored.migrated(self._context.session_settings).state(self._workspace, session)

    async def _unchanged(
        self, session: str, user: str | None, expected: int | None
    ) -> WorkingMemoryState:
        state = await self.get_session(session, user_id=user)
        if state is None:
            raise _not_found(session)
        if expected is not None and state.version != expected:
            raise _other_version(session, state.version, expected)
        return state

    async def _migrate(self, session: str, user: str | None, expected: int | None) -> int:
        """Store the session in the schema of now, and tell; return its version then."""
        settings = self._context.session_settings
        scripts = self._scripts(session)
        outcome = await scripts.read(user)
        if outcome.code != Code.DONE:
            self._refuse(outcome, session, user)
        stored = StoredSession.from_reply(*outcome.values)
        version = stored.number("v")
        if expected is not None and version != expected:
            raise _other_version(session, version, expected)
        migrated = stored.migrated(settings).values
        values = dict.fromkeys(stored.values, b"") | migrated
        schemas = (stored.schema, settings.schema)
        done = await scripts.update(user, new_id(), version, schemas, values)
        # Where somebody got ahead of us the caller finds out what is there now.
        return version + 1 if done.code == Code.DONE else version

    def _tell_trimmed(self, session: str, fell: list[bytes]) -> None:
        on_trim = self._context.session_settings.on_trim
        if on_trim is None:
            return
        messages = [_decode_message(text) for text in fell]
        try:
            on_trim(Trimmed(self._workspace, session, messages))
        except Exception:  # noqa: BLE001 - the message stands, whatever becomes of those before it
            _log.exception("on_trim failed for session %s of %s", session, self._workspace)

    @staticmethod
    def _refuse(
        outcome: Outcome, session: str, user: str | None, expected: int | None = None
    ) -> NoReturn:
        """Raise what a code stands for."""
        match outcome.code:
            case Code.MISSING:
                raise _not_found(session)
            case Code.NOT_OWNER:
                raise PermissionDenied(f"session {session!r} is not {user!r}'s")
            case Code.OTHER_VERSION:
                raise _other_version(session, cast(int, outcome.values[0]), expected)
        raise AssertionError(f"a session's script returned {outcome}")  # a bug of ours


def install(context: Context) -> None:
    """Have sessions end by themselves, and their snapshots read. Once a context."""

    async def expire(root: str, id: str) -> None:
        await SessionManager(context, root).expire(id)

    async def snapshot(channel: Channel) -> Snapshot:
        params = channel.params
        return await SessionManager(context, params["workspace"]).snapshot(params["session"])

    context.sweeper.handle(FAMILY, expire)
    context.snapshots.offer("session", snapshot)


def _first(message: Message, stored: bytes) -> Message:
    """Return the message that was added first under the id of ``message``."""
    if not stored:
        return message
    first = _decode_message(stored)
    if (first.id, first.role, first.content) != (message.id, message.role, message.content):
        raise Conflict(f"message id {message.id!r} belongs to another message, number {first.seq}")
    return first


def _check_user(user: str | None) -> None:
    if user is not None:
        check_id(user, "user")


def _ms(seconds: int, what: str) -> int:
    if not isinstance(seconds, int) or not 1 <= seconds <= MAX_AGE_S:
        raise BadRequest(f"{what} must be 1 to {MAX_AGE_S} whole seconds; got {seconds!r}")
    return seconds * 1000


def _not_found(session: str) -> NotFound:
    return NotFound(f"there is no session {session!r}, or no longer")


def _other_version(session: str, current: int, expected: int | None) -> VersionConflict:
    return VersionConflict(
        f"session {session!r} is at version {current}; expected {expected}", current
    )


def _overtaken(session: str) -> Conflict:
    return Conflict(f"session {session!r} changed too often meanwhile")
