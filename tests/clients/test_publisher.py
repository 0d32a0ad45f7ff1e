"""The publishers: every promise is checked for the plain one and the asyncio one alike."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from typing import Any

import httpx
import msgspec
import pytest

from channels import Position, encode_event, events
from channels.errors import (
    BadRequest,
    HubError,
    HubOutcomeUnknown,
    HubUnavailable,
    LimitExceeded,
    MethodNotFound,
    PermissionDenied,
    TooManyRequests,
    Unauthorized,
    UnknownChannel,
    UsageError,
)
from clients import AsyncPublisher, Backoff, Patience, Publisher

from .fake_api import FakeApi, Fault, answer, serving, unreachable

EVENT = events.NotificationCreated(
    data=events.NotificationCreatedData(user="u1", notification="n1", title="Hello")
)
CHANNEL = "notifications:u1"


class Time:
    """A clock that moves only when somebody sleeps on it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.pauses.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        """Let time pass, in asyncio."""
        self.sleep(seconds)


class Harness:
    """Calls one kind of publisher from tests that know nothing of asyncio."""

    def __init__(self, kind: type[Publisher | AsyncPublisher]) -> None:
        self.kind = kind
        self.api = FakeApi()
        self.time = Time()

    def call(self, method: str, *args: Any, api_key: str = "", **named: Any) -> Any:
        """Call a method of a new publisher and close it."""
        [outcome] = self.calls((method, args, named), api_key=api_key)
        return outcome

    def calls(
        self,
        *calls: tuple[str, tuple[Any, ...], dict[str, Any]],
        api_key: str = "",
        unreached_s: float = inf,
    ) -> list[Any]:
        """Make calls with one new publisher and close it."""
        longest: Callable[[], Backoff] = partial(Backoff, uniform=lambda _low, high: high)
        patience = Patience(
            deadline_s=10, unreached_s=unreached_s, make_backoff=longest, clock=self.time
        )
        common = {
            "api_key": api_key,
            "patience": patience,
            "transport": httpx.MockTransport(self.api),
        }
        if self.kind is Publisher:
            with Publisher("http://hub", sleep=self.time.sleep, **common) as publisher:
                return [getattr(publisher, name)(*args, **named) for name, args, named in calls]

        async def run() -> list[Any]:
            async with AsyncPublisher("http://hub", sleep=self.time.asleep, **common) as publisher:
                return [
                    await getattr(publisher, name)(*args, **named) for name, args, named in calls
                ]

        return asyncio.run(run())


@pytest.fixture(params=[Publisher, AsyncPublisher], ids=["sync", "async"])
def harness(request: pytest.FixtureRequest) -> Harness:
    """A publisher of either kind before a fake hub."""
    return Harness(request.param)


def test_publishes_a_typed_event_with_its_id_as_key(harness: Harness) -> None:
    """An event arrives as it is encoded, and its id is the idempotency key."""
    assert harness.call("publish", CHANNEL, EVENT) == Position("e1", 1)
    assert harness.api.seen == {(CHANNEL, EVENT.id): 1}
    assert harness.api.logs[CHANNEL] == [msgspec.json.decode(encode_event(EVENT))]


def _commands(harness: Harness) -> list[dict[str, Any]]:
    """Return the publications that were asked for."""
    bodies = [msgspec.json.decode(request.content) for request in harness.api.requests]
    return [
        command.get("publish", command)
        for body in bodies
        for command in body.get("commands", [body])
    ]


def test_a_conflation_key_travels_with_the_publication(harness: Harness) -> None:
    """One by one, to many channels, and for all of many; without one the field is absent."""
    harness.call("publish", "log:x", 1, conflate="cpu:0")
    harness.call("broadcast", ["log:x", "log:y"], 1, conflate="cpu:0")
    harness.call("publish_many", [("log:x", 1), ("log:y", 2)], conflate="cpu:0")
    commands = _commands(harness)
    assert [command["conflate"] for command in commands] == ["cpu:0"] * 4
    harness.call("publish", "log:x", 1)
    harness.call("publish_many", [("log:x", 1)])
    assert all("conflate" not in command for command in _commands(harness)[4:])


@pytest.mark.parametrize("key", ["", "two words", "x" * 129])
def test_a_conflation_key_that_is_none_is_not_sent(harness: Harness, key: str) -> None:
    """The caller hears what a key looks like without asking the hub."""
    with pytest.raises(BadRequest, match="a conflation key is 1-128 characters"):
        harness.call("publish", "log:x", 1, conflate=key)
    with pytest.raises(BadRequest, match="a conflation key is 1-128 characters"):
        harness.call("broadcast", ["log:x"], 1, conflate=key)
    (outcome,) = harness.call("publish_many", [("log:x", 1)], conflate=key)
    assert isinstance(outcome, BadRequest)
    assert harness.api.requests == []


