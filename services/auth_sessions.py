"""Login sessions: who is logged in where, for as long as nobody takes it back.

    issued = await services.auth_sessions.create("ann", workspaces=["w1"], device="phone")
    session = await services.auth_sessions.verify(issued.token)     # at every request
    await services.auth_sessions.revoke("ann", session.id)          # nobody gets in any more

A session is a secret of 256 bits that only its owner has; Redis holds its digest. Whether it
is good is asked of Redis every time, one command, so that what was revoked on one node is
revoked on all. Every beginning and end is an event on ``auth:{user}``, in the same script.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, TypeVar, cast

from channels.catalogue import AUTH, Channel
from channels.errors import BadRequest, OutcomeUnknown, Unauthorized
from channels.event import Event, encode_event
from channels.events import (
    AuthSessionCreated,
    AuthSessionCreatedData,
    AuthSessionExpired,
    AuthSessionExpiredData,
    AuthSessionRevoked,
    AuthSessionRevokedData,
    AuthSessionRotated,
    AuthSessionRotatedData,
)
from channels.ids import check_id, new_id
from channels.publication import check_json, encode_body
from services.auth_session import AuthSession, Claims, Issued, Record, encode_claims, from_ms
from services.changes import Outcome
from services.context import Context
from services.login_token import LoginToken, new_secret
from services.store.port import Argument, Reply
from services.store.script import load_script

__all__ = ["AuthSessions", "install"]

#: What stands before an id in the sorted set of what is due.
_FAMILY = "auth"
#: A session in use is written no more often; a short one four times in its idle time.
_TOUCH_MS = 60_000
_TOUCHES_AN_IDLE_TIME = 4
#: How long the sessions of a user are kept beyond the last end of all of them: a day, so that
#: each end is told.
_GRACE_MS = 86_400_000
_MAX_LIMIT = 100
_MAX_AGE_S = 366 * 86_400
_NO_LONGER = "the login session is over, or there never was one: log in again"

_T = TypeVar("_T")


class AuthSessions:
    """The login sessions of all users of an application."""

    __slots__ = ("_context", "_create", "_expire", "_revoke", "_rotate", "_touch")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._create = load_script("auth_create")
        self._touch = load_script("auth_touch")
        self._rotate = load_script("auth_rotate")
        self._revoke = load_script("auth_revoke")
        self._expire = load_script("auth_expire")

    async def create(
        self,
        user: str,
        *,
        workspaces: Iterable[str] = (),
        scopes: Iterable[str] = (),
        device: str = "",
        user_agent: str = "",
        address: str = "",
        idle_ttl_s: float = 7 * 86_400,
        max_age_s: float = 30 * 86_400,
        limit: int = 20,
    ) -> Issued:
        """Begin a session of ``user``, whom the caller has recognised; return it with its token.

        It is over when it was not used for ``idle_ttl_s``, and after ``max_age_s`` at the
        latest. A user has ``limit`` sessions at most: one more ends the one that was used
        longest ago, and its end is told. ``device`` is shown to the user; texts that came with
        a request are cut to what is kept of them.

        Raises:
            BadRequest: an id, a name or a time is out of range.
            StoreError: there may be a session that nobody has the token of.
        """
        _check_times(idle_ttl_s, max_age_s, limit)
        claims = encode_claims(
            Claims(
                workspaces=sorted(set(workspaces)),
                scopes=sorted(set(scopes)),
                device=device[:128],
                user_agent=user_agent[:512],
                address=address[:128],
            )
        )
        channel = self._channel(user)
        token = LoginToken(user, new_id(), new_secret())
        now_ms = self._context.clock.now_ms()
        idle_ms, age_ms = round(idle_ttl_s * 1000), round(max_age_s * 1000)
        ends_ms = now_ms + age_ms
        expires_ms = min(now_ms + idle_ms, ends_ms)
        begun = AuthSessionCreated(
            data=AuthSessionCreatedData(
                user=user,
                session=token.session,
                device=device[:128],
                user_agent=user_agent[:512],
                address=address[:128],
                ends_at=from_ms(ends_ms),
            )
        )
        gone, before, after = _revoked(user, "limit", "")
        keys = self._context.keys
        args: list[Argument] = [
            *(_body(begun), *self._context.log.terms(channel, gone.id, now_ms=now_ms)),
            *(before, after, token.session, token.digest, now_ms, expires_ms, ends_ms, idle_ms),
            *(claims, limit, age_ms + _GRACE_MS),
        ]
        await self._context.sweeper.register(user, expires_ms)
        outcome = await _surely(
            lambda: self._context.changes.run(
                self._create,
                channel,
                [keys.auth_sessions(user), keys.due(user)],
                args,
                event=begun.id,
                now_ms=now_ms,
            )
        )
        record = Record.parse(cast(bytes, outcome.values[0]))
        return Issued(str(token), record.session(user, token.session))

    async def verify(self, token: str) -> AuthSession:
        """Return the session that ``token`` is the secret of; its idle time begins anew.

        One command, and a second one when the session was not used for a minute. What was
        revoked, rotated or expired before the call is refused, on every node.

        Raises:
            Unauthorized: it is no good, or no good any more; which, is not told.
            StoreError: it could not be asked.
        """
        parsed = LoginToken.parse(token)
        keys, store = self._context.keys, self._context.store
        found = await store.execute("HGET", keys.auth_sessions(parsed.user), parsed.session)
        record = self._proved(parsed, found)
        now_ms = self._context.clock.now_ms()
        pause_ms = min(_TOUCH_MS, record.idle // _TOUCHES_AN_IDLE_TIME)
        if now_ms - record.seen >= pause_ms:
            # The script looks again: what was revoked meanwhile must not come back.
            found = await store.run(
                self._touch,
                [keys.auth_sessions(parsed.user)],
                [parsed.session, parsed.digest, now_ms, pause_ms],
            )
            record = self._proved(parsed, found)
        return record.session(parsed.user, parsed.session)

    def _proved(self, token: LoginToken, found: Reply) -> Record:
        if not isinstance(found, bytes) or not found:
            raise Unauthorized(_NO_LONGER)
        record = Record.parse(found)
        if not token.proves(record.digest) or record.is_over(self._context.clock.now_ms()):
            raise Unauthorized(_NO_LONGER)
        return record

    async def find(self, user: str, session_id: str) -> AuthSession | None:
        """Return the session with this public id, None when it is over; proves nothing.

        Raises:
            BadRequest: an id is none.
            StoreError: it could not be asked.
        """
        check_id(session_id, "session id")
        key = self._context.keys.auth_sessions(check_id(user, "user"))
        found = await self._context.store.execute("HGET", key, session_id)
        if not isinstance(found, bytes):
            return None
        record = Record.parse(found)
        over = record.is_over(self._context.clock.now_ms())
        return None if over else record.session(user, session_id)

    async def list_sessions(self, user: str) -> list[AuthSession]:
        """Return the sessions of ``user``, the one that was used last first."""
        key = self._context.keys.auth_sessions(check_id(user, "user"))
        found = await self._context.store.execute("HGETALL", key)
        now_ms = self._context.clock.now_ms()
        sessions = [
            record.session(user, id_)
            for id_, record in _records(found)
            if not record.is_over(now_ms)
        ]
        return sorted(sessions, key=lambda one: (one.seen_at, one.created_at), reverse=True)

    async def rotate(
        self,
        token: str,
        *,
        workspaces: Iterable[str] | None = None,
        scopes: Iterable[str] | None = None,
    ) -> Issued:
        """Give the session behind ``token`` a new secret, and other rights if they are given.

        Call it when what the user may do changes, or who it is was proved anew. The old
        secret is no good from now on, on every node. Its connections are let go with a code
        after which clients come back (3011), and what they may do is decided by the new
        rights. Answer soon: they need the new cookie by then. The session's id and its last
        end stay.

        Raises:
            Unauthorized: the token is no good, or somebody else rotated it first.
            BadRequest: a name is none.
            StoreError: it may be that neither token is known to anybody: log in again.
        """
        parsed = LoginToken.parse(token)
        key = self._context.keys.auth_sessions(parsed.user)
        found = await self._context.store.execute("HGET", key, parsed.session)
        record = self._proved(parsed, found)
        claims = b""
        if workspaces is not None or scopes is not None:
            now = record.session(parsed.user, parsed.session)
            claims = encode_claims(
                Claims(
                    workspaces=sorted(now.workspaces if workspaces is None else set(workspaces)),
                    scopes=sorted(now.scopes if scopes is None else set(scopes)),
                    device=now.device,
                    user_agent=now.user_agent,
                    address=now.address,
                )
            )
        fresh = LoginToken(parsed.user, parsed.session, new_secret())
        # Whoever has the same secret has the same version, and one of them is first.
        data = AuthSessionRotatedData(
            user=parsed.user, session=parsed.session, version=record.version + 1
        )
        event = AuthSessionRotated(data=data)
        now_ms = self._context.clock.now_ms()
        args: list[Argument] = [_body(event), parsed.session, parsed.digest, fresh.digest]
        outcome = await _surely(
            lambda: self._context.changes.run(
                self._rotate,
                self._channel(parsed.user),
                [key],
                [*args, now_ms, claims],
                event=event.id,
                now_ms=now_ms,
            )
        )
        if not outcome.code:
            raise Unauthorized(_NO_LONGER)
        record = Record.parse(cast(bytes, outcome.values[0]))
        return Issued(str(fresh), record.session(parsed.user, parsed.session))

    async def revoke(
        self,
        user: str,
        session_id: str,
        *,
        reason: Literal["logout", "revoked"] = "revoked",
        actor: str = "",
    ) -> bool:
        """End a session; return whether there was one, or may have been after a lost answer.

        Once this returns no :meth:`verify` succeeds anywhere, and its connections on every
        node are being closed for good (3503).

        Raises:
            StoreError: it may not have ended; call it again.
        """
        check_id(session_id, "session id")
        return bool(await self._end(user, session_id, "", reason, actor))

    async def revoke_all(
        self,
        user: str,
        *,
        keep: str = "",
        reason: Literal["logout", "revoked"] = "revoked",
        actor: str = "",
    ) -> list[str]:
        """End all sessions of ``user``, but not the one with the public id ``keep``.

        Returns the public ids of those that ended, as far as is known after a lost answer; raises
        as :meth:`revoke` does.
        """
        return await self._end(user, "", keep, reason, actor)

    async def _end(
        self,
        user: str,
        session: str,
        keep: str,
        reason: Literal["logout", "revoked"],
        actor: str,
    ) -> list[str]:
        channel = self._channel(user)
        event, before, after = _revoked(user, reason, actor)
        keys, doubts = self._context.keys, 0

        async def attempt() -> Outcome:
            nonlocal doubts
            try:
                return await self._context.changes.run(
                    self._revoke,
                    channel,
                    [keys.auth_sessions(user), keys.due(user)],
                    [before, after, session, keep],
                    event=event.id,
                )
            except OutcomeUnknown:
                doubts += 1
                raise

        outcome = await _surely(attempt)
        if session and doubts:
            return [session]
        return [cast(bytes, id_).decode() for id_ in cast("list[Reply]", outcome.values[0])]

    async def expire(self, user: str, session_id: str) -> None:
        """End a session if its time is up; the sweeper's work.

        Raises:
            StoreError: it may not have ended.
        """
        idle, absolute = (
            AuthSessionExpired(
                data=AuthSessionExpiredData(user=user, session=session_id, reason=reason)
            )
            for reason in ("idle", "absolute")
        )
        keys, now_ms = self._context.keys, self._context.clock.now_ms()
        # One of the two is told, under one id.
        absolute = AuthSessionExpired(data=absolute.data, id=idle.id, time=idle.time)
        await self._context.changes.run(
            self._expire,
            self._channel(user),
            [keys.auth_sessions(user), keys.due(user)],
            [_body(idle), _body(absolute), session_id, now_ms],
            event=idle.id,
            now_ms=now_ms,
        )

    def _channel(self, user: str) -> Channel:
        return self._context.catalogue.find(AUTH.name(user=user))


def install(context: Context) -> None:
    """Have sessions end whose time is up; once for each context."""
    sessions = AuthSessions(context)
    context.sweeper.handle(_FAMILY, sessions.expire)


async def _surely(attempt: Callable[[], Awaitable[_T]]) -> _T:
    """Try again what may have happened; the second time finds what the first one did."""
    try:
        return await attempt()
    except OutcomeUnknown:
        return await attempt()


def _check_times(idle_ttl_s: float, max_age_s: float, limit: int) -> None:
    if not 1 <= idle_ttl_s <= _MAX_AGE_S or not 1 <= max_age_s <= _MAX_AGE_S:
        raise BadRequest(
            f"idle_ttl_s and max_age_s are 1 to {_MAX_AGE_S} s; got {idle_ttl_s} and {max_age_s}"
        )
    if not 1 <= limit <= _MAX_LIMIT:
        raise BadRequest(f"a user may have 1 to {_MAX_LIMIT} sessions; got {limit}")


def _body(event: Event) -> bytes:
    return encode_body(check_json(encode_event(event)))


def _revoked(
    user: str, reason: Literal["logout", "revoked", "limit"], actor: str
) -> tuple[Event, bytes, bytes]:
    """Return the event of an end, and its body before and after the ids only a script knows."""
    mark = new_id()  # 96 random bits: nothing that a user wrote
    event = AuthSessionRevoked(
        data=AuthSessionRevokedData(user=user, sessions=[mark], reason=reason, actor=actor)
    )
    before, _, after = _body(event).partition(mark.encode())
    return event, before, after


def _records(found: Reply) -> Iterable[tuple[str, Record]]:
    """Yield what HGETALL found: a map in RESP3, flat in RESP2."""
    if isinstance(found, dict):
        pairs = list(found.items())
    else:
        flat = cast("list[bytes]", found)
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
    for id_, text in pairs:
        yield id_.decode(), Record.parse(cast(bytes, text))
