"""Tickets: what stands in an address instead of a token.

An ``EventSource`` cannot send headers, and an address ends up in logs. A ticket may: it
stands for an identity once, within half a minute, on any node. An ``EventSource`` that
reconnects by itself sends the same address: it is refused, and its page gets a new ticket.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from channels.errors import Unauthorized
from channels.identity import Identity
from services.store.keys import Keys
from services.store.port import Store

__all__ = ["TICKET_LIFETIME_S", "Tickets"]

#: Long enough to open a connection with, too short to be found in a log.
TICKET_LIFETIME_S: Final = 30
_MAX_CHARACTERS = 128


class _Held(msgspec.Struct, frozen=True):
    """An identity as Redis holds it."""

    user: str
    workspaces: frozenset[str]
    scopes: frozenset[str]
    expires_at: float | None
    # Not Raw | None: msgspec accepts nothing but null for that.
    info: Raw | UnsetType = UNSET
    session: str = ""
    session_version: int = 0

    @classmethod
    def of(cls, identity: Identity) -> _Held:
        return cls(
            identity.user,
            identity.workspaces,
            identity.scopes,
            identity.expires_at,
            UNSET if identity.info is None else identity.info,
            identity.session,
            identity.session_version,
        )

    def release(self) -> Identity:
        return Identity(
            user=self.user,
            workspaces=self.workspaces,
            scopes=self.scopes,
            expires_at=self.expires_at,
            info=self.info if isinstance(self.info, Raw) else None,
            session=self.session,
            session_version=self.session_version,
        )


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Held).decode


class Tickets:
    """The tickets of all nodes on one store, which sees only their digests."""

    __slots__ = ("_keys", "_now", "_store")

    def __init__(self, store: Store, keys: Keys, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._keys = keys
        self._now = now

    async def issue(self, identity: Identity) -> str:
        """Return a ticket that stands for ``identity`` once.

        Raises:
            StoreError: there is no ticket.
        """
        ticket = secrets.token_urlsafe(24)
        await self._store.execute(
            "SET", self._key(ticket), _encode(_Held.of(identity)), "EX", TICKET_LIFETIME_S
        )
        return ticket

    async def redeem(self, ticket: str) -> Identity:
        """Return the identity behind ``ticket``, which is used up.

        Raises:
            Unauthorized: it is unknown, used, too old, or its token's time is over.
            StoreError: it could not be looked up; it may be used up.
        """
        found = None
        if len(ticket) <= _MAX_CHARACTERS:
            found = await self._store.execute("GETDEL", self._key(ticket))
        if not isinstance(found, bytes):
            raise Unauthorized("the ticket is unknown, used or older than 30 s: get a new one")
        identity = _decode(found).release()
        if identity.expires_at is not None and identity.expires_at <= self._now():
            raise Unauthorized("the token behind the ticket has expired")
        return identity

    def _key(self, ticket: str) -> str:
        digest = hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).hexdigest()
        return self._keys.ticket(digest)
