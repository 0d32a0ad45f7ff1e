"""The cookie that carries the token of a login session.

Over TLS its name begins with ``__Host-``: a browser takes such a cookie from this very host
only, so that no other host of the domain can plant one. Scripts of a page never see it, and
requests that other sites cause carry it only when the user follows a link (``SameSite=Lax``).
"""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import Response

from services.auth_session import Issued

__all__ = [
    "LOGIN_COOKIE",
    "SECURE_LOGIN_COOKIE",
    "clear_login_cookie",
    "login_token_in",
    "set_login_cookie",
]

#: Its name over plain HTTP, which is for development.
LOGIN_COOKIE = "fanwire_session"
#: Its name over TLS.
SECURE_LOGIN_COOKIE = "__Host-fanwire_session"

_ATTRIBUTES = "Path=/; HttpOnly; SameSite=Lax"


def set_login_cookie(response: Response, issued: Issued, *, secure: bool = True) -> None:
    """Have the browser keep the token until the session's last end.

    ``secure`` off is for plain HTTP, where a browser takes no other: pass
    ``request.url.scheme == "https"`` where both occur.
    """
    session = issued.session
    left_s = int((session.ends_at - session.seen_at).total_seconds())
    # Written by hand: http.cookies would put quotes around a user with an @.
    response.headers.append("set-cookie", _cookie(issued.token, left_s, secure=secure))
    if secure:
        response.headers.append("set-cookie", _cookie("", 0, secure=False))


def clear_login_cookie(response: Response) -> None:
    """Have the browser forget the token. It is good until its session is revoked."""
    for secure in (True, False):
        response.headers.append("set-cookie", _cookie("", 0, secure=secure))


def login_token_in(connection: HTTPConnection) -> str:
    """Return the token that the cookie of a request carries, "" for none.

    Over TLS only the cookie that belongs there counts. Behind a proxy that ends TLS and does
    not say so both do, that one first.
    """
    cookies = connection.cookies
    token = cookies.get(SECURE_LOGIN_COOKIE, "")
    if token or connection.url.scheme in {"https", "wss"}:
        return token
    return cookies.get(LOGIN_COOKIE, "")


def _cookie(token: str, max_age_s: int, *, secure: bool) -> str:
    name = SECURE_LOGIN_COOKIE if secure else LOGIN_COOKIE
    ending = "; Secure" if secure else ""
    return f"{name}={token}; Max-Age={max_age_s}; {_ATTRIBUTES}{ending}"
