"""Which commands may share a connection."""

from __future__ import annotations

import pytest

from channels.errors import UsageError
from services.store.guard import check_shareable


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "subscribe"),
        (b"PUBLISH", "c", "BLOCK"),
        ("XREAD", "COUNT", 1, "STREAMS", "s", "0"),
        ("CLIENT", "ID"),
        ("PUBSUB", "NUMSUB"),
        (1,),
    ],
)
def test_ordinary_commands_pass(command) -> None:
    """What only looks like a troublemaker is let through."""
    check_shareable(command)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("sUbScribe", "c"), "listen"),
        ((b"EXEC",), "script"),
        (("BLPOP", "k", 1), "wait"),
        (("XREADGROUP", "GROUP", "g", "c", b"Block", 1, "STREAMS", "s", ">"), "wait"),
        (("CLIENT", "reply", "SKIP"), "changes"),
        (("HELLO", 2), "changes"),
        ((), "nothing"),
    ],
)
def test_troublemakers_are_told_why(command, why: str) -> None:
    """The error says what to do instead, or whom the command would hurt."""
    with pytest.raises(UsageError, match=why):
        check_shareable(command)