def test_publishing_the_same_event_twice_appears_once(harness: Harness) -> None:
    """The second answer is the position of the first."""
    assert harness.call("publish", CHANNEL, EVENT) == harness.call("publish", CHANNEL, EVENT)
    assert len(harness.api.logs[CHANNEL]) == 1


@pytest.mark.parametrize("value", [{"a": 1}, [1, 2], "text", 7, None, msgspec.Raw(b'{"a":\n1}')])
def test_publishes_any_json(harness: Harness, value: object) -> None:
    """Values that are no events are published as JSON, each under a key of its own."""
    harness.call("publish", "log:x", value)
    harness.call("publish", "log:x", value)
    expected = msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value
    assert harness.api.logs["log:x"] == [expected, expected]


def test_a_given_key_is_used(harness: Harness) -> None:
    """Two values under one key are one publication."""
    for value in (1, 2):
        harness.call("publish", "log:x", value, idempotency_key="k1")
    assert harness.api.logs["log:x"] == [1]


def test_a_lost_reply_publishes_once(harness: Harness) -> None:
    """The hub executed, the answer was lost, the retry finds the key: one publication."""
    harness.api.faults = [harness.api.lose_reply, harness.api.lose_reply]
    assert harness.call("publish", "log:x", {"n": 1}) == Position("e1", 1)
    assert harness.api.logs["log:x"] == [{"n": 1}]
    assert len(harness.api.requests) == 3
    assert len({request.content for request in harness.api.requests}) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
def test_tries_again_while_the_hub_is_away(harness: Harness, status: int) -> None:
    """Gateway faults and an overloaded hub are worth another try."""
    harness.api.faults = [answer(status), answer(status), unreachable]
    assert harness.call("publish", "log:x", 1) == Position("e1", 1)
    assert harness.time.pauses == [0.2, 0.4, 0.8]


def test_honours_retry_after(harness: Harness) -> None:
    """A hub that says when to come back is not asked earlier."""
    harness.api.faults = [answer(503, retry_after="3"), answer(429, retry_after="nonsense")]
    harness.call("publish", "log:x", 1)
    assert harness.time.pauses == [3.2, 0.4]


def test_gives_up_at_the_deadline_without_having_been_heard(harness: Harness) -> None:
    """Nothing ever reached the hub, so the error promises that nothing was published."""
    harness.api.faults = [unreachable] * 50
    with pytest.raises(HubUnavailable, match=r"not reached within 10 s.*connection refused"):
        harness.call("publish", "log:x", 1)
    assert harness.time.now <= 110
    assert harness.api.logs == {}


def test_gives_up_at_the_deadline_with_the_outcome_unknown(harness: Harness) -> None:
    """One try may have been executed, so the error does not promise anything."""
    harness.api.faults = [harness.api.lose_reply, *[unreachable] * 50]
    with pytest.raises(HubOutcomeUnknown, match="may have been executed"):
        harness.call("publish", "log:x", 1)
    assert harness.api.logs["log:x"] == [1]


def test_does_not_wait_for_a_retry_after_beyond_the_deadline(harness: Harness) -> None:
    """A pause that ends after the deadline is not begun."""
    harness.api.faults = [answer(503, retry_after="60")]
    with pytest.raises(HubOutcomeUnknown):
        harness.call("publish", "log:x", 1)
    assert harness.time.pauses == []


def test_a_hub_that_was_never_there_is_given_up_sooner(harness: Harness) -> None:
    """Nothing was sent, and the error says how long it was tried."""
    harness.api.faults = [unreachable] * 50
    with pytest.raises(HubUnavailable, match="within 2 s"):
        harness.calls(("publish", ("log:x", 1), {}), unreached_s=2)
    assert sum(harness.time.pauses) < 2
    assert harness.api.logs == {}


@pytest.mark.parametrize("first", [answer(429), answer(503)])
def test_a_hub_that_answered_is_awaited_longer(harness: Harness, first: Fault) -> None:
    """Whatever it said: something listens at this address."""
    publish = ("publish", ("log:x", 1), {})
    harness.api.faults = [first, *[unreachable] * 4]
    assert harness.calls(publish, unreached_s=2) == [Position("e1", 1)]
    assert sum(harness.time.pauses) > 2


def test_a_hub_that_was_there_before_is_awaited_longer(harness: Harness) -> None:
    """It is being started again."""
    publish = ("publish", ("log:x", 1), {})
    harness.api.faults = [None, *[unreachable] * 5]
    assert len(harness.calls(publish, publish, unreached_s=2)) == 2
    assert sum(harness.time.pauses) > 2


