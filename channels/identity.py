"""Who a token says the caller is."""

from __future__ import annotations

import msgspec

__all__ = ["ANONYMOUS", "Identity"]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The claims of a verified token that decide what the caller may do.

    ``user`` is empty for an anonymous caller. ``expires_at`` is Unix time in seconds; the
    end of the token is the end of every connection it opened. ``info`` is JSON that goes
    with the caller's own publications.

    Behind a login session, ``session`` is its public id and ``session_version`` counts its
    secrets: whoever was let in by an earlier one is let go when it is rotated.
    """

    user: str = ""
    workspaces: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    expires_at: float | None = None
    info: msgspec.Raw | None = None
    session: str = ""
    session_version: int = 0

    @property
    def anonymous(self) -> bool:
        """Whether nobody vouched for this caller."""
        return not self.user


ANONYMOUS = Identity()
