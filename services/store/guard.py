"""Which commands cannot share a connection.

Everybody's commands stand in one line, so a command that changes the connection, makes
others wait or gets no reply of its own would hurt callers who have nothing to do with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from channels.errors import UsageError

from .port import Argument

__all__ = ["check_shareable"]

_USE_LISTEN = "use listen()"
_USE_SCRIPT = "use a script"
_BLOCKS = "it makes all other callers wait"
_CHANGES = "it changes the connection for all other callers"

_WHY_NOT = {
    "SUBSCRIBE": _USE_LISTEN,
    "PSUBSCRIBE": _USE_LISTEN,
    "SSUBSCRIBE": _USE_LISTEN,
    "UNSUBSCRIBE": _USE_LISTEN,
    "PUNSUBSCRIBE": _USE_LISTEN,
    "SUNSUBSCRIBE": _USE_LISTEN,
    "MULTI": _USE_SCRIPT,
    "EXEC": _USE_SCRIPT,
    "DISCARD": _USE_SCRIPT,
    "WATCH": _USE_SCRIPT,
    "UNWATCH": _USE_SCRIPT,
    "BLPOP": _BLOCKS,
    "BRPOP": _BLOCKS,
    "BRPOPLPUSH": _BLOCKS,
    "BLMOVE": _BLOCKS,
    "BLMPOP": _BLOCKS,
    "BZPOPMIN": _BLOCKS,
    "BZPOPMAX": _BLOCKS,
    "BZMPOP": _BLOCKS,
    "AUTH": _CHANGES,
    "ASKING": _CHANGES,
    "HELLO": _CHANGES,
    "MONITOR": _CHANGES,
    "PSYNC": _CHANGES,
    "QUIT": _CHANGES,
    "READONLY": _CHANGES,
    "READWRITE": _CHANGES,
    "RESET": _CHANGES,
    "SELECT": _CHANGES,
    "SYNC": _CHANGES,
}
#: A second word decides about these.
_SUSPECTS = {
    "XREAD": ("BLOCK", _BLOCKS),
    "XREADGROUP": ("BLOCK", _BLOCKS),
    "CLIENT": ("REPLY", _CHANGES),
}


def check_shareable(command: Sequence[Argument]) -> None:
    """Raise ``UsageError`` for an empty command and for one that needs its own connection."""
    if not command:
        raise UsageError("expected a command, got nothing")
    verdict = _verdict(command[0])
    if verdict is None:
        return
    word, why = verdict
    if word and word not in map(_word, command[1:]):
        return
    name = f"{_word(command[0])} {word}".rstrip()
    raise UsageError(f"{name} cannot go over the shared connection: {why}")


@lru_cache(maxsize=512)  # a program sends few different commands, each of them often
def _verdict(command: Argument) -> tuple[str, str] | None:
    """Return why not, and the word that must follow for it (or ``""``)."""
    name = _word(command)
    if name in _WHY_NOT:
        return "", _WHY_NOT[name]
    return _SUSPECTS.get(name)


def _word(argument: Argument) -> str:
    if isinstance(argument, bytes):
        argument = argument.decode("latin-1")
    return argument.upper() if isinstance(argument, str) else ""