def test_a_wrong_key_is_unauthorized(harness: Harness) -> None:
    """The key goes into its header, and a refusal is final."""
    harness.api.faults = [answer(401, {"error": {"code": 101, "message": "wrong API key"}})]
    with pytest.raises(Unauthorized, match="wrong API key"):
        harness.call("publish", "log:x", 1, api_key="secret")
    assert [request.headers["X-API-Key"] for request in harness.api.requests] == ["secret"]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"", Unauthorized),
        (403, b"no", PermissionDenied),
        (404, b"<html>nginx</html>", MethodNotFound),
        (413, b"too large", LimitExceeded),
        (400, {"error": {"code": 107, "message": "bad"}}, BadRequest),
        (500, b"boom", HubOutcomeUnknown),
        (302, b"", HubOutcomeUnknown),
        (200, b"<html>hello</html>", HubOutcomeUnknown),
        (200, b"\xff\xfe", HubOutcomeUnknown),
        (200, b"[" * 5000, HubOutcomeUnknown),
        (200, {}, HubOutcomeUnknown),
        (200, {"result": {"offset": "seven"}}, HubOutcomeUnknown),
        (200, {"error": {"code": 103, "message": "no"}}, PermissionDenied),
        (200, {"error": {"code": 4711, "message": "odd"}}, HubError),
    ],
)
def test_other_answers_are_final(
    harness: Harness, status: int, body: object, kind: type[Exception]
) -> None:
    """What is not understood is told with what came, and is not tried again."""
    harness.api.faults = [answer(status, body)]
    with pytest.raises(kind):
        harness.call("publish", "log:x", 1)
    assert len(harness.api.requests) == 1


@pytest.mark.parametrize("code", [100, 111])
def test_temporary_errors_are_tried_again(harness: Harness, code: int) -> None:
    """The hub answered that it may work later."""
    harness.api.faults = [answer(200, {"error": {"code": code, "message": "busy"}})]
    assert harness.call("publish", "log:x", 1) == Position("e1", 1)


def test_a_hub_that_only_says_too_many_is_named(harness: Harness) -> None:
    """The last reason stands in the error."""
    harness.api.faults = [answer(200, {"error": {"code": 111, "message": "slow down"}})] * 50
    with pytest.raises(HubUnavailable, match="slow down"):
        harness.call("publish", "log:x", 1)
    assert TooManyRequests.temporary


@pytest.mark.parametrize("value", [object(), "\ud800", {1: object()}, msgspec.Raw(b"{")])
def test_what_is_not_json_is_refused_before_it_is_sent(harness: Harness, value: object) -> None:
    """No request is spent on it."""
    with pytest.raises(BadRequest):
        harness.call("publish", "log:x", value)
    assert harness.api.requests == []


def test_refuses_what_is_too_large_and_what_is_no_channel(harness: Harness) -> None:
    """Limits are checked where the data is, so that the error comes at once."""
    with pytest.raises(LimitExceeded, match="at most 65536"):
        harness.call("publish", "log:x", "x" * 70_000)
    with pytest.raises(BadRequest, match="channel name"):
        harness.call("publish", "two words", 1)
    assert harness.api.requests == []


def test_many_keep_their_order_and_tell_each_outcome(harness: Harness) -> None:
    """A refused item takes its place in the answer and stops nobody else."""
    harness.api.refuse["closed:x"] = (102, "unknown channel")
    items = [("log:x", 1), ("closed:x", 2), ("log:x", object()), ("log:x", 3)]
    first, refused, invalid, last = harness.call("publish_many", items)
    assert (first, last) == (Position("e1", 1), Position("e1", 2))
    assert isinstance(refused, UnknownChannel)
    assert isinstance(invalid, BadRequest)
    assert harness.api.logs["log:x"] == [1, 3]


def test_many_are_split_by_number_and_by_size(harness: Harness) -> None:
    """No request holds more than 100 publications or 256 KiB of data."""
    outcomes = harness.call("publish_many", [("log:x", n) for n in range(250)])
    assert [position.offset for position in outcomes] == list(range(1, 251))
    assert len(harness.api.requests) == 3
    harness.api.requests.clear()
    harness.call("publish_many", [("log:x", "x" * 60_000)] * 9)
    assert len(harness.api.requests) == 3


def test_replies_come_bare_or_as_a_result(harness: Harness) -> None:
    """Servers of this API differ here."""
    done = {"replies": [{"publish": {"offset": 4, "epoch": "e"}}]}
    harness.api.faults = [answer(200, done), answer(200, {"result": done})]
    for _ in range(2):
        assert harness.call("publish_many", [("log:x", 1)]) == [Position("e", 4)]


