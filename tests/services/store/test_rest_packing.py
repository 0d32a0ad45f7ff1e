"""Commands as JSON: what can be sent, and what is refused before anything is."""

from __future__ import annotations

import pytest

from channels.errors import UsageError
from services.store.rest_packing import pack, pack_arguments


def test_everything_is_text() -> None:
    """Numbers too: JSON's own lose digits beyond 2^53."""
    assert pack(("SET", "k", 2**62, b"\xc5\xbe", "ž\0")) == ["set", "k", str(2**62), "ž", "ž\0"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("SET", "k", b"\xff"), "argument 2 of SET is not UTF-8"),
        ((b"\xff", "k"), "argument 0 of ÿ is not UTF-8"),
        (("SET", "k", "\ud800"), "SET holds a lone surrogate"),
        (("BLPOP", "k", 0), "BLPOP cannot go"),
        (("XREAD", "BLOCK", 0, "STREAMS", "k", "$"), "XREAD BLOCK cannot go"),
        (("SUBSCRIBE", "c"), "SUBSCRIBE cannot go"),
        ((), "expected a command"),
    ],
)
def test_what_cannot_be_sent(command: tuple[str | bytes | int, ...], message: str) -> None:
    """A bug in the caller, told before anything leaves."""
    with pytest.raises(UsageError, match=message):
        pack(command)


def test_what_is_no_argument() -> None:
    """The same error as over TCP."""
    with pytest.raises(TypeError, match="argument 1 of a script, got float"):
        pack_arguments("a script", ("a", 1.5))  # type: ignore[arg-type]
