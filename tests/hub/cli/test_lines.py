"""Cutting standard input into events and batches."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import LimitExceeded
from hub.cli.lines import BATCH_LINES, Line, LineReader, read_batches


def read(*chunks: bytes) -> list[Line]:
    """Return the lines of the chunks."""
    reader = LineReader()
    lines = [line for chunk in chunks for line in reader.feed(chunk)]
    return [*lines, *reader.finish()]


def data(line: Line) -> object:
    """Return what the line publishes."""
    return msgspec.json.decode(line.data or b"")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b"[1, 2]", [1, 2]),
        (b"42", 42),
        (b'"text"', "text"),
        (b"null", None),
        (b"plain text", {"line": "plain text"}),
        (b"  indented", {"line": "  indented"}),
        (b"{broken", {"line": "{broken"}),
        ('Grüße \u2028 "quoted"'.encode(), {"line": 'Grüße \u2028 "quoted"'}),
        (b"carriage\r", {"line": "carriage"}),
        (b"tab\tand\x00nul", {"line": "tab\tand\x00nul"}),
        (b'"\\ud800"', {"line": '"\\ud800"'}),
        (b"1e999", {"line": "1e999"}),
    ],
)
def test_json_is_published_as_it_is_and_text_as_a_line(text: bytes, expected: object) -> None:
    """Whatever the line holds, something that JSON can carry comes of it."""
    (line,) = read(text + b"\n")
    assert data(line) == expected
    assert not line.replaced


def test_blank_lines_are_skipped_and_counted() -> None:
    """Line numbers are those of the input."""
    assert [line.number for line in read(b"a\n\n  \nb\n")] == [1, 4]


def test_the_last_line_needs_no_end() -> None:
    """A file without a final line end loses nothing."""
    assert [data(line) for line in read(b"1\n2")] == [1, 2]
    assert read(b"") == []


def test_bytes_that_are_not_utf8_are_replaced_and_marked() -> None:
    """One odd byte does not stop a log."""
    (line,) = read(b"na\xefve\n")
    assert data(line) == {"line": "na\ufffdve"}
    assert line.replaced


def test_a_line_that_is_too_long_is_an_error_with_its_number() -> None:
    """It is noticed without keeping it, and the next line is fine."""
    lines = read(b"1\n", b"x" * 40_000, b"x" * 40_000, b"x" * 40_000 + b"\n2\n")
    assert [line.number for line in lines] == [1, 2, 3]
    assert isinstance(lines[1].error, LimitExceeded)
    assert data(lines[2]) == 2
    (quoted,) = read(b'"' * 40_000 + b"\n")
    assert isinstance(quoted.error, LimitExceeded)
    (endless,) = read(b"x" * 70_000)
    assert isinstance(endless.error, LimitExceeded)


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(0, 400)))
def test_where_the_input_is_cut_does_not_matter(lines: list[bytes], cuts: list[int]) -> None:
    """The same bytes in other chunks are the same events."""
    whole = b"\n".join(lines)
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    chunks = [whole[start:end] for start, end in itertools.pairwise(edges)]
    assert read(*chunks) == read(whole)


class Pipe:
    """A pipe whose reader waits in the test's own time."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe()
        self.now = 0.0
        self.script: list[bytes | None] = []

    def readable(self, fd: int, timeout_s: float | None) -> bool:
        """Do the next step of the script: write, let the time pass (None), or close."""
        if not self.script:
            if self.into >= 0:
                os.close(self.into)
                self.into = -1
            return True
        step = self.script.pop(0)
        if step is None:
            assert timeout_s is not None
            self.now += timeout_s
            return False
        os.write(self.into, step)
        return True

    def batches(self) -> list[list[object]]:
        """Return the data of each batch."""
        found = read_batches(self.out, clock=lambda: self.now, readable=self.readable)
        return [[data(line) for line in batch] for batch in found]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe that is closed afterwards."""
    made = Pipe()
    yield made
    os.close(made.out)
    if made.into >= 0:
        os.close(made.into)


def test_a_live_log_waits_fifty_milliseconds_at_most(pipe: Pipe) -> None:
    """What came is passed on when the first line has waited long enough."""
    pipe.script = [b"1\n", b"2\n", None, b"3\n", None]
    assert pipe.batches() == [[1, 2], [3]]
    assert pipe.now == pytest.approx(0.1)


def test_a_file_goes_in_full_batches(pipe: Pipe) -> None:
    """Nobody waits while there is more to read."""
    pipe.script = [b"".join(b"%d\n" % n for n in range(250))]
    assert [len(batch) for batch in pipe.batches()] == [BATCH_LINES, BATCH_LINES, 50]
    assert pipe.now == 0


def test_an_empty_input_has_no_batches(pipe: Pipe) -> None:
    """The end may come at once."""
    assert pipe.batches() == []


def test_reads_a_regular_file(tmp_path: object) -> None:
    """Where nothing can be waited for, everything is there."""
    file = os.path.join(str(tmp_path), "log")  # noqa: PTH118 - a descriptor is wanted
    with open(file, "wb") as out:  # noqa: PTH123 - as above
        out.write(b"1\n2\n")
    fd = os.open(file, os.O_RDONLY)
    assert [[data(line) for line in batch] for batch in read_batches(fd)] == [[1, 2]]
    os.close(fd)