def test_none_are_published_without_a_request(harness: Harness) -> None:
    """An empty list needs no hub."""
    assert harness.call("publish_many", []) == []
    assert harness.api.requests == []


def test_many_with_a_lost_reply_appear_once_each(harness: Harness) -> None:
    """The whole batch is sent again, and each key is found."""
    harness.api.faults = [harness.api.lose_reply]
    harness.call("publish_many", [("log:x", n) for n in range(5)])
    assert harness.api.logs["log:x"] == [0, 1, 2, 3, 4]


def test_only_the_tail_of_temporary_failures_is_tried_again(harness: Harness) -> None:
    """A failure that a success followed is told, because a retry would break the order."""
    busy = {"error": {"code": 100, "message": "busy"}}
    done = {"publish": {"offset": 9, "epoch": "e0"}}
    harness.api.faults = [answer(200, {"replies": [busy, done, busy, busy]})]
    outcomes = harness.call("publish_many", [("log:x", n) for n in range(4)])
    assert isinstance(outcomes[0], HubError)
    assert outcomes[1:] == [Position("e0", 9), Position("e1", 1), Position("e1", 2)]
    assert harness.api.logs["log:x"] == [2, 3]


def test_batches_after_a_failed_one_are_not_sent(harness: Harness) -> None:
    """They would overtake what may still have to be published again."""
    harness.api.faults = [unreachable] * 100
    outcomes = harness.call("publish_many", [("log:x", n) for n in range(150)])
    assert all(isinstance(outcome, HubUnavailable) for outcome in outcomes)
    assert "not sent" in str(outcomes[149])
    harness.api.faults.clear()
    assert harness.api.logs == {}


@pytest.mark.parametrize("body", [{"replies": []}, {"result": {}}, {}, {"replies": [{}, {}]}])
def test_a_garbled_batch_answer_is_an_unknown_outcome(harness: Harness, body: object) -> None:
    """An answer that does not say what became of each item says it of none."""
    harness.api.faults = [answer(200, body)]
    outcomes = harness.call("publish_many", [("log:x", 1), ("log:x", 2)])
    assert [type(outcome) for outcome in outcomes] == [HubOutcomeUnknown] * 2


def test_broadcasts_to_several_channels(harness: Harness) -> None:
    """One value, one key, one outcome a channel."""
    harness.api.refuse["closed:x"] = (103, "no")
    outcomes = harness.call("broadcast", ["log:a", "closed:x", "log:b"], EVENT)
    assert outcomes[0] == outcomes[2] == Position("e1", 1)
    assert isinstance(outcomes[1], PermissionDenied)
    assert set(harness.api.seen) == {("log:a", EVENT.id), ("log:b", EVENT.id)}


def test_lists_the_active_channels(harness: Harness) -> None:
    """Names with the number of subscribers."""
    harness.call("publish", "log:x", 1)
    assert harness.call("channels", "log:*") == {"log:x": 1}
    assert b"log:*" in harness.api.requests[-1].content


def test_an_address_that_is_none_is_refused() -> None:
    """Nothing is guessed about the hub's address."""
    for url in ("127.0.0.1:8000", "ws://127.0.0.1:8000", ""):
        with pytest.raises(UsageError, match="http://host:port"):
            Publisher(url)


def test_both_publishers_offer_the_same() -> None:
    """The plain one and the asyncio one have the same methods with the same arguments."""
    for name in ("publish", "publish_many", "broadcast", "channels"):
        plain, concurrent = getattr(Publisher, name), getattr(AsyncPublisher, name)
        assert inspect.signature(plain) == inspect.signature(concurrent)


@pytest.fixture
def dropping_hub() -> Iterator[tuple[str, FakeApi]]:
    """A hub on a real socket that executes the first request and hangs up."""
    api = FakeApi()
    with serving(api, drop=1) as url:
        yield url, api


def test_a_connection_cut_after_execution_publishes_once(
    dropping_hub: tuple[str, FakeApi],
) -> None:
    """The same over a real socket: executed, cut off, tried again, one publication."""
    url, api = dropping_hub
    with Publisher(url) as publisher:
        assert publisher.publish("log:x", 1) == Position("e1", 1)
    assert api.logs == {"log:x": [1]}


async def test_a_connection_cut_after_execution_publishes_once_from_asyncio(
    dropping_hub: tuple[str, FakeApi],
) -> None:
    """The same from asyncio."""
    url, api = dropping_hub
    async with AsyncPublisher(url) as publisher:
        assert await publisher.publish("log:x", 1) == Position("e1", 1)
    assert api.logs == {"log:x": [1]}
