"""Cursors: what a browser remembers for us."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels import Position
from channels.cursor import CursorPosition, decode_cursor, encode_cursor, encode_cursor_part
from channels.position import MAX_OFFSET

from .strategies import ids

names = st.text("abc019_:", min_size=1, max_size=20)
seen = st.builds(
    CursorPosition,
    st.builds(Position, ids, st.integers(0, MAX_OFFSET)),
    ids | st.just(""),
)


def encode(positions):
    """Return the cursor of a reader that got as far as ``positions``."""
    return encode_cursor(
        encode_cursor_part(channel, at.position.epoch, at.position.offset, at.id)
        for channel, at in positions.items()
    )


@given(st.dictionaries(names, seen, max_size=8), st.randoms(use_true_random=False))
def test_a_cursor_reads_back_in_any_order(positions, random):
    """The order of the channels in the address does not matter."""
    channels = list(positions)
    random.shuffle(channels)
    assert decode_cursor(encode(positions).decode("ascii"), channels) == positions


@given(st.dictionaries(names, seen, min_size=1, max_size=4))
def test_a_cursor_is_one_line_that_an_event_source_can_carry(positions):
    """ASCII without line ends, NUL or spaces, so no browser ignores or changes it."""
    text = encode(positions).decode("ascii")
    assert text.isprintable()
    assert " " not in text


@given(st.dictionaries(names, seen, min_size=1, max_size=4))
def test_channels_added_later_are_absent(positions):
    """A new channel in the address has no position; the others keep theirs."""
    text = encode(positions).decode("ascii")
    assert decode_cursor(text, [*positions, "new:channel"]) == positions
    assert decode_cursor(text, ["new:channel"]) == {}


@given(st.text(max_size=100))
def test_garbage_is_nothing(text):
    """Whatever a client sends as its last event id: no error, and hardly ever a position."""
    assert decode_cursor(text, ["a:1", "b:2"]) == {}


TAG = encode_cursor_part("a:1", "e", 1, "i").decode().split(":")[0]


@given(st.lists(st.text(":,\n\0 019abc-+_\u0661", max_size=12), max_size=4).map(":".join))
def test_garbage_after_a_known_tag_is_harmless(rest):
    """Every position that comes out is a valid one."""
    for at in decode_cursor(f"{TAG}:{rest}", ["a:1"]).values():
        assert 0 <= at.position.offset <= MAX_OFFSET
        assert decode_cursor(encode({"a:1": at}).decode(), ["a:1"]) == {"a:1": at}


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "e",
        "e:1",
        "e:1:i:x",
        ":1:i",
        "e::i",
        "e:-1:i",
        "e:+1:i",
        "e:1.0:i",
        "e:1_0:i",
        "e: 1:i",
        "e:\u0661:i",
        "e:\u00b2:i",
        f"e:{MAX_OFFSET + 1}:i",
        "e:" + "9" * 5_000 + ":i",
        "e e:1:i",
        "e:1:i\n",
        "e\n:1:i",
        "e:1:" + "x" * 65,
        "{e}:1:i",
        "e*:1:i",
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_a_part_that_is_not_understood_is_absent(rest):
    """Absent means a gap that is told, never a position that was made up."""
    assert decode_cursor(f"{TAG}:{rest}", ["a:1"]) == {}


def test_a_broken_part_does_not_spoil_the_others():
    """Each channel stands for itself."""
    good = encode_cursor_part("b:2", "e", 2, "i").decode()
    expected = {"b:2": CursorPosition(Position("e", 2), "i")}
    assert decode_cursor(f"{TAG}:e:x:i,{good},,:::,nonsense", ["a:1", "b:2"]) == expected


def test_the_format_is_what_stored_cursors_have():
    """Browsers hold cursors across an upgrade of the hub."""
    part = encode_cursor_part("session:w1:s1", "Zm9vYmFy", 42, "evt-1")
    assert part == b"dPJ-0:Zm9vYmFy:42:evt-1"
    assert encode_cursor([part, part]) == part + b"," + part
    assert encode_cursor([]) == b""
