"""Who a budget or a sum of usage belongs to: a user, a workspace or an organisation."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, cast, get_args

from .errors import BadRequest
from .ids import check_id

__all__ = ["Scope", "ScopeKind"]

ScopeKind: TypeAlias = Literal["user", "workspace", "org"]
_KINDS = get_args(ScopeKind)


class Scope(NamedTuple):
    """``str(scope)`` is ``kind:id``, as events and errors write it."""

    kind: ScopeKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Return the scope called ``text``.

        Raises:
            BadRequest: it is not ``user:ID``, ``workspace:ID`` or ``org:ID``.
        """
        kind, colon, id_ = text.partition(":")
        if not colon or kind not in _KINDS:
            expected = ", ".join(f"{known}:ID" for known in _KINDS)
            raise BadRequest(f"expected a scope ({expected}); got {text[:80]!r}")
        return cls(cast(ScopeKind, kind), check_id(id_, kind))
