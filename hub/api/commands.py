"""The commands of the server API: each a request in, a result out, or a FanwireError.

Knows nothing about HTTP. The caller has proven to be the application itself, so channel
rules do not apply; declarations do.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import fnmatch
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from channels.catalogue import Channel
from channels.errors import (
    BadRequest,
    FanwireError,
    MethodNotFound,
    NotAvailable,
    UnrecoverablePosition,
)
from channels.position import Position
from channels.publication import Publication
from channels.wire import ErrorReply, HistoryResult
from hub.api.messages import (
    BatchRequest,
    BatchResult,
    BroadcastRequest,
    BroadcastResult,
    ChannelInfo,
    ChannelsRequest,
    ChannelsResult,
    Empty,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    InfoResult,
    Node,
    Outcome,
    Publishing,
    PublishRequest,
    PublishResult,
)

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = ["Commands", "Method"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Publications a page, and bytes one answer may have: whoever wants more asks again, since
#: the last one it got.
_PAGE = 500
_MAX_HISTORY_BYTES = 8 * 1024 * 1024
#: Commands of one batch, or channels of one broadcast, that are under way at a time.
_PARALLEL = 64


class Method(NamedTuple):
    """One method: what it takes and gives, and what it does."""

    name: str
    request: Any
    result: Any
    decode: Callable[[bytes | Raw], Any]
    run: Callable[[Any], Awaitable[object]]


class Commands:
    """The commands of one hub, by name in :attr:`methods`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._events = hub.services.events
        self.methods = {
            name: Method(name, request, result, msgspec.json.Decoder(request).decode, run)
            for name, request, result, run in (
                ("publish", PublishRequest, PublishResult, self.publish),
                ("broadcast", BroadcastRequest, BroadcastResult, self.broadcast),
                ("batch", BatchRequest, BatchResult, self.batch),
                ("history", HistoryRequest, HistoryResult, self.history),
                ("history_remove", HistoryRemoveRequest, Empty, self.history_remove),
                ("channels", ChannelsRequest, ChannelsResult, self.channels),
                ("info", InfoRequest, InfoResult, self.info),
            )
        }

    async def run(self, name: str, body: bytes | Raw) -> object:
        """Run the method called ``name`` on a JSON request and return its result.

        Raises:
            FanwireError: it was refused or failed.
        """
        method = self.methods.get(name)
        if method is None:
            known = ", ".join(self.methods)
            raise MethodNotFound(f"unknown method {name[:64]!r}: expected one of {known}")
        try:
            request = method.decode(body)
        # Bad UTF-8 and too deep nesting are not DecodeErrors.
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest(f"{name}: {error}") from None
        return await method.run(request)

    async def outcome(self, running: Awaitable[object]) -> Outcome:
        """Return how ``running`` ended, as a reply can tell it."""
        try:
            return Outcome(result=await running)
        except FanwireError as error:
            return Outcome(error=ErrorReply.of(error))
        except Exception:  # noqa: BLE001 - logged, and told
            # One command of many: the others have outcomes to report.
            _log.exception("a command of the server API failed")
            return Outcome(error=ErrorReply(100, "internal server error"))

    # -- publishing ------------------------------------------------------------------------

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Publish to one channel."""
        return await self._publish_to(request.channel, _data_of(request), request)

    async def broadcast(self, request: BroadcastRequest) -> BroadcastResult:
        """Publish the same to many channels; one that fails does not stop the others."""
        data = _data_of(request)
        publishing = [self._publish_to(channel, data, request) for channel in request.channels]
        return BroadcastResult(await _gather([self.outcome(one) for one in publishing]))

    async def _publish_to(self, name: str, data: bytes, request: Publishing) -> PublishResult:
        done = await self._events.append(
            self._find(name),
            data,
            tags=request.tags,
            idempotency_key=request.idempotency_key,
            conflate=request.conflate,
        )
        return PublishResult(done.position.offset, done.position.epoch)

    def _find(self, name: str) -> Channel:
        return self._events.catalogue.find(name)

    async def batch(self, request: BatchRequest) -> BatchResult:
        """Run many commands, each with a reply of its own."""
        if request.parallel:
            return BatchResult(await _gather(map(self._reply, request.commands)))
        replies: list[dict[str, object]] = []
        for publishing, group in itertools.groupby(request.commands, _is_publish):
            # Publications are sent in order without waiting for each other: Redis keeps the
            # order. The first one goes alone, so that the server knows the script and none of
            # the others has to be sent again, behind its successors.
            first, *others = group
            replies.append(await self._reply(first))
            if publishing:
                replies += await _gather(map(self._reply, others))
            else:
                replies += [await self._reply(command) for command in others]
        return BatchResult(replies)

    async def _reply(self, command: dict[str, Raw]) -> dict[str, object]:
        if len(command) != 1 or "batch" in command:
            wrong = BadRequest("expected a command with one method, which is not batch")
            return {"error": ErrorReply.of(wrong)}
        [(name, body)] = command.items()
        outcome = await self.outcome(self.run(name, body))
        return {name: outcome.result} if outcome.error is None else {"error": outcome.error}

    # -- looking ---------------------------------------------------------------------------

    async def history(self, request: HistoryRequest) -> HistoryResult:
        """Return publications of a channel and the top of its log.

        Fewer than asked for when they would be more than 8 MiB.
        """
        channel = self._find(request.channel)
        log = self._events.log
        since = None
        if request.since is not None:
            since = Position(request.since.epoch, request.since.offset)
        publications: list[Publication] = []
        wanted = request.limit if request.limit >= 0 else channel.declaration.history.size
        size = 0
        while True:
            limit = min(_PAGE, wanted - len(publications))
            page = await log.read(channel, since=since, limit=limit, reverse=request.reverse)
            if since is not None and since.epoch not in {"", page.top.epoch}:
                raise UnrecoverablePosition(
                    f"the history of {channel.name!r} began anew: its epoch is "
                    f"{page.top.epoch!r}, not {since.epoch!r}"
                )
            publications += page.publications
            size += sum(len(publication.wire) for publication in page.publications)
            ended = len(page.publications) < limit or len(publications) >= wanted
            if ended or size > _MAX_HISTORY_BYTES:
                break
            since = publications[-1].position
        return HistoryResult(
            [Raw(publication.object) for publication in publications],
            page.top.offset,
            page.top.epoch,
        )

    async def history_remove(self, request: HistoryRemoveRequest) -> Empty:
        """Forget the publications of a channel; its position goes on."""
        await self._events.log.remove(self._find(request.channel))
        return Empty()

    async def channels(self, request: ChannelsRequest) -> ChannelsResult:
        """Return the channels with subscribers or a log, as the nodes last told."""
        pattern = request.pattern or "*"
        counts: dict[str, int] = dict.fromkeys(await self._events.channels(pattern), 0)
        reports = await self._hub.nodes.all()
        told = [
            (name, activity.subscribers)
            for report in reports
            if report.node != self._hub.node
            for name, activity in report.channels.items()
        ]
        here = [(name, len(room)) for name, room in self._hub.engine.rooms.items() if room]
        for name, subscribers in (*told, *here):
            if subscribers and fnmatch.fnmatchcase(name, pattern):
                counts[name] = counts.get(name, 0) + subscribers
        return ChannelsResult({name: ChannelInfo(counts[name]) for name in sorted(counts)})

    async def info(self, _request: InfoRequest) -> InfoResult:
        """Return the nodes that live; this one as it is now."""
        reports = [r for r in await self._hub.nodes.all() if r.node != self._hub.node]
        reports.append(self._hub.reporter.report())
        return InfoResult(
            [
                Node(
                    uid=report.node,
                    name=report.name,
                    version=report.version,
                    num_clients=report.clients,
                    num_users=report.users,
                    num_subs=report.subscriptions,
                    num_channels=report.rooms,
                    uptime=int(report.uptime_s),
                )
                for report in sorted(reports, key=lambda report: report.node)
            ]
        )


def _is_publish(command: dict[str, Raw]) -> bool:
    return list(command) == ["publish"]


def _data_of(request: Publishing) -> bytes:
    """Return the JSON that is published, verbatim."""
    if request.skip_history:
        raise NotAvailable("skip_history is not offered: every publication is in the log")
    data, b64data = request.data, request.b64data
    if isinstance(data, Raw) and b64data is None:
        return bytes(data)
    if isinstance(data, Raw) or b64data is None:
        raise BadRequest("expected data (any JSON), or the same JSON as b64data")
    try:
        return base64.b64decode(b64data, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("b64data must be base64") from None


async def _gather(running: Iterable[Awaitable[_T]]) -> list[_T]:
    """Await all, a bounded number at a time, and return their results in order.

    None of them raises; when this is cancelled they are cancelled too.
    """
    slots = asyncio.Semaphore(_PARALLEL)

    async def one(awaitable: Awaitable[_T]) -> _T:
        async with slots:
            return await awaitable

    return list(await asyncio.gather(*map(one, running)))
