"""Publications: three texts, each containing the next, and one line each."""

import inspect
import json
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels import Position, Publication
from channels.errors import BadRequest, LimitExceeded
from channels.position import MAX_OFFSET
from channels.publication import (
    MAX_DATA_BYTES,
    MAX_DEPTH,
    check_json,
    encode_body,
    publication_prefix,
)

from .strategies import ids, json_values, texts

CHANNEL = "session:w1:s1"
channels = st.text("abcXYZ019_.@:#$/&=+!~%-", min_size=1, max_size=40)
offsets = st.integers(1, 2**53 - 1)
#: JSON as different programs spell it: spaced or not, escaped or not.
spelled = st.builds(
    lambda value, escape, indent: json.dumps(value, ensure_ascii=escape, indent=indent).encode(),
    json_values,
    st.booleans(),
    st.sampled_from([None, 0, 2]),
)


def message(channel, epoch, offset, id, body, key=""):
    """Return what the append script publishes: the same texts, put together."""
    prefix = publication_prefix(channel)
    return b"%b %d %b before %b %b%d,%b}}" % (
        epoch.encode(),
        offset,
        id.encode(),
        key.encode(),
        prefix,
        offset,
        body,
    )


def nested(depth):
    """Return JSON that nests ``depth`` deep, by turns in arrays and objects."""
    value = 0
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return msgspec.json.encode(value)


class TestCheckJson:
    """What may be published."""

    @given(spelled)
    def test_any_json_passes_and_is_one_line(self, text):
        """It says the same as before; without line ends inside it is the same bytes."""
        checked = check_json(text)
        assert b"\n" not in checked
        assert b"\r" not in checked
        assert json.loads(checked) == json.loads(text)
        if b"\n" not in text:
            assert checked == text

    @pytest.mark.parametrize(
        ("text", "checked"),
        [
            (b"[1,\n2]", b"[1, 2]"),
            (b"[1,\r\n2]", b"[1,  2]"),
            (b"\n1\n", b" 1 "),
            ('"\u2028\u2029\u0085"'.encode(), '"\u2028\u2029\u0085"'.encode()),
            (b'"\\ud83d\\ude00"', b'"\\ud83d\\ude00"'),
            (b'"\\u0000\\n\\r"', b'"\\u0000\\n\\r"'),
            (b'"\x7f"', b'"\x7f"'),
            (b'{"a":1,"a":2}', b'{"a":1,"a":2}'),
            (b"123456789012345678901234567890", b"123456789012345678901234567890"),
            (b"1e-999", b"1e-999"),
            (b"-0", b"-0"),
            (b"null", b"null"),
        ],
        ids=repr,
    )
    def test_odd_json_travels_as_it_is(self, text, checked):
        """Only line ends between tokens change; subscribers see what was sent."""
        assert check_json(text) == checked

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b" ",
            b"\n",
            b"hello",
            b"1 2",
            b"1\n2",
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"1e999",
            b"-1e999",
            b"1" * 5_000,
            b"01",
            b"+1",
            b"1.",
            b"truex",
            b"[1,]",
            b"{1:2}",
            b"'a'",
            b'"a\nb"',
            b'"a\rb"',
            b'"a\tb"',
            b'"\x00"',
            b'"\x1f"',
            b'"\\ud800"',
            b'"\\udc00"',
            b'"\\ud83d\\u0041"',
            b'{"\\ud800":1}',
            b'"\xff"',
            b"\xff",
            b'"\xed\xa0\x80"',
            b'"\xc0\xaf"',
            b"\xef\xbb\xbf1",
            b"\x0b1",
            b"[" * MAX_DATA_BYTES,
            b'{"a":' * 13_000,
        ],
        ids=lambda text: repr(text[:20]),
    )
    def test_anything_else_is_refused(self, text):
        """Not JSON, not UTF-8, out of range, or a bomb: one error, and the process lives."""
        with pytest.raises(BadRequest, match="data must be one JSON value in UTF-8"):
            check_json(text)

    @given(st.binary(max_size=300))
    def test_any_bytes_are_json_or_a_bad_request(self, text):
        """What passes, every reader of JSON can read."""
        try:
            checked = check_json(text)
        except BadRequest:
            return
        json.loads(checked.decode("utf-8"))

    def test_nesting_has_a_bound_of_its_own(self):
        """Exactly 100 levels pass; brackets inside strings do not count."""
        assert check_json(nested(MAX_DEPTH))
        with pytest.raises(BadRequest, match="must not nest deeper than 100"):
            check_json(nested(MAX_DEPTH + 1))
        with pytest.raises(BadRequest, match="must not nest deeper than 100"):
            check_json(nested(MAX_DEPTH + 400))
        for text in (b'["' + b'[\\"' * 200 + b'"]', b'"' + b"\\\\" * 5 + b"[{" * 200 + b'"'):
            assert check_json(text) == text
        assert check_json(b"[" + b"[]," * 500 + b"{}]")

    def test_nesting_does_not_depend_on_the_stack(self):
        """What one caller may publish another may, however deep its own stack is."""

        def descend(levels):
            return check_json(nested(MAX_DEPTH)) if levels == 0 else descend(levels - 1)

        room = sys.getrecursionlimit() - len(inspect.stack())
        assert descend(room - MAX_DEPTH - 100) == nested(MAX_DEPTH)

    def test_size_has_a_bound(self):
        """64 KiB pass, a byte more does not; the size is judged before the content."""
        assert len(check_json(b'"' + b"x" * (MAX_DATA_BYTES - 2) + b'"')) == MAX_DATA_BYTES
        with pytest.raises(LimitExceeded, match="data is 65537 bytes; at most 65536 are allowed"):
            check_json(b"[" * (MAX_DATA_BYTES + 1))

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, msgspec.Raw])
    def test_takes_whatever_holds_bytes(self, kind):
        """The result is bytes of its own."""
        checked = check_json(kind(b'{"a":1}'))
        assert type(checked) is bytes
        assert checked == b'{"a":1}'


