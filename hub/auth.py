"""Who is calling: tokens, login sessions, the API key, and the identity behind a request.

A token is proven here and nowhere else. Errors are one sentence and never repeat a token or
a key, because they travel to the caller and into logs.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Collection
from typing import Annotated

import jwt
import msgspec
from msgspec import Meta
from starlette.requests import HTTPConnection

from channels.errors import BadRequest, SettingsError, TokenExpired, Unauthorized
from channels.identity import ANONYMOUS, Identity
from channels.ids import Id
from hub.login_cookie import login_token_in
from hub.settings import MIN_SECRET_BYTES, Settings
from hub.tickets import Tickets
from services.auth_sessions import AuthSessions
from services.login_token import is_login_token

__all__ = [
    "TICKET_PARAMETER",
    "TOKEN_COOKIE",
    "Authenticator",
    "TokenVerifier",
    "check_api_key",
]

#: Cookie that carries a connection token: the only way to authenticate an EventSource.
TOKEN_COOKIE = "fanwire_token"  # noqa: S105 - a name
#: Query parameter that carries a one-use ticket.
TICKET_PARAMETER = "ticket"
#: Query parameters that look like a token in an address, where it would reach logs,
#: referrers and histories. They are refused, so that nobody gets used to them.
_FORBIDDEN_PARAMETERS = ("token", "access_token", "jwt", "authorization", "api_key")

#: Longest token that is looked at; a proxy's header limit is about the same.
_MAX_TOKEN_CHARACTERS = 8 * 1024
#: How far another machine's clock may be ahead when it says "not before" and "issued at".
_CLOCK_SKEW_S = 30
_MAX_NAMES = 256

_Time = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class _Claims(msgspec.Struct, frozen=True):
    """The claims that mean something here, with their exact types; others are ignored."""

    sub: Annotated[str, Meta(pattern=r"\A(?!\.{1,2}\Z)[A-Za-z0-9_.@-]{0,64}\Z")]
    exp: _Time
    iat: _Time | None = None
    nbf: _Time | None = None
    workspaces: Annotated[list[Id], Meta(max_length=_MAX_NAMES)] = []
    scopes: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=128)]], Meta(max_length=_MAX_NAMES)
    ] = []


class TokenVerifier:
    """Proves connection tokens: JWT, HS256 and nothing else, with a bounded life.

    ``sub`` and ``exp`` are required. Without a secret every token is refused; an insecure
    hub without a secret takes every token for an anonymous caller instead.
    """

    __slots__ = ("_audience", "_insecure", "_issuer", "_max_lifetime_s", "_now", "_secret")

    def __init__(
        self,
        secret: str | None,
        *,
        audience: str | None = None,
        issuer: str | None = None,
        max_lifetime_s: int = 30 * 86_400,
        insecure: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        if secret is not None and len(secret.encode("utf-8")) < MIN_SECRET_BYTES:
            raise SettingsError(f"a token secret must be at least {MIN_SECRET_BYTES} bytes")
        self._secret = secret
        self._audience = audience
        self._issuer = issuer
        self._max_lifetime_s = max_lifetime_s
        self._insecure = insecure
        self._now = now

    @classmethod
    def of(cls, settings: Settings) -> TokenVerifier:
        """Return the verifier that the settings describe."""
        return cls(
            settings.token_hmac_secret,
            audience=settings.token_audience,
            issuer=settings.token_issuer,
            max_lifetime_s=settings.token_max_lifetime_s,
            insecure=settings.insecure,
        )

    def verify(self, token: str) -> Identity:
        """Return who ``token`` says the caller is.

        Raises:
            TokenExpired: it was good and its time is over.
            Unauthorized: it is not one of ours.
        """
        if is_login_token(token) and not self._insecure:
            raise Unauthorized(
                "the token of a login session comes with the request or the handshake, as a "
                "cookie or as 'Authorization: Bearer'; here a JSON web token is expected"
            )
        if self._secret is None:
            if self._insecure:
                return ANONYMOUS
            raise Unauthorized("this hub takes no tokens: token_hmac_secret is not set")
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise Unauthorized(f"a token has at most {_MAX_TOKEN_CHARACTERS} characters")
        payload = self._prove(token, self._secret)
        try:
            claims = msgspec.convert(payload, _Claims)
        except msgspec.ValidationError as error:
            raise Unauthorized(f"the token's claims are wrong: {error}") from None
        self._check_times(claims)
        return Identity(
            user=claims.sub,
            workspaces=frozenset(claims.workspaces),
            scopes=frozenset(claims.scopes),
            expires_at=float(claims.exp),
            info=_raw(payload["info"]) if "info" in payload else None,
        )

    def _prove(self, token: str, secret: str) -> dict[str, object]:
        try:
            payload: dict[str, object] = jwt.decode(
                token,
                secret,
                algorithms=["HS256"],
                audience=self._audience,
                issuer=self._issuer,
                options={
                    "require": ["exp", "sub"],
                    "verify_aud": self._audience is not None,
                    "verify_iss": self._issuer is not None,
                    # The times are checked by us: with exact types, and bounded.
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "verify_sub": False,
                    "verify_jti": False,
                },
            )
        except jwt.InvalidSignatureError:
            raise Unauthorized("the token's signature is wrong") from None
        except jwt.InvalidAudienceError:
            raise Unauthorized("the token is for another audience") from None
        except jwt.InvalidIssuerError:
            raise Unauthorized("the token is from another issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthorized(f"the token has no claim {error.claim!r}") from None
        except jwt.InvalidAlgorithmError:
            raise Unauthorized("the token must be signed with HS256") from None
        # ValueError and RecursionError: what a hostile header can do to a JSON parser.
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Unauthorized("expected a JSON web token signed with HS256") from None
        return payload

    def _check_times(self, claims: _Claims) -> None:
        now = self._now()
        if claims.exp <= now:
            raise TokenExpired("the token has expired")
        if claims.exp - now > self._max_lifetime_s + _CLOCK_SKEW_S:
            raise Unauthorized(f"a token may live {self._max_lifetime_s} s at most")
        if claims.nbf is not None and claims.nbf > now + _CLOCK_SKEW_S:
            raise Unauthorized("the token is not valid yet")
        if claims.iat is not None and claims.iat > now + _CLOCK_SKEW_S:
            raise Unauthorized("the token was issued in the future")


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def check_api_key(
    settings: Settings, connection: HTTPConnection, *, schemes: Collection[str] = ("apikey",)
) -> None:
    """Let a caller of the server API pass, by ``X-API-Key`` or ``Authorization: apikey``.

    ``schemes`` are those of ``Authorization`` that may carry the key, in lower case.

    Raises:
        Unauthorized: the key is missing or wrong, or the hub has none.
    """
    if settings.insecure:
        return
    if settings.api_key is None:
        raise Unauthorized("the server API is closed: api_key is not set")
    given = connection.headers.get("x-api-key")
    if given is None:
        scheme, _, rest = connection.headers.get("authorization", "").partition(" ")
        given = rest.strip() if scheme.lower() in schemes else None
    if given is None:
        raise Unauthorized("expected an API key in the header X-API-Key")
    # Digests, so that not even the length can be measured.
    expected, got = (hashlib.sha256(key.encode()).digest() for key in (settings.api_key, given))
    if not hmac.compare_digest(expected, got):
        raise Unauthorized("the API key is wrong")


class Authenticator:
    """Finds out who sent an HTTP request or a WebSocket handshake."""

    __slots__ = ("_insecure", "_sessions", "_tickets", "_verifier")

    def __init__(
        self,
        verifier: TokenVerifier,
        tickets: Tickets,
        sessions: AuthSessions,
        *,
        insecure: bool = False,
    ) -> None:
        self._verifier = verifier
        self._tickets = tickets
        self._sessions = sessions
        self._insecure = insecure

    async def identity_of_token(self, connection: HTTPConnection) -> Identity:
        """Return who the token in the ``Authorization`` header or a cookie is.

        It is a connection token, or that of a login session, which is used by this. The header
        counts before the cookies, and of those the connection token first. Anonymous when
        there is none.

        Raises:
            BadRequest: there is a token in the address.
            Unauthorized, TokenExpired: the token is no good.
            StoreError: the login session cannot be looked up.
        """
        for name in _FORBIDDEN_PARAMETERS:
            if name in connection.query_params:
                raise BadRequest(
                    f"an address reaches logs, so {name!r} may not stand in it: send the token "
                    f"as 'Authorization: Bearer', as the cookie {TOKEN_COOKIE}, or exchange it "
                    "for a ticket at /connection/ticket"
                )
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            token = token.strip()
            if is_login_token(token):
                return await self._identity_of_session(token)
            return self._verifier.verify(token)
        if cookie := connection.cookies.get(TOKEN_COOKIE):
            return self._verifier.verify(cookie)
        if cookie := login_token_in(connection):
            return await self._identity_of_session(cookie)
        return ANONYMOUS

    async def _identity_of_session(self, token: str) -> Identity:
        try:
            return (await self._sessions.verify(token)).identity
        except Unauthorized:
            if self._insecure:
                return ANONYMOUS  # who may do everything there
            raise

    async def identity_of_request(self, connection: HTTPConnection) -> Identity:
        """Return who sent the request: by token, or by a one-use ticket in the address.

        A ticket is as good as the login session that it was given for. Raises like
        :meth:`identity_of_token`, and ``StoreError`` when a ticket cannot be looked up.
        """
        ticket = connection.query_params.get(TICKET_PARAMETER)
        identity = await self.identity_of_token(connection)
        if ticket is None or not identity.anonymous:
            return identity
        identity = await self._tickets.redeem(ticket)
        if identity.session and not self._insecure:
            found = await self._sessions.find(identity.user, identity.session)
            if found is None or found.version != identity.session_version:
                raise Unauthorized("the login session is over: log in again")
        return identity
