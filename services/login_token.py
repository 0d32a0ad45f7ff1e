"""The token of a login session: ``<user>~<session>.<secret>``.

The user says in which slot the session is, the public id which one it is, and the secret, 256
random bits, proves that the caller was given it. Only the SHA-256 of the secret is ever kept:
it has too many bits to be guessed from its digest, so no slow hash is needed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

from channels.errors import Unauthorized

__all__ = ["LoginToken", "is_login_token", "new_secret"]

_TOKEN = re.compile(r"\A([A-Za-z0-9_.@-]{1,64})~([A-Za-z0-9_-]{16})\.([A-Za-z0-9_-]{43})\Z")
_SECRET_BYTES = 32


def new_secret() -> str:
    """Return 256 random bits as 43 characters."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def is_login_token(token: str) -> bool:
    """Return whether ``token`` means to be one of these; no JSON web token holds a ``~``."""
    return "~" in token


class LoginToken(NamedTuple):
    """A token taken apart. ``str`` puts it together; ``repr`` keeps the secret to itself."""

    user: str
    session: str
    secret: str

    @classmethod
    def parse(cls, token: str) -> LoginToken:
        """Take a token apart; that it looks right proves nothing.

        Raises:
            Unauthorized: it does not look like one.
        """
        found = _TOKEN.match(token)
        if found is None:
            raise Unauthorized("expected the token of a login session: <user>~<session>.<secret>")
        return cls(found[1], found[2], found[3])

    @property
    def digest(self) -> str:
        """What is kept of the secret."""
        digest = hashlib.sha256(self.secret.encode("ascii")).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")

    def proves(self, digest: str) -> bool:
        """Return whether the secret is the one with ``digest``, in the same time for all."""
        return hmac.compare_digest(self.digest, digest)

    def __str__(self) -> str:
        return f"{self.user}~{self.session}.{self.secret}"

    def __repr__(self) -> str:
        return f"LoginToken({self.user!r}, {self.session!r}, ...)"