class TestTexts:
    """Putting a publication together and taking it apart."""

    @given(
        channels,
        ids,
        offsets,
        ids,
        spelled,
        st.none() | json_values,
        st.dictionaries(texts, texts, max_size=3),
    )
    def test_what_redis_says_is_what_the_log_says(
        self, channel, epoch, offset, id, text, info, tags
    ):
        """The live message and the log entry are the same publication, in every slice."""
        info = None if info is None else msgspec.json.encode(info)
        body = encode_body(check_json(text), info=info, tags=tags)
        live = Publication.from_message(
            channel, len(publication_prefix(channel)), message(channel, epoch, offset, id, body)
        )
        kept = Publication.from_log(channel, epoch, offset, id, body)
        for slot in ("channel", "epoch", "offset", "id", "wire", "position"):
            assert getattr(live, slot) == getattr(kept, slot)
        for part in ("wire", "push", "object", "data"):
            assert getattr(live, part) == getattr(kept, part)
            assert b"\n" not in getattr(live, part)
        assert live.position == Position(epoch, offset)
        assert (live.previous, kept.previous) == ("before", None)
        assert (live.key, kept.key) == ("", "")

        push = {"channel": channel, "pub": json.loads(live.object)}
        assert json.loads(live.wire) == {"push": push}
        assert json.loads(live.push) == push
        assert push["pub"]["offset"] == offset
        assert push["pub"]["data"] == json.loads(text) == json.loads(live.data)
        assert push["pub"].get("tags", {}) == tags
        assert ("info" in push["pub"]) == (info is not None)
        assert live.data == check_json(text).strip()

    def test_the_texts_look_as_documented(self):
        """The exact bytes are wire format."""
        body = encode_body(b'{"a":1}', info=b'{"user":"u1"}', tags={"k": "v"})
        assert body == b'"data":{"a":1},"info":{"user":"u1"},"tags":{"k":"v"}}'
        publication = Publication.from_log("c", "e1", 7, "i1", encode_body(b"1"))
        assert publication.wire == b'{"push":{"channel":"c","pub":{"offset":7,"data":1}}}'
        assert publication.push == b'{"channel":"c","pub":{"offset":7,"data":1}}'
        assert publication.object == b'{"offset":7,"data":1}'
        assert publication.data == b"1"
        assert repr(publication) == "Publication('c', e1:7, id='i1')"

    @given(channels, offsets, spelled, st.integers(1, MAX_OFFSET))
    def test_what_was_skipped_stands_after_the_offset(self, channel, offset, text, count):
        """The same publication, with one field more, in both texts; the shared one is untouched."""
        publication = Publication.from_log(channel, "e", offset, "i", encode_body(check_json(text)))
        wire = publication.wire
        told = json.loads(publication.skipping(count))
        assert list(told["push"]["pub"])[:3] == ["offset", "skipped", "data"]
        assert told["push"] == json.loads(publication.push_skipping(count))
        assert told["push"]["pub"].pop("skipped") == count
        assert told == json.loads(wire)
        assert publication.wire is wire

    def test_the_text_of_skipping_looks_as_documented(self):
        """The exact bytes are wire format."""
        publication = Publication.from_log("c", "e1", 9, "i1", encode_body(b"[1,2]"))
        push = b'{"channel":"c","pub":{"offset":9,"skipped":2,"data":[1,2]}}'
        assert publication.push_skipping(2) == push
        assert publication.skipping(2) == b'{"push":%b}' % push

    @pytest.mark.parametrize("count", [0, -1])
    def test_nothing_was_skipped_is_not_said(self, count):
        """Whoever skipped nothing sends the shared text."""
        publication = Publication.from_log("c", "e1", 9, "i1", encode_body(b"1"))
        with pytest.raises(ValueError, match=f"at least 1 publication; got {count}"):
            publication.skipping(count)
        with pytest.raises(ValueError, match=f"at least 1 publication; got {count}"):
            publication.push_skipping(count)

    @pytest.mark.parametrize("key", ["", "job.progress:j1", "x" * 128])
    def test_a_message_brings_its_conflation_key(self, key):
        """An empty one is none; the wire text never holds it."""
        text = message(CHANNEL, "e1", 7, "i1", encode_body(b'"a b"'), key)
        publication = Publication.from_message(CHANNEL, len(publication_prefix(CHANNEL)), text)
        assert publication.key == key
        assert (
            publication.wire
            == Publication.from_log(CHANNEL, "e1", 7, "i1", encode_body(b'"a b"')).wire
        )

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"x",
            b"e 7 i",
            b"e 7 i h",
            b"e 7 i h k",
            b"e 7 i h k {}",
            b'e 7 i h k {"push":',
            b'e 7 i h k {"push":{"channel":"session:w1:s1","pub":{"offset":7,"data":1}',
            b'e 7 i h k {"push":{"channel":"session:w1:s1:x","pub":{"offset":7,"data":1}}}',
            b'e 7 i h k {"push":{"channel":"s","pub":{"offset":7,"data":1}}}',
            b'e x i h k {"push":{"channel":"session:w1:s1","pub":{"offset":7,"data":1}}}',
            b'e 7 i \xff k {"push":{"channel":"session:w1:s1","pub":{"offset":7,"data":1}}}',
            b'\xff 7 i h k {"push":{"channel":"session:w1:s1","pub":{"offset":7,"data":1}}}',
            b'e 7 \xff h k {"push":{"channel":"session:w1:s1","pub":{"offset":7,"data":1}}}',
            b'e 7 i h \xff {"push":{"channel":"session:w1:s1","pub":{"offset":7,"data":1}}}',
            b'e 7 i h {"push":{"channel":"session:w1:s1","pub":{"offset":7,"data":1}}}',
            b'e 7 i h {"push":{"channel":"session:w1:s1","pub":{"offset":7,"data":"a b"}}}',
        ],
        ids=repr,
    )
    def test_a_message_that_is_not_ours_is_refused(self, text):
        """Truncated, of another channel, or somebody else's: a ValueError, not half a push."""
        with pytest.raises(ValueError):
            Publication.from_message(CHANNEL, len(publication_prefix(CHANNEL)), text)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_a_publication_or_a_value_error(self, text):
        """Whatever another program publishes on our Redis channels."""
        with pytest.raises(ValueError):
            Publication.from_message(CHANNEL, len(publication_prefix(CHANNEL)), text)

    def test_tags_are_text_that_json_can_say(self):
        """A lone surrogate would not survive UTF-8."""
        with pytest.raises(BadRequest, match="tags must be text"):
            encode_body(b"1", tags={"a": "\ud800"})
