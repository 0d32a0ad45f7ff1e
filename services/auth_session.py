"""One login session, and the text that Redis holds of it (``lua/lib/auth.lua``)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from channels.errors import BadRequest
from channels.identity import Identity
from channels.ids import Id

__all__ = ["AuthSession", "Claims", "Issued", "Record", "encode_claims", "from_ms"]

#: Names a session may carry, the same number as a connection token.
MAX_NAMES = 256

_Text = Annotated[str, Meta(max_length=128)]


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a login session says of its user, and from where it was begun."""

    workspaces: Annotated[list[Id], Meta(max_length=MAX_NAMES)] = []
    scopes: Annotated[
        list[Annotated[str, Meta(pattern=r"\A\S{1,128}\Z")]], Meta(max_length=MAX_NAMES)
    ] = []
    device: _Text = ""
    user_agent: Annotated[str, Meta(max_length=512)] = ""
    address: _Text = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Claims).decode


def encode_claims(claims: Claims) -> bytes:
    """Return the claims as Redis holds them.

    Raises:
        BadRequest: a name is none, there are too many, or a text is too long.
    """
    try:
        text = _encode(claims)
        _decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadRequest(f"a login session cannot have these claims: {error}") from None
    return text


class AuthSession(msgspec.Struct, frozen=True, kw_only=True):
    """A login session as it may be shown: with its public id, without its secret.

    It is over at ``expires_at`` unless it is used before, and at ``ends_at`` in any case.
    ``seen_at`` is at most a minute old when it is in use. ``version`` counts its secrets.
    """

    id: str
    user: str
    workspaces: frozenset[str]
    scopes: frozenset[str]
    device: str
    user_agent: str
    address: str
    version: int
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    ends_at: datetime

    @property
    def identity(self) -> Identity:
        """Who a caller with its secret is.

        A connection lives as long as the session, so its end is the session's last one;
        whoever serves it learns of an earlier one from ``auth:{user}``.
        """
        return Identity(
            user=self.user,
            workspaces=self.workspaces,
            scopes=self.scopes,
            expires_at=self.ends_at.timestamp(),
            session=self.id,
            session_version=self.version,
        )


class Issued(NamedTuple):
    """A session and its token, which exists here and at its owner's, and nowhere else."""

    token: str
    session: AuthSession

    def __repr__(self) -> str:
        return f"Issued(token=..., session={self.session!r})"


class Record(NamedTuple):
    """The text in Redis, read. Times are in ms."""

    digest: str
    version: int
    created: int
    seen: int
    expires: int
    ends: int
    idle: int
    claims: bytes

    @classmethod
    def parse(cls, text: bytes) -> Record:
        """Read the text in Redis."""
        digest, version, created, seen, expires, ends, idle, _order, claims = text.split(b" ", 8)
        return cls(
            digest.decode("ascii"),
            int(version),
            int(created),
            int(seen),
            int(expires),
            int(ends),
            int(idle),
            claims,
        )

    def is_over(self, now_ms: int) -> bool:
        """Return whether its time is up."""
        return now_ms >= self.expires

    def session(self, user: str, id: str) -> AuthSession:
        """Return the session that is told of here."""
        claims = _decode(self.claims)
        return AuthSession(
            id=id,
            user=user,
            workspaces=frozenset(claims.workspaces),
            scopes=frozenset(claims.scopes),
            device=claims.device,
            user_agent=claims.user_agent,
            address=claims.address,
            version=self.version,
            created_at=from_ms(self.created),
            seen_at=from_ms(self.seen),
            expires_at=from_ms(self.expires),
            ends_at=from_ms(self.ends),
        )


def from_ms(time_ms: int) -> datetime:
    """Return a time in ms since 1970 as a datetime in UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)
