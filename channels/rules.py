"""Named rules: who may subscribe to a channel, who may publish on it.

A rule is written as text, so that operators can write it in ``fanwire.toml`` too:
alternatives separated by ``|``, each a list of conditions joined by ``&``.

    nobody           no client at all (the server API and the services still may)
    anyone           every connection, anonymous ones too
    authenticated    whoever has a user id
    self             the channel's ``{user}`` is the caller
    member           the channel's ``{workspace}`` is one of the caller's workspaces
    scope:NAME       the caller's token carries the scope NAME
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .errors import SettingsError
from .identity import Identity

__all__ = ["Rule"]

_Condition = Callable[[Identity, Mapping[str, str]], bool]

_NAMED: dict[str, _Condition] = {
    "nobody": lambda _identity, _params: False,
    "anyone": lambda _identity, _params: True,
    "authenticated": lambda identity, _params: not identity.anonymous,
    "self": lambda identity, params: not identity.anonymous and params["user"] == identity.user,
    "member": lambda identity, params: params["workspace"] in identity.workspaces,
}
#: The channel parameter that a condition reads, where it reads one.
_NEEDS = {"self": "user", "member": "workspace"}
# A token lists its scopes separated by spaces, so none has one inside.
_SCOPE = re.compile(r"scope:(\S+)")


def _has_scope(scope: str) -> _Condition:
    return lambda identity, _params: scope in identity.scopes


class Rule:
    """A rule over an identity and the parameters of a channel's name."""

    __slots__ = ("_alternatives", "needs", "text")

    def __init__(self, text: str) -> None:
        """Read a rule.

        Raises:
            SettingsError: a condition is unknown.
        """
        self.text = text
        #: Parameters that a channel pattern must have for this rule to make sense.
        self.needs: set[str] = set()
        self._alternatives = [
            [self._condition(word.strip()) for word in alternative.split("&")]
            for alternative in text.split("|")
        ]

    def _condition(self, word: str) -> _Condition:
        if scope := _SCOPE.fullmatch(word):
            return _has_scope(scope[1])
        if word not in _NAMED:
            known = ", ".join([*_NAMED, "scope:NAME"])
            raise SettingsError(f"unknown condition {word!r} in rule {self.text!r}: use {known}")
        if word in _NEEDS:
            self.needs.add(_NEEDS[word])
        return _NAMED[word]

    def __repr__(self) -> str:
        return f"Rule({self.text!r})"

    def allows(self, identity: Identity, params: Mapping[str, str]) -> bool:
        """Return whether one alternative holds for the caller on this channel."""
        return any(
            all(condition(identity, params) for condition in conditions)
            for conditions in self._alternatives
        )
