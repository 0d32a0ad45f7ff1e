"""Declarations: a pattern builds names and reads them back."""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels import ChannelDeclaration, History, check_channel, events
from channels.catalogue import BUILT_IN
from channels.declaration import MAX_CHANNEL_LENGTH
from channels.errors import BadRequest, SettingsError

from .strategies import ids

CHARACTERS = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.@:#$/&=+!~%-")
FANCY = ChannelDeclaration("a.b:+x$:{self}/{class}~{_z}")


class TestNames:
    """Building and reading names."""

    @given(st.data())
    @pytest.mark.parametrize("declaration", [*BUILT_IN, FANCY], ids=lambda one: one.pattern)
    def test_a_name_reads_back_as_the_parameters_it_was_built_from(self, declaration, data):
        """Whatever the ids are: no two sets of ids share a name."""
        params = {
            name: data.draw(ids.filter(lambda one: len(one) <= 60)) for name in declaration.params
        }
        name = declaration.name(**params)
        assert declaration.match(name) == params
        assert check_channel(name) == name

    @given(st.text(max_size=300))
    def test_what_matches_is_what_was_built(self, text):
        """A name that a declaration recognises is the one it would build."""
        for declaration in (*BUILT_IN, FANCY):
            params = declaration.match(text)
            assert params is None or declaration.name(**params) == text

    @pytest.mark.parametrize(
        "name",
        [
            "session:w1:s1\n",
            "\nsession:w1:s1",
            "session:w1",
            "session:w1:",
            "session::s1",
            "session:w1:s1:x",
            "Session:w1:s1",
            "session:w1:{s1}",
            "session:w1:sé",
            "",
            "session:w1:" + "x" * 65,
            "xsession:w1:s1",
            "session:w1:s*",
            "session:w1:s1\x00",
        ],
    )
    def test_near_misses_do_not_match(self, name):
        """Case, length, every separator and both ends count."""
        declaration = BUILT_IN[0]
        assert declaration.pattern == "session:{workspace}:{session}"
        assert declaration.match(name) is None

    def test_characters_of_regular_expressions_are_literal(self):
        """Dots, plusses and dollars in a pattern mean themselves."""
        declaration = ChannelDeclaration("a.b:c+$:{x}")
        assert declaration.match("a.b:c+$:1") == {"x": "1"}
        assert declaration.match("aXb:c+$:1") is None
        assert declaration.match("a.b:cc:1") is None

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({}, "takes workspace, session; got none"),
            ({"workspace": "w"}, "takes workspace, session; got workspace"),
            ({"workspace": "w", "session": "s", "user": "u"}, "got workspace, session, user"),
            ({"workspace": "w:x", "session": "s"}, "workspace must be 1-64 characters"),
            ({"workspace": "w", "session": ""}, "session must be 1-64 characters"),
            ({"workspace": "w", "session": "s\n"}, "session must be 1-64 characters"),
        ],
    )
    def test_wrong_parameters_are_refused(self, params, message):
        """The message says what the pattern takes, or which value is no id."""
        with pytest.raises(BadRequest, match=message):
            BUILT_IN[0].name(**params)

    def test_a_name_is_never_longer_than_a_channel_may_be(self):
        """Four long ids do not fit: neither building nor reading pretends they do."""
        declaration = ChannelDeclaration("x:{a}:{b}:{c}:{d}")
        long = {one: one * 64 for one in "abcd"}
        with pytest.raises(BadRequest, match="1-255 characters"):
            declaration.name(**long)
        assert declaration.match("x:" + ":".join(long.values())) is None

    def test_reading_a_hostile_name_is_quick(self):
        """No almost-match takes long: a hundred times two within a second."""
        declaration = ChannelDeclaration("x:{a}:{b}:{c}:{d}")
        start = time.perf_counter()
        for _ in range(100):
            assert declaration.match("x:" + "a:" * 5_000) is None
            assert declaration.match("x:" + "a" * 253) is None
        assert time.perf_counter() - start < 1


