"""Publishing without I/O: what is asked of the hub, and what its answer means.

A :class:`Call` is one request with its retries. It decides everything (the bytes to send,
whether a fault is worth another try, how long to wait, which error ends it) and does
nothing: the publishers in ``publisher.py`` send, sleep and ask again.

Sending again is safe because every publication carries an idempotency key: the hub answers
a key it has seen with the position of the first execution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from channels import (
    Event,
    FanwireError,
    Position,
    check_channel,
    check_id,
    encode_event,
    new_id,
)
from channels.conflation import check_conflation_key
from channels.errors import (
    BadRequest,
    HubOutcomeUnknown,
    HubUnavailable,
    LimitExceeded,
    RequestError,
    error_from_code,
)
from channels.publication import MAX_DATA_BYTES, check_json

from .answers import (
    At,
    Batch,
    BatchAnswer,
    BatchCommand,
    Broadcast,
    Channels,
    Publish,
    Response,
    Responses,
    check_count,
    describe,
    excerpt,
    is_temporary,
    is_temporary_reply,
    outcome,
    read,
    refusal,
    retry_after_s,
)
from .backoff import Patience

__all__ = [
    "MAX_BATCH_BYTES",
    "MAX_BATCH_COMMANDS",
    "BatchCall",
    "BroadcastCall",
    "Call",
    "ChannelsCall",
    "Many",
    "PublishCall",
]

#: Most publications in one batch request: enough that the round trip no longer counts, few
#: enough that one request does not hold up the hub.
MAX_BATCH_COMMANDS = 100
#: Most bytes of data in one batch request; one publication alone may have 64 KiB.
MAX_BATCH_BYTES = 256 * 1024

_encode = msgspec.json.Encoder().encode
T = TypeVar("T")


def _encode_data(data: object) -> bytes:
    """Return what is published as JSON.

    Raises:
        BadRequest: it is not JSON, or has no form in JSON.
        LimitExceeded: it is larger than 64 KiB.
    """
    if isinstance(data, Raw):
        return check_json(data)
    try:
        text = encode_event(data) if isinstance(data, Event) else _encode(data)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        # A lone surrogate is a UnicodeEncodeError, which is a ValueError.
        raise BadRequest(f"expected an event or a value that JSON can hold; {error}") from None
    if len(text) > MAX_DATA_BYTES:
        raise LimitExceeded(f"data is {len(text)} bytes; at most {MAX_DATA_BYTES} are allowed")
    return text


def _key(data: object, key: str | None) -> str:
    if key is not None:
        return check_id(key, "idempotency key")
    # Drawn once a call, not once a try: this is what makes a retry harmless.
    return data.id if isinstance(data, Event) else new_id()


def _conflate(key: str | None) -> str | UnsetType:
    return UNSET if key is None else check_conflation_key(key)


def _prepare(
    channel: str, data: object, key: str | None = None, conflate: str | None = None
) -> Publish:
    return Publish(
        check_channel(channel), Raw(_encode_data(data)), _key(data, key), _conflate(conflate)
    )


class Call(Generic[T]):
    """One request to the hub, through all its tries.

    The caller sends ``body`` to ``path`` within ``timeout_s`` and tells what came of it
    with :meth:`failed` or :meth:`answered`. Both return the pause before the next try in
    seconds; :meth:`answered` returns None when ``result`` is there. Both raise what ends
    the call.
    """

    path: str = ""

    def __init__(self, patience: Patience) -> None:
        self.body = b""
        self.result: T
        self._patience = patience
        self._backoff = patience.make_backoff()
        self._began_at = patience.clock()
        self._ends_at = self._began_at + patience.deadline_s
        self._may_have_run = False
        self._reached = False

    @property
    def timeout_s(self) -> float:
        """Seconds that the next try may take."""
        return max(0.001, min(self._patience.try_timeout_s, self._ends_at - self._patience.clock()))

    def failed(self, reason: str, *, may_have_run: bool) -> float | None:
        """Tell that no answer came, and whether the hub may have got the request."""
        self._may_have_run = self._may_have_run or may_have_run
        self._reached = self._reached or may_have_run
        return self._pause(reason, None)

    def answered(self, status: int, headers: Mapping[str, str], body: bytes) -> float | None:
        """Tell the hub's answer. ``headers`` find names in any case.

        Raises:
            RequestError: the hub refused the request (which class tells why).
            HubUnavailable: no try reached the hub within the deadline.
            HubOutcomeUnknown: none that did was answered in a way that tells the outcome.
        """
        self._reached = True
        if status == 200:
            return self._judge(body)
        if status in {429, 502, 503, 504}:
            # A proxy, or a hub whose store did not answer: some of these executed it.
            self._may_have_run = self._may_have_run or status != 429
            return self._pause(describe(status, body), retry_after_s(headers.get("retry-after")))
        raise refusal(status, body)

    def _judge(self, body: bytes) -> float | None:
        response = read(body, Response)
        if response.error is not None:
            error = error_from_code(response.error.code, response.error.message)
            if not is_temporary(response.error.code):
                raise error
            self._may_have_run = self._may_have_run or not isinstance(error, RequestError)
            return self._pause(str(error), None)
        if response.result is UNSET:
            raise HubOutcomeUnknown(f"expected a result from the hub; got {excerpt(body)}")
        self._accept(bytes(response.result))
        return None

    def _accept(self, result: bytes) -> None:
        raise NotImplementedError

    def _pause(self, reason: str, asked_s: float | None) -> float:
        pause = self._backoff.next_pause_s()
        if asked_s is not None:
            # Jitter on top: everybody who was sent away was told the same second.
            pause += asked_s
        deadline_s = self._patience.deadline_s
        if not self._reached:
            deadline_s = min(deadline_s, self._patience.unreached_s)
        if self._patience.clock() + pause >= self._began_at + deadline_s:
            if self._may_have_run:
                raise HubOutcomeUnknown(
                    f"no usable answer from the hub within {deadline_s:g} s, the request "
                    f"may have been executed; last: {reason}"
                )
            raise HubUnavailable(f"hub not reached within {deadline_s:g} s; last: {reason}")
        return pause


class PublishCall(Call[Position]):
    """Publish one value on one channel; the result is its position."""

    path = "/api/publish"

    def __init__(
        self,
        patience: Patience,
        channel: str,
        data: object,
        idempotency_key: str | None,
        conflate: str | None = None,
    ) -> None:
        super().__init__(patience)
        self.body = _encode(_prepare(channel, data, idempotency_key, conflate))

    def _accept(self, result: bytes) -> None:
        self.result = read(result, At).position


class BroadcastCall(Call["list[Position | FanwireError]"]):
    """Publish one value on several channels; one outcome a channel."""

    path = "/api/broadcast"

    def __init__(
        self,
        patience: Patience,
        channels: Sequence[str],
        data: object,
        idempotency_key: str | None,
        conflate: str | None = None,
    ) -> None:
        super().__init__(patience)
        self._count = len(channels)
        names = [check_channel(channel) for channel in channels]
        text = Raw(_encode_data(data))
        self.body = _encode(
            Broadcast(names, text, _key(data, idempotency_key), _conflate(conflate))
        )

    def _accept(self, result: bytes) -> None:
        responses = read(result, Responses).responses
        check_count(self._count, len(responses))
        self.result = [outcome(response.result, response.error) for response in responses]


class BatchCall(Call["list[Position | FanwireError]"]):
    """Publish many values in one request; one outcome each, so that it never raises.

    A channel's order is kept: only an unbroken run of temporary failures at the end is
    tried again. One that was followed by a success is an outcome, not retried, because
    it would come after what it was meant to precede.
    """

    path = "/api/batch"

    def __init__(self, patience: Patience, commands: Sequence[Publish]) -> None:
        super().__init__(patience)
        self.result = []
        #: What kept the last of the publications from being settled.
        self.stopped_by: FanwireError | None = None
        self._wait_for(list(commands))

    def _wait_for(self, commands: list[Publish]) -> None:
        self._waiting = commands
        self.body = _encode(Batch([BatchCommand(command) for command in commands]))

    def failed(self, reason: str, *, may_have_run: bool) -> float | None:
        """Tell that no answer came; None when it is given up."""
        try:
            return super().failed(reason, may_have_run=may_have_run)
        except FanwireError as error:
            self._give_up(error)
            return None

    def answered(self, status: int, headers: Mapping[str, str], body: bytes) -> float | None:
        """Tell the hub's answer; None when everything is settled or given up."""
        try:
            return super().answered(status, headers, body)
        except FanwireError as error:
            self._give_up(error)
            return None

    def _give_up(self, error: FanwireError) -> None:
        self.result += [error] * len(self._waiting)
        self.stopped_by = error

    def _judge(self, body: bytes) -> float | None:
        replies = read(body, BatchAnswer).all
        if replies is None:
            return super()._judge(body)
        check_count(len(self._waiting), len(replies))
        settled = len(replies)
        while settled and is_temporary_reply(replies[settled - 1]):
            settled -= 1
        self.result += [outcome(reply.publish, reply.error) for reply in replies[:settled]]
        self._wait_for(self._waiting[settled:])
        if not self._waiting:
            return None
        self._may_have_run = True
        return self._pause(str(outcome(None, replies[settled].error)), None)

    def _accept(self, result: bytes) -> None:
        raise HubOutcomeUnknown(f"expected replies from the hub; got {excerpt(result)}")


