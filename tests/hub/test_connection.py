"""The state machine of one client, without sockets."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from channels.catalogue import Catalogue
from channels.errors import Disconnects, StoreUnavailable, TokenExpired, Unauthorized
from channels.identity import ANONYMOUS, Identity
from channels.position import Position
from channels.publication import Publication
from hub.access import Access
from hub.connection import Connection, ConnectionSettings
from hub.effects import Close, Effect, Join, Leave, Publish, ReadHistory, Send
from hub.wish import Wish
from services.snapshots import Snapshot

from .harness import OPEN, publication

WALL = 1_700_000_000.0
SETTINGS = ConnectionSettings(max_channels=3, max_waiting=20, max_history=10, reply_bytes=300)

ADA = Identity(user="ada", workspaces=frozenset({"w1", "w2"}), expires_at=WALL + 60)
TOKENS = {
    "": ANONYMOUS,
    "ada": ADA,
    "ada-later": Identity(user="ada", workspaces=frozenset({"w1", "w2"}), expires_at=WALL + 600),
    "ada-less": Identity(user="ada", workspaces=frozenset({"w1"}), expires_at=WALL + 600),
    "ada-lines": Identity(user="ada", info=msgspec.Raw(b'{\n"name":\r\n"Ada"}')),
    "eve": Identity(user="eve", workspaces=frozenset({"w1"})),
}


def authenticate(token: str) -> Identity:
    """Know a few tokens."""
    if token == "expired":
        raise TokenExpired("the token ended")
    if token not in TOKENS:
        raise Unauthorized("not a token of ours")
    return TOKENS[token]


class Wire:
    """A connection, with commands and replies as Python objects."""

    def __init__(
        self,
        catalogue: Catalogue = OPEN,
        *,
        insecure: bool = True,
        settings: ConnectionSettings = SETTINGS,
    ) -> None:
        self.now = 1000.0
        self.wall = WALL
        self.connection = Connection(
            "c1",
            access=Access(catalogue, insecure=insecure),
            authenticate=authenticate,
            settings=settings,
            version="test 1",
            now=self.now,
        )

    def send(self, *commands: object) -> list[Effect]:
        """Feed in one frame of commands."""
        return self.raw("\n".join(json.dumps(command) for command in commands))

    def raw(self, frame: str | bytes) -> list[Effect]:
        """Feed in a frame as it is."""
        return self.connection.receive(frame, self.now, self.wall)

    def wait(self, seconds: float, *, busy: bool = False) -> list[Effect]:
        """Let time pass; return what that brings."""
        self.now += seconds
        self.wall += seconds
        return self.connection.tick(self.now, busy=busy)

    def connect(self, token: str = "") -> Wire:
        """Connect; nothing else happens."""
        effects = self.send({"id": 1, "connect": {"token": token}})
        assert [Send] == [type(effect) for effect in effects]
        return self

    def subscribe(self, channel: str, id: int = 50) -> Wire:
        """Subscribe to a channel at its beginning."""
        self.send({"id": id, "subscribe": {"channel": channel}})
        self.connection.joined([], Position("e1", 0), None)
        return self


def reply(effects: list[Effect]) -> Any:
    """Return the one message that is sent."""
    [sent] = [effect for effect in effects if isinstance(effect, Send)]
    return json.loads(sent.data)


def messages(effects: list[Effect]) -> list[Any]:
    """Return the messages that are sent."""
    return [json.loads(effect.data) for effect in effects if isinstance(effect, Send)]


def closed_with(effects: list[Effect]) -> int:
    """Return the code of the close that the effects end with."""
    assert isinstance(effects[-1], Close)
    assert sum(isinstance(effect, Close) for effect in effects) == 1
    return effects[-1].disconnect.code


# -- connect -------------------------------------------------------------------------------


def test_connect_says_who_and_how() -> None:
    """The reply names the client, the version and the rhythm of pings."""
    wire = Wire()
    assert reply(wire.send({"id": 1, "connect": {}})) == {
        "id": 1,
        "connect": {"client": "c1", "version": "test 1", "ping": 25, "pong": True},
    }
    assert wire.connection.connected


def test_connect_tells_when_to_refresh() -> None:
    """A token with an end gives the seconds until shortly before it."""
    result = reply(Wire().send({"id": 1, "connect": {"token": "ada"}}))["connect"]
    assert (result["expires"], result["ttl"]) == (True, 50)


def test_second_connect_is_a_bad_request() -> None:
    """A connection connects once."""
    wire = Wire().connect()
    assert closed_with(wire.send({"id": 2, "connect": {}})) == 3501


def test_connect_without_an_id_is_a_bad_request() -> None:
    """A connect command must have an id, since it wants an answer."""
    assert closed_with(Wire().send({"connect": {}})) == 3501


def test_commands_before_connect_are_bad_requests() -> None:
    """Whoever has not said who it is may ask for nothing."""
    for command in ({"id": 1, "subscribe": {"channel": "a"}}, {"id": 1, "ping": {}}, {}):
        assert closed_with(Wire().send(command)) == 3501


def test_a_wrong_token_ends_the_connection_for_good() -> None:
    """3500 keeps the client from coming back with the same token."""
    effects = Wire().send({"id": 1, "connect": {"token": "forged"}})
    assert closed_with(effects) == 3500
    assert messages(effects) == []


def test_an_expired_token_is_an_error_that_clients_mend() -> None:
    """Error 109 makes the client fetch a token; the connection then ends as stale."""
    wire = Wire()
    assert reply(wire.send({"id": 1, "connect": {"token": "expired"}}))["error"]["code"] == 109
    assert closed_with(wire.wait(SETTINGS.connect_timeout_s)) == 3502


def test_connect_and_subscribe_in_one_frame() -> None:
    """Clients send both before the connect reply; they are taken in order, one at a time."""
    wire = Wire()
    effects = wire.send(
        {"id": 1, "connect": {}},
        {"id": 2, "subscribe": {"channel": "a"}},
        {"id": 3, "subscribe": {"channel": "b"}},
    )
    assert [Send, Join] == [type(effect) for effect in effects]
    assert effects[1].channel.name == "a"
    assert reply(wire.connection.joined([], Position("e1", 7), None))["id"] == 2
    [join] = wire.connection.proceed(wire.now, wire.wall)
    assert isinstance(join, Join)
    assert join.channel.name == "b"


# -- frames --------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", ["", "\n", "  \n \t\n", b"", b" \n"])
def test_empty_frames_are_bad_requests(frame: str | bytes) -> None:
    """A frame without a command means nothing."""
    assert closed_with(Wire().connect().raw(frame)) == 3501


@pytest.mark.parametrize(
    "frame",
    [
        "nonsense",
        "[1]",
        "null",
        '{"id":-1,"ping":{}}',
        '{"id":4294967296,"ping":{}}',
        '{"id":2,"subscribe":{}}',
        '{"id":2,"subscribe":{"channel":7}}',
        '{"id":2,"subscribe":{"channel":"a","offset":-1}}',
        '{"id":2,"publish":{"channel":"a"}}',
        '{"id":2,"history":{"channel":"a","limit":-2}}',
        '{"id":2,"subscribe":{"channel":"a"},"unsubscribe":{"channel":"a"}}',
        '{"subscribe":{"channel":"a"}}',
        b"\xff\xfe",
        b'{"id":2,"publish":{"channel":"a","data":"\xff"}}x',
        '{"id":2,"publish":{"channel":"a","data":' + "[" * 20_000 + "}}",
        '{"id":2,"connect":{"token":"\ud800"}}',
    ],
    ids=lambda frame: str(frame)[:40],
)
def test_malformed_commands_are_bad_requests(frame: str | bytes) -> None:
    """What is no command ends the connection with 3501 and a reason that fits its frame."""
    effects = Wire().connect().raw(frame)
    assert closed_with(effects) == 3501
    assert len(effects[-1].disconnect.reason.encode()) <= 123


def test_a_pong_is_nothing_but_two_braces() -> None:
    """A command that lacks its id is not taken for the pong that is due."""
    wire = Wire().connect()
    wire.wait(25)
    assert closed_with(wire.send({"subscribe": {"channel": "a"}})) == 3501


def test_whitespace_between_commands_is_ignored() -> None:
    """Lines may be indented, empty or end in a carriage return."""
    wire = Wire()
    effects = wire.raw('\n  {"id":1,"connect":{}}\r\n\n {"id":2,"unsubscribe":{"channel":"a"}} \n')
    assert [message["id"] for message in messages(effects)] == [1, 2]


def test_bytes_are_frames_too() -> None:
    """A binary frame carries the same text."""
    assert reply(Wire().raw(b'{"id":1,"connect":{}}'))["id"] == 1


def test_unknown_fields_are_tolerated() -> None:
    """Newer clients send more than the hub knows."""
    assert reply(Wire().send({"id": 1, "connect": {"subs": {}, "new": [1]}, "x": 1}))["id"] == 1


def test_commands_that_wait_are_limited() -> None:
    """More commands at once than may wait end the connection."""
    wire = Wire().connect()
    commands = [{"id": id, "unsubscribe": {"channel": "a"}} for id in range(2, 23)]
    assert closed_with(wire.send(*commands)) == 3013


def test_commands_that_wait_are_limited_across_frames() -> None:
    """A command that takes its time does not let the queue grow without bound."""
    wire = Wire().connect()
    assert [Join] == [type(e) for e in wire.send({"id": 2, "subscribe": {"channel": "a"}})]
    for id in range(3, 23):
        assert wire.send({"id": id, "unsubscribe": {"channel": "a"}}) == []
    assert closed_with(wire.send({"id": 23, "unsubscribe": {"channel": "a"}})) == 3013


# -- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"subscribe": {"channel": "nowhere:x"}}, 102),
        ({"subscribe": {"channel": "approvals:w9"}}, 103),
        ({"subscribe": {"channel": ""}}, 107),
        ({"subscribe": {"channel": "a b"}}, 107),
        ({"publish": {"channel": "approvals:w1", "data": 1}}, 103),
        ({"history": {"channel": "approvals:w9", "limit": 1}}, 103),
        ({"presence": {"channel": "approvals:w1"}}, 108),
        ({"presence_stats": {"channel": "approvals:w1"}}, 108),
        ({"rpc": {"method": "x", "data": {}}}, 108),
        ({"sub_refresh": {"channel": "approvals:w1", "token": "x"}}, 108),
        ({"ping": {}}, 108),
        ({"send": {"data": 1}}, 104),
        ({"fly": {}}, 104),
        ({}, 104),
        ({"refresh": {"token": "expired"}}, 109),
    ],
    ids=str,
)
def test_errors_have_their_codes(command: dict[str, object], code: int) -> None:
    """What cannot be done is answered with the protocol's code, and the connection goes on."""
    wire = Wire(Catalogue(), insecure=False).connect("ada")
    answer = reply(wire.send({"id": 2, **command}))
    assert (2, code) == (answer["id"], answer["error"]["code"])
    assert answer["error"]["message"]
    assert reply(wire.send({"id": 3, "unsubscribe": {"channel": "a"}}))["id"] == 3