class TestPatterns:
    """What can be declared."""

    @pytest.mark.parametrize(
        "pattern",
        [
            "",
            "a",
            "a:",
            ":b",
            ":{x}",
            "{x}:b",
            "a{x}:b",
            "a:{}",
            "a:{X}",
            "a:{x1}",
            "a:{x",
            "a:x}",
            "a:{{x}}",
            "a:{x!r}",
            "a:{x:>9}",
            "a b:c",
            "a:b\n",
            "a:b*",
            "a:b,c",
            'a:"',
            "a:\\",
            "ä:x",
            "a:" + "b" * MAX_CHANNEL_LENGTH,
        ],
    )
    def test_a_malformed_pattern_is_refused(self, pattern):
        """The message quotes it and says what was expected."""
        with pytest.raises(SettingsError, match="expected 'namespace:rest'"):
            ChannelDeclaration(pattern)

    @pytest.mark.parametrize(
        "pattern",
        ["a:{x}{y}", "a:{x}-{y}", "a:{x}.b.{y}", "a:{x}:{y}_{z}", "a:{x}" + "b" * 70 + "{y}"],
    )
    def test_a_pattern_with_more_than_one_reading_is_refused(self, pattern):
        """'a-b-c' could be a and b-c or a-b and c: somebody else's workspace."""
        with pytest.raises(SettingsError, match="more than one reading"):
            ChannelDeclaration(pattern)

    @pytest.mark.parametrize("pattern", ["a:{x}:{x}", "a:{x}/{y}/{x}"])
    def test_a_parameter_cannot_come_twice(self, pattern):
        """It would have two values."""
        with pytest.raises(SettingsError, match="names a parameter twice"):
            ChannelDeclaration(pattern)

    @pytest.mark.parametrize(
        "options", [{"root": "w"}, {"subscribe": "member"}, {"publish": "self | anyone"}]
    )
    def test_what_a_root_or_rule_reads_must_be_there(self, options):
        """Otherwise the first subscriber would find out."""
        with pytest.raises(SettingsError, match=r"has no parameter \{(w|workspace|user)\}"):
            ChannelDeclaration("a:{x}", **options)

    def test_closed_and_plain_unless_said_otherwise(self):
        """Who declares nothing but a pattern opens nothing."""
        declaration = ChannelDeclaration("a:{x}")
        assert (declaration.subscribe.text, declaration.publish.text) == ("nobody", "nobody")
        assert (declaration.presence, declaration.join_leave) == (False, False)
        assert declaration.history == History(size=2_000, ttl_s=300)
        assert declaration.namespace == "a"

    @pytest.mark.parametrize(
        "text", ['{"size":-1}', '{"size":100001}', '{"ttl_s":0}', '{"ttl_s":2592001}', '{"days":1}']
    )
    def test_history_is_bounded_where_it_is_read(self, text):
        """Settings outside the bounds, and unknown ones, are refused."""
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(text, type=History)


class TestData:
    """What a channel carries."""

    def test_a_channel_without_events_carries_any_json(self):
        """There is nothing to check beyond that it is JSON."""
        assert ChannelDeclaration("a:{x}").check_data(b"[1]") is None

    def test_a_channel_with_events_carries_only_those(self):
        """The event comes back decoded; a spoofed type of another channel does not pass."""
        text = (
            b'{"type":"%b","id":"e1","source":"/x","specversion":"1.0",'
            b'"time":"2026-01-02T03:04:05Z","data":{"user":"u1","notification":"n1"}}'
        )
        declaration = ChannelDeclaration("a:{x}", events=(events.NotificationResolved,))
        event = declaration.check_data(text % b"notification.resolved")
        assert isinstance(event, events.NotificationResolved)
        with pytest.raises(BadRequest, match=r"expected an event of type notification\.resolved"):
            declaration.check_data(text % b"approval.approved")


@given(st.text(max_size=300))
def test_a_channel_name_is_made_of_the_documented_characters(text):
    """1-255 of them, nothing else, and an error that does not repeat a huge name."""
    if 1 <= len(text) <= MAX_CHANNEL_LENGTH and set(text) <= CHARACTERS:
        assert check_channel(text) == text
        return
    with pytest.raises(BadRequest) as caught:
        check_channel(text)
    assert len(caught.value.message) < 1_100


def test_the_error_says_how_long_a_name_is():
    """Of a name that is too long the beginning stands there, and how much more it has."""
    with pytest.raises(BadRequest, match=r"got 'a{80}' and 176 more"):
        check_channel("a" * (MAX_CHANNEL_LENGTH + 1))


def test_every_channel_character_is_itself_in_json():
    """The wire text is put together without escaping names."""
    text = "".join(sorted(CHARACTERS))
    assert msgspec.json.encode(text) == f'"{text}"'.encode()
    assert check_channel(text) == text