class ChannelsCall(Call[dict[str, int]]):
    """The active channels whose names match a glob pattern, with their subscribers."""

    path = "/api/channels"

    def __init__(self, patience: Patience, pattern: str) -> None:
        super().__init__(patience)
        self.body = _encode({"pattern": pattern} if pattern else {})

    def _accept(self, result: bytes) -> None:
        found = read(result, Channels).channels
        self.result = {name: info.num_clients for name, info in found.items()}


class Many:
    """Many publications, as a sequence of bounded batches, and the outcome of each.

    Once a batch could not be settled (the hub was not reached, or did not answer), the
    ones after it are not sent: they would overtake what may yet be published again.
    """

    def __init__(
        self,
        patience: Patience,
        items: Sequence[tuple[str, object]],
        conflate: str | None = None,
    ) -> None:
        self._patience = patience
        self._count = len(items)
        self._outcomes: dict[int, Position | FanwireError] = {}
        self._batches: list[list[tuple[int, Publish]]] = []
        self._stopped: FanwireError | None = None
        size = 0
        for index, (channel, data) in enumerate(items):
            try:
                command = _prepare(channel, data, conflate=conflate)
            except FanwireError as error:
                self._outcomes[index] = error
                continue
            length = len(bytes(command.data))
            full = not self._batches or len(self._batches[-1]) == MAX_BATCH_COMMANDS
            if full or size + length > MAX_BATCH_BYTES:
                self._batches.append([])
                size = 0
            self._batches[-1].append((index, command))
            size += length

    def calls(self) -> Iterator[BatchCall]:
        """Yield the calls to run, one after the other."""
        for batch in self._batches:
            if self._stopped is not None:
                error = HubUnavailable(
                    f"not sent, because an earlier batch failed: {self._stopped}"
                )
                self._outcomes.update((index, error) for index, _ in batch)
                continue
            call = BatchCall(self._patience, [command for _, command in batch])
            yield call
            self._outcomes.update(zip((index for index, _ in batch), call.result, strict=True))
            self._stopped = call.stopped_by

    @property
    def outcomes(self) -> list[Position | FanwireError]:
        """One outcome an item, in order; complete when all calls were run."""
        return [self._outcomes[index] for index in range(self._count)]