def test_a_send_is_taken_without_a_word() -> None:
    """Messages to an application that is not there get no answer, before and after a ping."""
    wire = Wire().connect()
    assert wire.send({"send": {"data": {"x": 1}}}) == []
    wire.wait(25)
    assert wire.send({"send": {"data": {"x": 1}}}) == []
    assert closed_with(wire.wait(SETTINGS.pong_timeout_s)) == 3012


# -- subscribing ---------------------------------------------------------------------------


def test_subscribe_tells_the_position() -> None:
    """A fresh subscription stands at the top, and has its result even when all is zero."""
    wire = Wire().connect()
    [join] = wire.send({"id": 2, "subscribe": {"channel": "a", "flag": 1}})
    assert isinstance(join, Join)
    assert join.since is None
    assert reply(wire.connection.joined([], Position("e1", 7), None)) == {
        "id": 2,
        "subscribe": {"recoverable": True, "positioned": True, "epoch": "e1", "offset": 7},
    }


def test_subscribing_twice_is_error_105() -> None:
    """A channel that the client has, or is about to have, is not joined again."""
    wire = Wire().connect()
    wire.send({"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "subscribe": {"channel": "a"}})
    wire.connection.joined([], Position("e1", 0), None)
    assert reply(wire.connection.proceed(wire.now, wire.wall))["error"]["code"] == 105


def test_the_limit_of_channels_is_error_106() -> None:
    """One connection may have so many subscriptions, and a new one after leaving one."""
    wire = Wire().connect().subscribe("a").subscribe("b").subscribe("c")
    assert reply(wire.send({"id": 9, "subscribe": {"channel": "d"}}))["error"]["code"] == 106
    wire.send({"id": 10, "unsubscribe": {"channel": "b"}})
    assert [Join] == [type(e) for e in wire.send({"id": 11, "subscribe": {"channel": "d"}})]


def test_a_failed_join_frees_the_channel() -> None:
    """What failed may be tried again, and says whether that makes sense."""
    wire = Wire().connect()
    wire.send({"id": 2, "subscribe": {"channel": "a"}})
    error = reply(wire.connection.failed(StoreUnavailable("Redis is away")))["error"]
    assert (error["code"], error["temporary"]) == (100, True)
    assert [Join] == [type(e) for e in wire.send({"id": 3, "subscribe": {"channel": "a"}})]


def test_unsubscribing_twice_is_answered_twice() -> None:
    """Leaving what one is not in is no error."""
    wire = Wire().connect().subscribe("a")
    first = wire.send({"id": 3, "unsubscribe": {"channel": "a"}})
    assert Leave("a") == first[0]
    assert reply(first) == {"id": 3, "unsubscribe": {}}
    second = wire.send({"id": 4, "unsubscribe": {"channel": "a"}})
    assert reply(second) == {"id": 4, "unsubscribe": {}}
    assert len(second) == 1


# -- recovery ------------------------------------------------------------------------------


def recovering(flag: int = 1) -> Wire:
    """Return a connection that asks for what came after offset 3."""
    wire = Wire().connect()
    request = {"channel": "chat", "recover": True, "epoch": "e1", "offset": 3, "flag": flag}
    [join] = wire.send({"id": 2, "subscribe": request})
    assert isinstance(join, Join)
    assert Position("e1", 3) == join.since
    return wire


def test_recovered_publications_are_in_the_reply() -> None:
    """The reply repeats the position asked for and holds what came after it."""
    wire = recovering()
    missed = [publication(4), publication(5)]
    [sent] = wire.connection.joined(missed, Position("e1", 5), None)
    assert isinstance(sent, Send)
    assert sent.backlog
    result = json.loads(sent.data)["subscribe"]
    assert (result["recovered"], result["was_recovering"], result["offset"]) == (True, True, 3)
    assert [(pub["offset"], pub["data"]) for pub in result["publications"]] == [(4, 4), (5, 5)]


def test_nothing_missed_is_recovered() -> None:
    """A client that is at the top is told that it missed nothing."""
    result = reply(recovering().connection.joined([], Position("e1", 3), None))["subscribe"]
    assert result["recovered"]
    assert "publications" not in result


def test_what_cannot_be_recovered_is_told() -> None:
    """After a gap the reply has the new position, and no publications."""
    result = reply(recovering().connection.joined([], Position("e2", 9), "began anew"))["subscribe"]
    assert result["was_recovering"]
    assert "recovered" not in result
    assert (result["epoch"], result["offset"]) == ("e2", 9)


def test_a_client_may_refuse_what_is_not_recovered() -> None:
    """With flag 2 a gap is error 112, and the client is out of the channel."""
    wire = recovering(flag=3)
    effects = wire.connection.joined([], Position("e2", 9), "began anew")
    assert Leave("chat") == effects[0]
    assert reply(effects)["error"]["code"] == 112
    assert [Join] == [type(e) for e in wire.send({"id": 3, "subscribe": {"channel": "chat"}})]


def test_a_large_recovery_is_split() -> None:
    """The reply takes so many bytes; the rest follows as pushes, in order, nothing twice."""
    missed = [publication(offset, data=b'"' + b"x" * 50 + b'"') for offset in range(4, 14)]
    first, *rest = recovering().connection.joined(missed, Position("e1", 13), None)
    inside = [pub["offset"] for pub in json.loads(first.data)["subscribe"]["publications"]]
    after = [json.loads(send.data)["push"]["pub"]["offset"] for send in rest]
    assert inside
    assert after
    assert list(range(4, 14)) == inside + after
    assert all(send.backlog for send in (first, *rest))
    assert len(first.data) < SETTINGS.reply_bytes + 200


def test_one_large_publication_is_in_the_reply() -> None:
    """A publication that is larger than the limit alone still goes out."""
    missed = [publication(4, data=b'"' + b"x" * 500 + b'"'), publication(5)]
    first, second = recovering().connection.joined(missed, Position("e1", 5), None)
    assert len(json.loads(first.data)["subscribe"]["publications"]) == 1
    assert json.loads(second.data)["push"]["pub"]["offset"] == 5


# -- snapshots -----------------------------------------------------------------------------

STATE = Snapshot(b'{"a":1}', Position("e1", 7), "id-7")


@pytest.mark.parametrize(
    ("data", "wish"),
    [
        ({"snapshot": True}, Wish.ALWAYS),
        ({"snapshot": "gap"}, Wish.NEEDED),
        ({"snapshot": False}, Wish.NEVER),
        ({"an": "application's"}, Wish.NEVER),
        (["snapshot"], Wish.NEVER),
        (None, Wish.NEVER),
    ],
)
def test_a_client_says_whether_it_wants_the_state(data: object, wish: Wish) -> None:
    """In the data of its subscribe command; what else is there means nothing."""
    [join] = Wire().connect().send({"id": 2, "subscribe": {"channel": "a", "data": data}})
    assert isinstance(join, Join)
    assert join.snapshot is wish


@pytest.mark.parametrize(
    "data", [{"snapshot": 1}, {"snapshot": "yes"}, {"snapshot": True, "snapshot_bytes": -1}]
)
def test_a_wish_that_makes_no_sense_is_error_107(data: object) -> None:
    """And the channel is still to be had."""
    wire = Wire().connect()
    error = reply(wire.send({"id": 2, "subscribe": {"channel": "a", "data": data}}))["error"]
    assert error["code"] == 107
    assert [Join] == [type(e) for e in wire.send({"id": 3, "subscribe": {"channel": "a"}})]


def test_the_reply_has_the_state_and_its_position() -> None:
    """It counts as something that the client asked for, whatever its size."""
    wire = Wire().connect()
    wire.send({"id": 2, "subscribe": {"channel": "a", "data": {"snapshot": True}}})
    [sent] = wire.connection.joined([], STATE.position, None, STATE)
    assert isinstance(sent, Send)
    assert sent.backlog
    at = {"epoch": "e1", "offset": 7}
    result = json.loads(sent.data)["subscribe"]
    assert result["data"] == {"snapshot": {"a": 1}, "position": at}
    assert (result["epoch"], result["offset"]) == ("e1", 7)


def test_a_state_that_is_too_large_is_error_106() -> None:
    """The client is out of the channel; one that takes more says so."""
    settings = msgspec.structs.replace(SETTINGS, snapshot_bytes=6)
    wire = Wire(settings=settings).connect()
    wire.send({"id": 2, "subscribe": {"channel": "a", "data": {"snapshot": True}}})
    effects = wire.connection.joined([], STATE.position, None, STATE)
    assert Leave("a") == effects[0]
    error = reply(effects)["error"]
    assert (error["code"], "snapshot_bytes" in error["message"]) == (106, True)
    more = {"snapshot": True, "snapshot_bytes": 7}
    wire.send({"id": 3, "subscribe": {"channel": "a", "data": more}})
    result = reply(wire.connection.joined([], STATE.position, None, STATE))
    assert result["subscribe"]["data"]["snapshot"] == {"a": 1}


# -- losing --------------------------------------------------------------------------------


def test_lost_asks_the_client_to_come_back() -> None:
    """Code 2500 makes clients subscribe again, from their position."""
    wire = Wire().connect().subscribe("a")
    effects = wire.connection.lost("a")
    assert Leave("a") == effects[0]
    push = reply(effects)["push"]
    assert (push["channel"], push["unsubscribe"]["code"]) == ("a", 2500)
    assert [Join] == [type(e) for e in wire.send({"id": 3, "subscribe": {"channel": "a"}})]


def test_lost_before_connect_does_nothing() -> None:
    """Nobody is in a channel yet."""
    assert Wire().connection.lost("a") == []


def test_lost_while_joining_does_nothing() -> None:
    """The answer to the join says where the client stands."""
    wire = Wire().connect()
    wire.send({"id": 2, "subscribe": {"channel": "a"}})
    assert wire.connection.lost("a") == []
    assert reply(wire.connection.joined([], Position("e1", 0), None))["id"] == 2


def test_lost_while_another_answer_is_awaited() -> None:
    """Only the channel that is being joined is left alone."""
    wire = Wire().connect().subscribe("a")
    wire.send({"id": 2, "subscribe": {"channel": "b"}})
    assert Leave("a") == wire.connection.lost("a")[0]
    wire.connection.joined([], Position("e1", 0), None)
    wire.send({"id": 3, "publish": {"channel": "a", "data": 1}})
    assert Leave("b") == wire.connection.lost("b")[0]


def test_lost_twice_and_after_leaving_does_nothing() -> None:
    """Whoever is not in a channel loses nothing there."""
    wire = Wire().connect().subscribe("a").subscribe("b")
    wire.connection.lost("a")
    assert wire.connection.lost("a") == []
    wire.send({"id": 3, "unsubscribe": {"channel": "b"}})
    assert wire.connection.lost("b") == []
    wire.connection.close(Disconnects.SHUTDOWN)
    assert wire.connection.lost("a") == []


# -- publishing and history ----------------------------------------------------------------


def test_publish_says_who_published() -> None:
    """The publication carries user, client and the token's info, on one line."""
    wire = Wire().connect("ada-lines")
    [effect] = wire.send({"id": 2, "publish": {"channel": "a", "data": {"x": [1]}}})
    assert isinstance(effect, Publish)
    assert bytes(effect.data) == b'{"x": [1]}'
    assert json.loads(effect.info) == {"user": "ada", "client": "c1", "conn_info": {"name": "Ada"}}
    assert b"\n" not in effect.info
    assert reply(wire.connection.published()) == {"id": 2, "publish": {}}


def test_a_failed_publish_keeps_the_subscription() -> None:
    """What fails for a publish has nothing to do with being subscribed."""
    wire = Wire().connect().subscribe("a")
    wire.send({"id": 2, "publish": {"channel": "a", "data": 1}})
    assert reply(wire.connection.failed(StoreUnavailable("away")))["error"]["code"] == 100
    assert list(wire.connection.channels) == ["a"]


@pytest.mark.parametrize(("asked", "limit"), [(0, 0), (5, 5), (10, 10), (11, 10), (-1, 10)])
def test_history_has_a_limit(asked: int, limit: int) -> None:
    """No limit means the position only, -1 as many as the hub gives at once."""
    [effect] = Wire().connect().send({"id": 2, "history": {"channel": "a", "limit": asked}})
    assert isinstance(effect, ReadHistory)
    assert (None, limit, False) == (effect.since, effect.limit, effect.reverse)


def test_history_goes_on_from_a_position() -> None:
    """A position and a direction are handed on, and the reply has the top of the log."""
    wire = Wire().connect()
    request = {"channel": "a", "limit": 2, "since": {"offset": 3, "epoch": "e1"}, "reverse": True}
    [effect] = wire.send({"id": 2, "history": request})
    assert isinstance(effect, ReadHistory)
    assert (Position("e1", 3), True) == (effect.since, effect.reverse)
    answer = reply(wire.connection.history_read([publication(2)], Position("e1", 9)))
    assert answer["history"] == {
        "publications": [{"offset": 2, "data": 2}],
        "offset": 9,
        "epoch": "e1",
    }


def test_history_of_another_epoch_is_error_112() -> None:
    """Publications of another history are not passed off as the continuation of this one."""
    wire = Wire().connect()
    wire.send({"id": 2, "history": {"channel": "a", "since": {"offset": 3, "epoch": "e1"}}})
    answer = reply(wire.connection.history_read([publication(4)], Position("e2", 9)))
    assert answer["error"]["code"] == 112


def test_a_history_reply_is_bounded_in_bytes() -> None:
    """A page holds what one message may hold; the client asks on from its last offset."""
    wire = Wire().connect()
    wire.send({"id": 2, "history": {"channel": "a", "limit": 10}})
    page = [publication(offset, data=b'"' + b"x" * 80 + b'"') for offset in range(1, 11)]
    found = reply(wire.connection.history_read(page, Position("e1", 10)))["history"]
    assert [pub["offset"] for pub in found["publications"]] == [1, 2]
    assert found["offset"] == 10


# -- time ----------------------------------------------------------------------------------


def test_a_client_that_never_connects_is_stale() -> None:
    """The deadline is known from the start."""
    wire = Wire()
    assert wire.now + 10 == wire.connection.deadline
    assert wire.wait(9.9) == []
    assert closed_with(wire.wait(0.2)) == 3502
    assert wire.connection.deadline is None


def test_pings_and_pongs() -> None:
    """The first ping is spread; each pong is followed by the next ping a full interval on."""
    wire = Wire().connect()
    first = wire.connection.deadline
    assert first is not None
    assert 12.5 <= first - wire.now <= 25
    assert [Send(b"{}")] == wire.wait(first - wire.now)
    wire.now += 4
    assert wire.raw("{}") == []
    assert first + 25 == wire.connection.deadline
    assert [Send(b"{}")] == wire.wait(21)


def test_no_pong_in_time() -> None:
    """A client that does not answer a ping is gone; other commands do not count as answer."""
    wire = Wire().connect()
    wire.wait(25)
    wire.send({"id": 2, "unsubscribe": {"channel": "a"}})
    assert wire.wait(9.9) == []
    assert closed_with(wire.wait(0.2)) == 3012


def test_nobody_is_blamed_for_a_pong_that_the_hub_did_not_read() -> None:
    """While the hub is at work for a client it reads nothing; the deadline moves."""
    wire = Wire().connect()
    wire.wait(25)
    assert wire.wait(10, busy=True) == []
    assert wire.wait(9.9) == []
    assert wire.raw("{}") == []
    wire.wait(25)
    assert wire.wait(10, busy=True) == []
    assert closed_with(wire.wait(10)) == 3012


def test_an_unsolicited_pong_is_a_bad_request() -> None:
    """A pong answers a ping, once."""
    assert closed_with(Wire().connect().raw("{}")) == 3501
    wire = Wire().connect()
    wire.wait(25)
    assert closed_with(wire.raw("{}\n{}")) == 3501


def test_the_end_of_the_token_is_the_end_of_the_connection() -> None:
    """3005 comes at the second the token ends, whatever else goes on."""
    wire = Wire().connect("ada").subscribe("a")
    wire.send({"id": 2, "subscribe": {"channel": "b"}})
    for _ in range(5):
        wire.wait(10, busy=True)
    assert closed_with(wire.wait(10, busy=True)) == 3005


# -- refreshing ----------------------------------------------------------------------------


def test_refresh_moves_the_end() -> None:
    """A new token of the same user goes on with the connection and all subscriptions."""
    wire = Wire().connect("ada").subscribe("a")
    answer = reply(wire.send({"id": 2, "refresh": {"token": "ada-later"}}))
    assert answer["refresh"] == {"client": "c1", "version": "test 1", "expires": True, "ttl": 590}
    wire.now += 59
    wire.connection.tick(wire.now)
    wire.raw("{}")
    assert all(not isinstance(effect, Close) for effect in wire.wait(2))
    assert list(wire.connection.channels) == ["a"]


def test_refresh_with_another_user_ends_the_connection() -> None:
    """What the client may see was decided for somebody else."""
    wire = Wire().connect("ada").subscribe("a")
    effects = wire.send({"id": 2, "refresh": {"token": "eve"}})
    assert closed_with(effects) == 3500
    assert Leave("a") in effects


def test_refresh_with_a_forged_token_ends_the_connection() -> None:
    """A token that was never good is no mistake."""
    assert closed_with(Wire().connect("ada").send({"id": 2, "refresh": {"token": "bad"}})) == 3500


def test_refresh_with_an_expired_token_keeps_the_old_end() -> None:
    """The client may try again until its first token ends."""
    wire = Wire().connect("ada")
    assert reply(wire.send({"id": 2, "refresh": {"token": "expired"}}))["error"]["code"] == 109
    assert wire.connection.identity == ADA


def test_refresh_with_fewer_rights_ends_subscriptions() -> None:
    """What the new token does not allow is over at once, and for good (2000)."""
    wire = Wire(Catalogue(), insecure=False).connect("ada")
    wire.subscribe("approvals:w1").subscribe("approvals:w2")
    effects = wire.send({"id": 2, "refresh": {"token": "ada-less"}})
    assert Leave("approvals:w2") in effects
    assert Leave("approvals:w1") not in effects
    push = messages(effects)[1]["push"]
    assert (push["channel"], push["unsubscribe"]["code"]) == ("approvals:w2", 2000)
    assert list(wire.connection.channels) == ["approvals:w1"]


# -- closing -------------------------------------------------------------------------------


def test_close_leaves_every_channel() -> None:
    """The last effect is the close; before it every channel is left."""
    wire = Wire().connect().subscribe("a").subscribe("b")
    assert [Leave("a"), Leave("b"), Close(Disconnects.SHUTDOWN)] == wire.connection.close(
        Disconnects.SHUTDOWN
    )


def test_nothing_follows_a_close() -> None:
    """Whatever is fed in afterwards has no effect."""
    wire = Wire().connect()
    wire.connection.close(Disconnects.SHUTDOWN)
    assert wire.send({"id": 2, "subscribe": {"channel": "a"}}) == []
    assert wire.connection.proceed(wire.now, wire.wall) == []
    assert wire.wait(1_000) == []
    assert wire.connection.close(Disconnects.SLOW) == []


@pytest.mark.parametrize(
    "command",
    [
        {"subscribe": {"channel": "a"}},
        {"publish": {"channel": "a", "data": 1}},
        {"history": {"channel": "a"}},
    ],
    ids=str,
)
def test_answers_after_a_close_say_nothing(command: dict[str, object]) -> None:
    """A close while an answer is awaited: it is not sent, and a late join is left again."""
    for fails in (True, False):
        wire = Wire().connect()
        wire.send({"id": 2, **command}, {"id": 3, "publish": {"channel": "a", "data": 1}})
        wire.connection.close(Disconnects.SHUTDOWN)
        expected: list[Effect] = []
        if fails:
            effects = wire.connection.failed(StoreUnavailable("away"))
        elif "subscribe" in command:
            effects = wire.connection.joined([], Position("e1", 0), None)
            expected = [Leave("a")]
        elif "publish" in command:
            effects = wire.connection.published()
        else:
            effects = wire.connection.history_read([], Position("e1", 0))
        assert expected == effects
        assert wire.connection.proceed(wire.now, wire.wall) == []


def test_an_answer_that_nobody_asked_for_is_a_bug_of_the_driver() -> None:
    """The machine does not guess."""
    with pytest.raises(AssertionError):
        Wire().connect().connection.published()


# -- anything ------------------------------------------------------------------------------

CHANNELS = st.sampled_from(["a", "b", "c", "d", "approvals:w1", "approvals:w2", "nowhere:x", ""])
TOKEN = st.sampled_from([*TOKENS, "expired", "forged"])
METHODS = st.one_of(
    st.fixed_dictionaries({"connect": st.fixed_dictionaries({"token": TOKEN})}),
    st.fixed_dictionaries({"refresh": st.fixed_dictionaries({"token": TOKEN})}),
    *[
        st.fixed_dictionaries(
            {
                "subscribe": st.fixed_dictionaries(
                    {"channel": CHANNELS, "recover": st.booleans(), "flag": st.integers(0, 3)}
                )
            }
        )
    ]
    * 3,
    st.fixed_dictionaries({"unsubscribe": st.fixed_dictionaries({"channel": CHANNELS})}),
    st.fixed_dictionaries(
        {"publish": st.fixed_dictionaries({"channel": CHANNELS, "data": st.integers()})}
    ),
    st.fixed_dictionaries({"history": st.fixed_dictionaries({"channel": CHANNELS})}),
    st.just({"rpc": {}}),
    st.just({"nonsense": {}}),
    st.just({}),
)


class AnyClient(RuleBasedStateMachine):
    """Random commands, answers, times and losses, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire(Catalogue(allow_undeclared=True), insecure=False)
        self.ids = 0
        self.asked: list[int] = []
        self.answered: Counter[int] = Counter()
        self.asking: Join | Publish | ReadHistory | None = None
        self.inside: set[str] = set()
        self.closed = False
        self.carry_out(self.wire.send({"id": 1_000_000, "connect": {"token": "ada"}}))
        self.answered.clear()

    def carry_out(self, effects: list[Effect]) -> None:
        """Do what the driver would, and check the order."""
        for index, effect in enumerate(effects):
            match effect:
                case Leave(channel):
                    self.inside.discard(channel)
                    continue
                case Send(data):
                    message = json.loads(data)
                    if "id" in message:
                        self.answered[message["id"]] += 1
                case Close():
                    self.closed = True
                    assert index == len(effects) - 1
                    continue
                case _:
                    assert self.asking is None
                    assert index == len(effects) - 1
                    self.asking = effect
            assert not self.closed, "an effect after the close"

    @rule(commands=st.lists(METHODS, min_size=1, max_size=6), pretty=st.booleans())
    def receive(self, commands: list[dict[str, object]], pretty: bool) -> None:
        """A frame of commands."""
        lines = []
        for command in commands:
            if command and not self.closed:
                self.ids += 1
                lines.append(json.dumps({"id": self.ids, **command}))
                self.asked.append(self.ids)
            else:
                lines.append(json.dumps(command))
        self.carry_out(self.wire.raw(("\r\n " if pretty else "\n").join(lines)))

    @rule(frame=st.one_of(st.text(max_size=10), st.binary(max_size=10)))
    def receive_garbage(self, frame: str | bytes) -> None:
        """A frame of anything."""
        self.carry_out(self.wire.raw(frame))

    @precondition(lambda self: self.asking is not None)
    @rule(
        fails=st.integers(0, 3),
        missed=st.integers(0, 8),
        gap=st.one_of(st.none(), st.just("trimmed")),
    )
    def answer(self, fails: int, missed: int, gap: str | None) -> None:
        """What was asked for is done, or fails."""
        asking, self.asking = self.asking, None
        connection = self.wire.connection
        publications: list[Publication] = [publication(offset) for offset in range(1, missed + 1)]
        top = Position("e1", missed)
        if fails == 0:
            effects = connection.failed(StoreUnavailable("away"))
        elif isinstance(asking, Join):
            self.inside.add(asking.channel.name)
            if asking.since is None or gap is not None:
                publications = []
            effects = connection.joined(publications, top, gap if asking.since else None)
        elif isinstance(asking, Publish):
            effects = connection.published()
        else:
            effects = connection.history_read(publications, top)
        self.carry_out(effects)
        self.carry_out(connection.proceed(self.wire.now, self.wire.wall))

    @rule(seconds=st.floats(0, 30), answers=st.booleans())
    def time(self, seconds: float, answers: bool) -> None:
        """Time passes."""
        effects = self.wire.wait(seconds, busy=self.asking is not None)
        self.carry_out(effects)
        if Send(b"{}") in effects and answers and self.asking is None:
            self.carry_out(self.wire.raw("{}"))

    @rule(channel=CHANNELS)
    def lose(self, channel: str) -> None:
        """A channel is lost."""
        self.carry_out(self.wire.connection.lost(channel))

    @precondition(lambda self: len(self.asked) > 20)
    @rule()
    def close(self) -> None:
        """The hub ends the connection."""
        self.carry_out(self.wire.connection.close(Disconnects.SHUTDOWN))

    @invariant()
    def nobody_is_left_behind(self) -> None:
        """Rooms hold whom the connection believes to be in."""
        if self.asking is None:
            assert self.inside == set(self.wire.connection.channels)
        if self.closed:
            assert not self.wire.connection.channels
            assert self.wire.connection.deadline is None

    @invariant()
    def every_command_is_answered_once(self) -> None:
        """No reply is missing, none comes twice."""
        assert all(count == 1 for count in self.answered.values())
        if not self.closed and self.asking is None:
            assert set(self.asked) == set(self.answered)


TestAnyClient = AnyClient.TestCase
TestAnyClient.settings = hypothesis_settings(
    max_examples=150, stateful_step_count=25, deadline=None
)
