"""The client protocol: commands in, replies and pushes out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from channels.errors import BadRequest, PermissionDenied, StoreUnavailable
from channels.publication import check_json
from channels.wire import (
    Command,
    ConnectRequest,
    ConnectResult,
    DisconnectPush,
    Empty,
    ErrorReply,
    HistoryRequest,
    HistoryResult,
    Push,
    PushReply,
    Reply,
    StreamPosition,
    SubscribeRequest,
    SubscribeResult,
    UnsubscribePush,
    UnsubscribeRequest,
    decode_commands,
    encode,
)

from .strategies import json_values

METHODS = [
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "history",
    "presence",
    "presence_stats",
    "rpc",
    "send",
    "refresh",
    "sub_refresh",
    "ping",
]


def said(message):
    """Return what a message says, and check that it is one line."""
    text = encode(message)
    assert b"\n" not in text
    return json.loads(text)


class TestCommands:
    """Reading a frame."""

    @pytest.mark.parametrize("frame", [str, str.encode])
    def test_reads_a_frame_of_several_commands_in_order(self, frame):
        """Official clients send connect and every subscribe in one frame, text or bytes."""
        text = (
            '{"id":1,"connect":{"token":"t","name":"js","version":"5.5.0"}}\n'
            '{"id":2,"subscribe":{"channel":"a","recover":true,"epoch":"e","offset":7,"flag":1}}\n'
            '{"id":3,"history":{"channel":"a","limit":-1,"since":{"offset":3,"epoch":"e"}}}\n'
            '{"id":4,"unsubscribe":{"channel":"a"}}\r\n{}\n'
        )
        assert decode_commands(frame(text)) == [
            Command(id=1, connect=ConnectRequest(token="t", name="js", version="5.5.0")),
            Command(
                id=2,
                subscribe=SubscribeRequest(channel="a", recover=True, epoch="e", offset=7, flag=1),
            ),
            Command(
                id=3,
                history=HistoryRequest(channel="a", limit=-1, since=StreamPosition(3, "e")),
            ),
            Command(id=4, unsubscribe=UnsubscribeRequest("a")),
            Command(),
        ]

    @pytest.mark.parametrize("method", METHODS)
    def test_reads_every_method_and_gives_only_that_one(self, method):
        """A method the hub does not serve is for the connection to refuse, not a bad frame."""
        request = {"channel": "a", "data": {"x": [1]}, "token": "t", "method": "m"}
        (command,) = decode_commands(json.dumps({"id": 1, method: request}))
        given_methods = [name for name in METHODS if getattr(command, name) is not None]
        assert given_methods == [method]
        (bare,) = decode_commands(json.dumps({"id": 1, method: None}))
        assert bare == Command(id=1)

    @pytest.mark.parametrize("method", ["connect", "presence", "rpc", "ping", "refresh"])
    @pytest.mark.parametrize("request_", [[], 1, "x", True], ids=repr)
    def test_a_request_is_an_object(self, method, request_):
        """Served or not."""
        with pytest.raises(BadRequest):
            decode_commands(json.dumps({"id": 1, method: request_}))

    @given(json_values)
    def test_published_data_is_carried_verbatim(self, value):
        """The bytes of data are those of the frame."""
        data = json.dumps(value)
        (command,) = decode_commands(f'{{"id":1,"publish":{{"channel":"a","data":{data}}}}}')
        assert bytes(command.publish.data) == data.encode()

    @pytest.mark.parametrize("value", [b"null", b"0", b'""', b"{}"])
    def test_published_data_may_be_any_json(self, value):
        """null is data, not its absence."""
        frame = b'{"id":1,"publish":{"channel":"a","data":%b}}' % value
        assert bytes(decode_commands(frame)[0].publish.data) == value

    def test_published_data_still_has_to_be_checked(self):
        """Verbatim data is looked at for its structure only; check_json sees bad UTF-8."""
        (command,) = decode_commands(b'{"id":1,"publish":{"channel":"a","data":"\xff"}}')
        with pytest.raises(BadRequest):
            check_json(command.publish.data)

    @pytest.mark.parametrize("frame", ["", " ", "\n", " \r\n\n\t"], ids=repr)
    def test_a_frame_of_nothing_has_no_commands(self, frame):
        """The connection decides what an empty frame is."""
        assert decode_commands(frame) == []
        assert decode_commands(frame.encode()) == []

    def test_unknown_fields_and_methods_are_tolerated(self):
        """Newer clients send more than this hub knows."""
        frame = '{"id":1,"later":{},"connect":{"subs":{"a":{"offset":1}},"headers":{}}}'
        assert decode_commands(frame) == [Command(id=1, connect=ConnectRequest())]

    def test_two_methods_are_both_seen(self):
        """So that the connection can refuse the command."""
        (command,) = decode_commands('{"id":1,"ping":{},"unsubscribe":{"channel":"a"}}')
        assert (command.ping, command.unsubscribe) == (Empty(), UnsubscribeRequest("a"))

    def test_a_line_separator_of_unicode_separates_nothing(self):
        """Only newlines stand between commands; U+2028 may stand in a string."""
        frame = '{"id":1,"publish":{"channel":"a","data":"x\u2028y\u0085z"}}'
        (command,) = decode_commands(frame)
        assert json.loads(bytes(command.publish.data)) == "x\u2028y\u0085z"

    @pytest.mark.parametrize(
        "frame",
        [
            "[]",
            "null",
            "1",
            '"x"',
            "x",
            "{",
            '{"id":1}{"id":2}',
            '{"id":1}\n{"id":2}x',
            '{"id":-1}',
            '{"id":4294967296}',
            '{"id":99999999999999999999999999}',
            '{"id":1e400}',
            '{"id":1.5}',
            '{"id":"1"}',
            '{"id":true}',
            '{"id":null}',
            '{"id":1,"subscribe":{}}',
            '{"id":1,"subscribe":{"channel":1}}',
            '{"id":1,"subscribe":{"channel":"a","offset":-1}}',
            '{"id":1,"subscribe":{"channel":"a","offset":9007199254740992}}',
            '{"id":1,"subscribe":{"channel":"a","offset":"7"}}',
            '{"id":1,"subscribe":{"channel":"a","recover":1}}',
            '{"id":1,"subscribe":{"channel":"a","flag":"1"}}',
            '{"id":1,"history":{"channel":"a","limit":-2}}',
            '{"id":1,"history":{"channel":"a","limit":2147483648}}',
            '{"id":1,"publish":{"channel":"a"}}',
            '{"id":1,"publish":{"channel":"\\ud800","data":1}}',
            '{"id":1,"publish":{"channel":"a","data":"\ud800"}}',
            '{"id":1,"connect":{"token":null}}',
            '{"id":1,"connect":{"name":"' + "x" * 65 + '"}}',
            "\ufeff{}",
            "[" * 65_536,
            '{"id":1,"rpc":{"data":' + "[" * 65_000,
            '{"id":1,"publish":{"channel":"a","data":' + "[" * 32_000 + "]" * 32_000 + "}}",
            b"\xff",
            b'{"id":1,"connect":{"token":"\xff"}}',
        ],
        ids=lambda frame: ascii(frame[:50]),
    )
    def test_anything_else_is_a_bad_request(self, frame):
        """One error for everything, and the process lives."""
        with pytest.raises(BadRequest, match="expected a command of the Centrifugal protocol"):
            decode_commands(frame)

    @given(st.binary(max_size=200) | st.text(max_size=200))
    def test_any_frame_is_commands_or_a_bad_request(self, frame):
        """Nothing else is raised, whatever comes."""
        try:
            commands = decode_commands(frame)
        except BadRequest:
            return
        assert all(isinstance(command, Command) for command in commands)


class TestReplies:
    """Writing what clients read."""

    def test_an_empty_result_is_there(self):
        """Clients look the method up in the reply."""
        assert said(Reply(id=1, unsubscribe=Empty())) == {"id": 1, "unsubscribe": {}}
        assert said(Reply(id=2, publish=Empty())) == {"id": 2, "publish": {}}
        assert said(Reply(id=3, subscribe=SubscribeResult())) == {"id": 3, "subscribe": {}}
        assert said(Reply(id=4, history=HistoryResult())) == {"id": 4, "history": {}}

    def test_zero_values_are_left_out(self):
        """As the protocol's own servers do; client and version are always told."""
        reply = Reply(id=1, connect=ConnectResult(client="c1", version="fanwire 0.1.0"))
        assert said(reply) == {"id": 1, "connect": {"client": "c1", "version": "fanwire 0.1.0"}}

    def test_publications_are_embedded_as_they_are(self):
        """What was put together once is not encoded again."""
        result = SubscribeResult(
            recoverable=True,
            positioned=True,
            epoch="e",
            offset=7,
            publications=[Raw(b'{"offset":8,"data": 1 }')],
            recovered=True,
            was_recovering=True,
        )
        text = encode(Reply(id=2, subscribe=result))
        assert b'"publications":[{"offset":8,"data": 1 }]' in text
        assert json.loads(text)["subscribe"]["offset"] == 7

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (PermissionDenied("no"), {"code": 103, "message": "no"}),
            (
                # Where Redis is concerns nobody outside.
                StoreUnavailable("Redis at 10.0.0.7:6379: refused"),
                {
                    "code": 100,
                    "message": "the hub cannot reach its store; try again soon",
                    "temporary": True,
                },
            ),
        ],
    )
    def test_an_error_says_its_code_and_whether_to_retry(self, error, expected):
        """Clients retry by themselves what is temporary."""
        assert said(Reply(id=1, error=ErrorReply.of(error))) == {"id": 1, "error": expected}

    def test_pushes_are_wrapped(self):
        """A push has no id."""
        push = Push(channel="a", unsubscribe=UnsubscribePush(2500, "insufficient state"))
        assert said(PushReply(push)) == {
            "push": {"channel": "a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}
        }
        push = Push(disconnect=DisconnectPush(3001, "shutdown"))
        assert said(PushReply(push)) == {
            "push": {"disconnect": {"code": 3001, "reason": "shutdown"}}
        }
