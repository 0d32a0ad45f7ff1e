"""The conversation without I/O: against a model of a hub that cuts, forgets and trims."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from channels import Catalogue, Position
from channels.errors import BadRequest, HubError, NotAvailable, UsageError
from clients.conversation import Connected, Conversation, Ended, Joined, Over, Reply
from clients.delivery import Delivery, Gap, Snapshot

CHANNEL = "log:x"


def commands(conversation: Conversation) -> list[dict[str, Any]]:
    """Return what the conversation wants to send."""
    frame = conversation.take_outgoing()
    return [json.loads(line) for line in frame.split(b"\n")] if frame else []


def connected() -> Conversation:
    """Return a conversation whose connection was accepted."""
    conversation = Conversation(Catalogue())
    conversation.start("token")
    (command,) = commands(conversation)
    assert command["connect"]["token"] == "token"
    reply = {"id": command["id"], "connect": {"client": "c", "ping": 25, "pong": True}}
    assert conversation.receive(json.dumps(reply).encode()) == [Connected()]
    return conversation


def test_nothing_is_asked_for_before_the_connection_stands() -> None:
    """What is followed before is asked for with the first opportunity, all in one frame."""
    conversation = Conversation(Catalogue())
    conversation.follow("log:a")
    conversation.follow("log:b", Position("e", 3))
    assert commands(conversation) == []
    conversation.start()
    (connect,) = commands(conversation)
    conversation.receive(json.dumps({"id": connect["id"], "connect": {}}).encode())
    first, second = commands(conversation)
    assert "recover" not in first["subscribe"]
    wanted = {"channel": "log:b", "recover": True, "epoch": "e", "offset": 3}
    assert wanted.items() <= second["subscribe"].items()
    assert conversation.silence_s is None


def test_pings_are_answered_where_the_hub_wants_it() -> None:
    """One pong a ping; and silence longer than the ping plus grace is death."""
    conversation = connected()
    assert conversation.receive(b"{}") == []
    assert conversation.take_outgoing() == b"{}"
    assert conversation.silence_s == 35


def test_nothing_is_read_after_the_end() -> None:
    """A frame may go on behind a disconnect."""
    conversation = connected()
    frame = b'{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}\n{"id":1}\nnot json'
    (over,) = conversation.receive(frame)
    assert isinstance(over, Over)
    assert over.reconnect


def test_replies_of_another_time_mean_nothing() -> None:
    """An unknown id, and the reply for a channel that was left meanwhile."""
    conversation = connected()
    conversation.follow(CHANNEL)
    (first,) = commands(conversation)
    conversation.leave(CHANNEL)
    conversation.follow(CHANNEL)
    _, second = commands(conversation)
    late = {"id": first["id"], "subscribe": {"offset": 1, "epoch": "e", "recoverable": True}}
    assert conversation.receive(json.dumps(late).encode()) == []
    assert conversation.receive(b'{"id":4711,"subscribe":{}}') == []
    now = {**late, "id": second["id"]}
    assert conversation.receive(json.dumps(now).encode()) == [Joined(CHANNEL)]


def test_own_commands_are_answered_by_id() -> None:
    """With the result as it came, or with the error."""
    conversation = connected()
    first = conversation.ask("history", {"channel": CHANNEL})
    second = conversation.ask("history", {"channel": "log:y"})
    frame = (
        f'{{"id":{second},"error":{{"code":107,"message":"no"}}}}\n'
        f'{{"id":{first},"history":{{"offset":3}}}}'
    )
    refused, answered = conversation.receive(frame.encode())
    assert answered == Reply(first, b'{"offset":3}', None)
    assert isinstance(refused, Reply)
    assert isinstance(refused.error, BadRequest)


def joined_at(offset: int) -> Conversation:
    """Return a conversation that follows the channel from there."""
    conversation = connected()
    conversation.follow(CHANNEL)
    (command,) = commands(conversation)
    place = {"recoverable": True, "positioned": True, "epoch": "e", "offset": offset}
    reply = {"id": command["id"], "subscribe": place}
    assert conversation.receive(json.dumps(reply).encode()) == [Joined(CHANNEL)]
    return conversation


def pushed(conversation: Conversation, **pub: Any) -> Any:
    """Return the one thing that a publication leads to, or None."""
    push = {"push": {"channel": CHANNEL, "pub": {"data": 0, **pub}}}
    happened = conversation.receive(json.dumps(push).encode())
    assert len(happened) <= 1
    return happened[0] if happened else None


@pytest.mark.parametrize("skipped", [0, 1, 7])
def test_a_jump_of_what_was_skipped_is_no_loss(skipped: int) -> None:
    """Exactly so many offsets are left out, and the next one follows without."""
    conversation = joined_at(5)
    first = pushed(conversation, offset=6 + skipped, skipped=skipped)
    second = pushed(conversation, offset=7 + skipped)
    assert (first.position, first.skipped) == (Position("e", 6 + skipped), skipped)
    assert (second.position, second.skipped) == (Position("e", 7 + skipped), 0)


@pytest.mark.parametrize(
    ("offset", "skipped"), [(7, 0), (8, 1), (8, 3), (6, 1), (6, 2**53 - 1), (2**53 - 1, 1)]
)
def test_any_other_jump_is_a_loss(offset: int, skipped: int) -> None:
    """Too few or too many told: the connection is made anew, from the last good position."""
    conversation = joined_at(5)
    over = pushed(conversation, offset=offset, skipped=skipped)
    assert isinstance(over, Over)
    assert over.reconnect
    told = f" after {skipped} skipped" if skipped else ""
    assert f"expected offset {6 + skipped}{told} on 'log:x'; got {offset}" in str(over.error)
    conversation.start()
    (connect,) = commands(conversation)
    conversation.receive(json.dumps({"id": connect["id"], "connect": {}}).encode())
    (subscribe,) = commands(conversation)
    assert subscribe["subscribe"]["offset"] == 5


@pytest.mark.parametrize("skipped", [0, 1, 4])
def test_what_was_seen_is_not_seen_again(skipped: int) -> None:
    """Whatever it says was skipped before it."""
    assert pushed(joined_at(5), offset=5, skipped=skipped) is None


@pytest.mark.parametrize("skipped", ["2", -1, 1.5, 2**53])
def test_a_number_that_is_none_is_refused(skipped: object) -> None:
    """It would be believed."""
    assert isinstance(pushed(joined_at(5), offset=8, skipped=skipped), Over)


def test_mistakes_of_the_caller() -> None:
    """A channel that cannot be, and one that is followed already."""
    conversation = Conversation(Catalogue())
    with pytest.raises(BadRequest):
        conversation.follow("two words")
    conversation.follow(CHANNEL)
    with pytest.raises(UsageError):
        conversation.follow(CHANNEL)
    conversation.leave("log:unknown")


@pytest.mark.parametrize(
    "line", [b"[]", b"\xff", b'{"id":"x"}', b"[" * 9_000, b'{"push":{"pub":{}}}']
)
def test_garbage_ends_the_connection_only(line: bytes) -> None:
    """A new connection may help."""
    (over,) = connected().receive(line)
    assert isinstance(over, Over)
    assert over.reconnect
    assert isinstance(over.error, HubError)


class Hub(RuleBasedStateMachine):
    """A hub with one log; the conversation follows it through everything that can happen.

    The reader keeps what it was handed. What is checked: no publication is handed out twice
    or out of order, and none is missing unless a gap was told in its place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conversation = Conversation(Catalogue())
        self.conversation.follow(CHANNEL)
        self.epoch = 0
        self.log: list[int] = []
        self.trimmed = 0
        self.next_value = 0
        self.subscribed = False
        self.alive = False
        self.to_client: list[str] = []
        #: The values that were handed out, and -1 for a gap.
        self.handed: list[int] = []
        #: How many values before one of them it was told to have skipped.
        self.told: dict[int, int] = {}

    @initialize()
    def connect_first(self) -> None:
        """Begin connected."""
        self.connect()

    @rule()
    def connect(self) -> None:
        """Open a connection where there is none."""
        if not self.alive:
            self.alive = True
            self.subscribed = False
            self.to_client.clear()
            self.conversation.start()
            self.serve()

    @rule(count=st.integers(1, 5))
    def publish(self, count: int) -> None:
        """Append, and push to who is subscribed."""
        for _ in range(count):
            self.log.append(self.next_value)
            self.next_value += 1
            if self.subscribed:
                pub = {"offset": len(self.log), "data": self.log[-1]}
                self.send({"push": {"channel": CHANNEL, "pub": pub}})

    @rule(count=st.integers(1, 3))
    def conflate(self, count: int) -> None:
        """Append some and push the last, which tells that it supersedes the others."""
        for _ in range(count + 1):
            self.log.append(self.next_value)
            self.next_value += 1
        if self.subscribed:
            pub = {"offset": len(self.log), "skipped": count, "data": self.log[-1]}
            self.send({"push": {"channel": CHANNEL, "pub": pub}})

    @rule()
    def serve(self) -> None:
        """Execute what the client sent."""
        if not self.alive:
            return
        for command in commands(self.conversation):
            if "connect" in command:
                self.send({"id": command["id"], "connect": {"ping": 25, "pong": True}})
            elif "subscribe" in command:
                self.subscribed = True
                self.send({"id": command["id"], "subscribe": self.join(command["subscribe"])})

    def join(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a subscribe command as the protocol says."""
        top = {"epoch": f"e{self.epoch}", "offset": len(self.log)}
        result: dict[str, Any] = {"recoverable": True, "positioned": True, **top}
        after = request.get("offset", 0)
        same = request.get("epoch") == top["epoch"]
        if request.get("recover") and same and self.trimmed <= after <= len(self.log):
            pubs = [
                {"offset": offset, "data": self.log[offset - 1]}
                for offset in range(after + 1, len(self.log) + 1)
            ]
            result |= {"recovered": True, "offset": after, "publications": pubs}
        return result

    @rule(count=st.integers(1, 4))
    def deliver(self, count: int) -> None:
        """Let some of what is on its way arrive, as one frame."""
        if not self.alive or not self.to_client:
            return
        frame = "\n".join(self.to_client[:count]).encode()
        del self.to_client[:count]
        for happening in self.conversation.receive(frame):
            match happening:
                case Delivery(data=data, skipped=skipped):
                    self.handed.append(data)
                    self.told[data] = skipped
                case Gap(position=position):
                    assert position.epoch == f"e{self.epoch}"
                    self.handed.append(-1)
                case Over():
                    self.cut()
        self.serve()

    @rule()
    def cut(self) -> None:
        """Lose the connection and what was on its way."""
        self.alive = self.subscribed = False
        self.to_client.clear()
        self.conversation.stop()

    @rule()
    def doubt(self) -> None:
        """Ask the client to subscribe again."""
        if self.subscribed:
            self.subscribed = False
            unsubscribe = {"code": 2500, "reason": "doubt"}
            self.send({"push": {"channel": CHANNEL, "unsubscribe": unsubscribe}})

    @rule()
    def forget(self) -> None:
        """Lose all history, as the hub's clients are told: by the end of their subscription."""
        self.cut()
        self.epoch += 1
        self.log = []
        self.trimmed = 0

    @rule()
    def arrive(self) -> None:
        """Let everything arrive, and what the client answers be served, until all is quiet."""
        self.connect()
        while self.to_client:
            self.deliver(count=3)
            self.connect()

    @rule(count=st.integers(1, 3), how=st.sampled_from(["kept", "forgotten", "trimmed"]))
    def come_back(self, count: int, how: str) -> None:
        """Be away while something is published and perhaps lost, and catch up."""
        self.arrive()
        self.cut()
        if how == "forgotten":
            self.forget()
        self.publish(count)
        if how == "trimmed":
            self.trimmed = len(self.log)
        self.arrive()

    @rule()
    def repeat(self) -> None:
        """Push the newest publication once more."""
        if self.subscribed and self.log:
            pub = {"offset": len(self.log), "data": self.log[-1]}
            self.send({"push": {"channel": CHANNEL, "pub": pub}})

    @rule()
    def trim(self) -> None:
        """Drop the oldest half of the log."""
        self.trimmed = max(self.trimmed, len(self.log) // 2)

    @rule()
    def skip(self) -> None:
        """Lose one push on the way, silently: the bug that must not go unnoticed."""
        if self.subscribed:
            self.log.append(self.next_value)
            self.next_value += 1

    def send(self, message: dict[str, Any]) -> None:
        """Put a message on its way."""
        self.to_client.append(json.dumps(message))

    @invariant()
    def nothing_twice_and_in_order(self) -> None:
        """Values rise; whatever was handed out stays behind."""
        values = [value for value in self.handed if value >= 0]
        assert values == sorted(set(values))

    @invariant()
    def nothing_missing_without_a_gap(self) -> None:
        """Between two values that follow each other lies what was told, or a gap is told."""
        for before, after in itertools.pairwise(self.handed):
            if before >= 0 and after >= 0:
                assert after == before + 1 + self.told[after]


Hub.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestConversationModel = Hub.TestCase


# -- snapshots ------------------------------------------------------------------------------


def joining(conversation: Conversation) -> tuple[dict[str, Any], int]:
    """Return the subscribe request that goes out, and its id."""
    (command,) = commands(conversation)
    return command["subscribe"], command["id"]


def told(id_: int, offset: int, **result: Any) -> bytes:
    """Return a reply to it."""
    at = {"epoch": "e", "offset": offset}
    return json.dumps({"id": id_, "subscribe": {**at, "positioned": True, **result}}).encode()


def state(offset: int, value: object = "state") -> dict[str, Any]:
    """Return the data that tell a snapshot."""
    return {"snapshot": value, "position": {"epoch": "e", "offset": offset}}


def beginning() -> Conversation:
    """Return a conversation that was told the state of the channel at offset 3."""
    conversation = connected()
    conversation.follow(CHANNEL, snapshot=True)
    request, id_ = joining(conversation)
    assert request["data"]["snapshot"] == "gap"
    joined, snapshot = conversation.receive(told(id_, 3, data=state(3)))
    assert joined == Joined(CHANNEL)
    assert isinstance(snapshot, Snapshot)
    assert (snapshot.data, snapshot.position) == ("state", Position("e", 3))
    assert "Snapshot('log:x', e:3" in repr(snapshot)
    return conversation


def test_a_state_comes_first() -> None:
    """What comes after it continues it."""
    conversation = beginning()
    push = {"push": {"channel": CHANNEL, "pub": {"offset": 4, "data": 1}}}
    (delivery,) = conversation.receive(json.dumps(push).encode())
    assert isinstance(delivery, Delivery)
    assert delivery.position == Position("e", 4)


def test_who_goes_on_needs_no_state() -> None:
    """It asks for one in case it cannot, and takes none where it can."""
    conversation = beginning()
    conversation.start()
    connect_, *_ = commands(conversation)
    conversation.receive(json.dumps({"id": connect_["id"], "connect": {}}).encode())
    request, id_ = joining(conversation)
    assert (request["recover"], request["offset"], request["data"]["snapshot"]) == (True, 3, "gap")
    pubs = [{"offset": 4, "data": 1}]
    joined, delivery = conversation.receive(told(id_, 3, recovered=True, publications=pubs))
    assert joined == Joined(CHANNEL)
    assert isinstance(delivery, Delivery)


def test_after_a_gap_there_is_a_state() -> None:
    """The gap first, then what makes whole."""
    conversation = beginning()
    push = {"push": {"channel": CHANNEL, "unsubscribe": {"code": 2500, "reason": ""}}}
    assert conversation.receive(json.dumps(push).encode()) == []
    _, id_ = joining(conversation)
    joined, gap, snapshot = conversation.receive(told(id_, 9, data=state(9)))
    assert joined == Joined(CHANNEL)
    assert gap == Gap(CHANNEL, Position("e", 3), Position("e", 9))
    assert isinstance(snapshot, Snapshot)


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        ({}, NotAvailable),
        ({"data": {"snapshot": 1}}, HubError),
        ({"data": "nothing"}, HubError),
        ({"data": state(2)}, HubError),
    ],
)
def test_a_hub_without_the_state_ends_the_channel(
    result: dict[str, Any], kind: type[Exception]
) -> None:
    """Nobody goes on without the state it asked for."""
    conversation = connected()
    conversation.follow(CHANNEL, snapshot=True)
    _, id_ = joining(conversation)
    (ended,) = conversation.receive(told(id_, 3, **result))
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, kind)
    (command,) = commands(conversation)
    assert command["unsubscribe"] == {"channel": CHANNEL}
