"""Waiting for decisions on approval gates, without Redis: pushed over one WebSocket.

    async with ApprovalWaits("https://hub.example.com", token=token) as approvals:
        decision = await approvals.wait("w1", gate)
        if decision.approved:
            ...

The subscription begins with the open gates of the workspace, and has them again after each
gap, so a decision is noticed whatever happens to connections and hubs in between. A gate that
is not among them was decided before, and is read over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
import msgspec

from channels import FanwireError, check_id
from channels.errors import (
    HubError,
    HubOutcomeUnknown,
    HubUnavailable,
    NotFound,
    Unauthorized,
    UsageError,
    error_from_code,
)

from .answers import excerpt
from .backoff import Backoff
from .delivery import Delivery, Gap, Snapshot
from .subscriber import Subscriber
from .subscription import Subscription

__all__ = ["ApprovalWaits", "Decision", "GateReader", "wait_for_decision"]

_T = TypeVar("_T")

Outcome: TypeAlias = Literal["approved", "edited", "rejected", "expired", "cancelled", "consumed"]
#: Returns the JSON of a gate as it is now. Raises ``NotFound`` where there is none, and
#: ``HubError`` when that cannot be told at the moment.
GateReader: TypeAlias = Callable[[str, str], Awaitable[bytes]]

_OPEN = "pending"
#: Seconds that one read of a gate may take.
_READ_TIMEOUT_S = 5.0
_BY_TYPE: dict[str, Outcome] = {
    "approval.approved": "approved",
    "approval.edited": "edited",
    "approval.rejected": "rejected",
    "approval.expired": "expired",
    "approval.cancelled": "cancelled",
    "approval.consumed": "consumed",
}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a gate.

    ``actor`` decided it, or took the request back; empty where nobody did. ``payload`` is what
    the decision brought along: after "edited" the arguments that were approved instead.
    ``args_sha256`` is the digest of the arguments that were approved, where it is known.
    ``version`` is that of the gate, 0 where the hub keeps none. "consumed" was approved and is
    used up.
    """

    workspace: str
    gate: str
    outcome: Outcome
    actor: str = ""
    comment: str = ""
    payload: Any = None
    args_sha256: str = ""
    decision: str = ""
    version: int = 0

    @property
    def approved(self) -> bool:
        """Whether the action may be carried out, and was not yet."""
        return self.outcome in {"approved", "edited"}


class _Named(msgspec.Struct):
    gate: str = ""


class _OpenGates(msgspec.Struct):
    gates: list[_Named]
    brief: list[_Named] = []


class _EventData(msgspec.Struct):
    gate: str = ""
    actor: str = ""
    comment: str = ""
    reason: str = ""
    payload: Any = None
    args_sha256: str = ""
    decision: str = ""
    version: int = 0
    outcome: str = ""
    run: str = ""


class _Event(msgspec.Struct):
    type: str = ""
    data: _EventData = msgspec.field(default_factory=_EventData)


class _Vote(msgspec.Struct):
    actor: str = ""
    comment: str = ""
    payload: Any = None
    decision: str = ""


class _Gate(msgspec.Struct):
    """A gate over HTTP, as far as it matters here; what is left out has its default."""

    gate: str
    status: str = _OPEN
    decision: _Vote | None = None
    proposed: Any = None
    proposed_sha256: str = ""
    args_sha256: str = ""
    cancelled_by: str = ""
    cancel_reason: str = ""
    consumed_by: str = ""
    version: int = 0


_decode_gates = msgspec.json.Decoder(_OpenGates).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_gate = msgspec.json.Decoder(_Gate).decode


def _decided(workspace: str, event: _Event) -> Decision | None:
    """Return the decision that an event tells; None for what leaves the gate open."""
    outcome = _BY_TYPE.get(event.type)
    data = event.data
    if outcome == "expired" and data.outcome == "approved":
        outcome = "approved"  # what was agreed to happen when nobody says anything
    if outcome is None or (outcome == "expired" and data.outcome == "escalated"):
        return None
    return Decision(
        workspace=workspace,
        gate=data.gate,
        outcome=outcome,
        actor=data.actor or data.run,
        comment=data.comment or data.reason,
        payload=data.payload,
        args_sha256=data.args_sha256,
        decision=data.decision,
        version=data.version,
    )


def _became(workspace: str, gate: _Gate) -> Decision | None:
    """Return the decision of a gate that was read; None for one that is open."""
    if gate.status == _OPEN:
        return None
    outcome = _BY_TYPE.get(f"approval.{gate.status}")
    if outcome is None:
        raise HubError(f"expected the status of gate {gate.gate!r}; got {gate.status!r}")
    vote = gate.decision or _Vote()
    approved = outcome in {"approved", "edited", "consumed"}
    return Decision(
        workspace=workspace,
        gate=gate.gate,
        outcome=outcome,
        actor=vote.actor or gate.cancelled_by,
        comment=vote.comment or gate.cancel_reason,
        payload=gate.proposed if gate.proposed_sha256 and approved else vote.payload,
        args_sha256=(gate.proposed_sha256 or gate.args_sha256) if approved else "",
        decision=vote.decision,
        version=gate.version,
    )


class _Watch:
    """Who waits for which gate of one workspace, on one subscription."""

    __slots__ = ("ending", "gates", "task", "waiting", "workspace")

    def __init__(self, workspace: str) -> None:
        self.workspace = workspace
        #: Whether nobody waits any more: its subscription is on its way out.
        self.ending = False
        self.waiting: dict[str, list[asyncio.Future[Decision]]] = {}
        #: The gates that are open as far as was told; None before anything was.
        self.gates: set[str] | None = None
        self.task: asyncio.Task[None]

    def settle(self, decision: Decision) -> None:
        for waiter in self.waiting.get(decision.gate, ()):
            if not waiter.done():
                waiter.set_result(decision)

    def fail(self, error: BaseException) -> None:
        for gate in self.waiting:
            self.refuse(gate, error)

    def refuse(self, gate: str, error: BaseException) -> None:
        for waiter in self.waiting.get(gate, ()):
            if not waiter.done():
                # Each its own: a shared one would collect the traceback of everybody.
                waiter.set_exception(copy.copy(error))


class ApprovalWaits:
    """Waits for any number of gates over one connection. Use it inside ``async with``."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: str = "",
        get_token: Callable[[], Awaitable[str]] | None = None,
        backoff: Callable[[], Backoff] = Backoff,
        read_gate: GateReader | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Remember where the hub is.

        Args:
            url: the hub's address, as for :class:`~clients.Subscriber`.
            token: JWT of a member of the workspaces; empty means anonymous.
            get_token: asked for a token where ``token`` is not given, and for another one when
                that expired.
            backoff: makes the schedule of pauses between connections, and between reads.
            read_gate: reads a gate that is not open any more, over HTTP unless given.
            transport: how ``httpx`` reaches the hub, where it is not over the network.

        Raises:
            UsageError: ``url`` is no address of a hub.
        """
        self._subscriber = Subscriber(url, token=token, get_token=get_token, backoff=backoff())
        self._token = token
        self._get_token = get_token
        self._make_backoff = backoff
        self._http = httpx.AsyncClient(base_url=_http_url(url), transport=transport)
        self._read_gate = read_gate or self._read_over_http
        self._watches: dict[str, _Watch] = {}

    async def __aenter__(self) -> Self:
        try:
            await self._subscriber.__aenter__()
        except BaseException:
            await self._http.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the connection; whoever still waits gets a ``UsageError``."""
        for watch in list(self._watches.values()):
            watch.fail(UsageError("the approvals were closed"))
            await self._end(watch)
        await self._subscriber.aclose()
        await self._http.aclose()

    async def wait(self, workspace: str, gate: str, *, timeout_s: float | None = None) -> Decision:
        """Return what became of ``gate``, as soon as it is known.

        Survives lost connections and hubs that restart. Cancelling it is harmless, to others
        that wait too, and it may be called again.

        Raises:
            TimeoutError: nothing was decided within ``timeout_s`` seconds.
            NotFound: there is no such gate.
            PermissionDenied, Unauthorized: the token does not allow it.
            FanwireError: the hub refuses for another reason that waiting does not help.
        """
        check_id(workspace, "workspace")
        check_id(gate, "gate id")
        watch = await self._watch_of(workspace)
        waiter: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        # Before the gate is read: whatever is told from now on is for it.
        watch.waiting.setdefault(gate, []).append(waiter)
        reading: asyncio.Task[None] | None = None
        if watch.gates is not None and gate not in watch.gates:
            reading = asyncio.create_task(self._look(watch, gate))
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        finally:
            if reading is not None:
                reading.cancel()
            watch.waiting[gate].remove(waiter)
            if not watch.waiting[gate]:
                del watch.waiting[gate]
            if not watch.waiting:
                await self._end(watch)

    async def _watch_of(self, workspace: str) -> _Watch:
        watch = self._watches.get(workspace)
        while watch is not None and watch.ending and not watch.task.done():
            await asyncio.wait([watch.task])  # the channel can be followed once at a time
            watch = self._watches.get(workspace)
        if watch is None or watch.task.done():
            watch = self._watches[workspace] = _Watch(workspace)
            watch.task = asyncio.create_task(self._watch(watch), name=f"fanwire waits {workspace}")
        return watch

    async def _end(self, watch: _Watch) -> None:
        watch.ending = True
        watch.task.cancel()
        await asyncio.wait([watch.task])
        if self._watches.get(watch.workspace) is watch:
            del self._watches[watch.workspace]

    # -- what is told ----------------------------------------------------------------------

    async def _watch(self, watch: _Watch) -> None:
        """Follow the approvals of a workspace for as long as somebody waits."""
        looking: set[asyncio.Task[None]] = set()
        try:
            async with self._subscriber.subscribe(
                f"approvals:{watch.workspace}", snapshot=True
            ) as told:
                await self._follow(watch, told, looking)
            watch.fail(UsageError("the approvals were closed"))
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
            watch.fail(error)
        finally:
            for task in looking:
                task.cancel()

    async def _follow(
        self,
        watch: _Watch,
        told: Subscription[Delivery | Gap | Snapshot],
        looking: set[asyncio.Task[None]],
    ) -> None:
        async for item in told:
            match item:
                case Snapshot(raw=raw):
                    state = _decode(_decode_gates, raw)
                    # One that is not among them is over, or was only counted: it is read.
                    watch.gates = {each.gate for each in (*state.gates, *state.brief)}
                    for gate in watch.waiting.keys() - watch.gates:
                        task = asyncio.create_task(self._look(watch, gate))
                        looking.add(task)
                        task.add_done_callback(looking.discard)
                case Delivery(raw=raw) if watch.gates is not None:
                    event = _decode(_decode_event, raw)
                    decision = _decided(watch.workspace, event)
                    if decision is not None:
                        watch.gates.discard(decision.gate)
                        watch.settle(decision)
                    elif event.type == "approval.requested":
                        watch.gates.add(event.data.gate)

    # -- what was decided before -----------------------------------------------------------

    async def _look(self, watch: _Watch, gate: str) -> None:
        """Read a gate that is not among the open ones, as often as it takes."""
        backoff = self._make_backoff()
        while True:
            try:
                found = _decode(_decode_gate, await self._read_gate(watch.workspace, gate))
                decision = _became(watch.workspace, found)
            except HubError:
                await asyncio.sleep(backoff.next_pause_s())
                continue
            except Exception as error:  # noqa: BLE001 - as above
                watch.refuse(gate, error)
                return
            if decision is not None:
                watch.settle(decision)
            # Else it was requested just now: what becomes of it will be told.
            return

    async def _read_over_http(self, workspace: str, gate: str) -> bytes:
        path = f"/v1/approvals/{quote(gate)}?workspace={quote(workspace)}"
        try:
            response = await self._get(path)
            if response.status_code == httpx.codes.UNAUTHORIZED and self._get_token is not None:
                self._token = ""
                response = await self._get(path)
        except httpx.HTTPError as error:
            raise HubUnavailable(f"{type(error).__name__}: {error}") from error
        if response.status_code == httpx.codes.OK:
            return response.content
        raise _refusal(response.status_code, response.content)

    async def _get(self, path: str) -> httpx.Response:
        if not self._token and self._get_token is not None:
            self._token = await self._get_token()
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return await self._http.get(path, headers=headers, timeout=_READ_TIMEOUT_S)


async def wait_for_decision(
    url: str,
    workspace: str,
    gate: str,
    *,
    token: str = "",
    timeout_s: float | None = None,
) -> Decision:
    """Wait for one decision over a connection of its own; see :meth:`ApprovalWaits.wait`."""
    async with asyncio.timeout(timeout_s), ApprovalWaits(url, token=token) as approvals:
        return await approvals.wait(workspace, gate)


class _Problem(msgspec.Struct):
    detail: str = ""
    code: int = 0


def _refusal(status: int, body: bytes) -> FanwireError:
    """Return the error that an answer other than 200 stands for."""
    problem = _Problem()
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        problem = msgspec.json.decode(body, type=_Problem)
    what = problem.detail or f"expected status 200 from the hub; got {status}: {excerpt(body)}"
    if status >= 500 or status in {408, 429}:
        return HubUnavailable(what)
    if problem.code:
        return error_from_code(problem.code, what)
    if status == httpx.codes.UNAUTHORIZED:
        return Unauthorized(what)
    return NotFound(what) if status == httpx.codes.NOT_FOUND else HubOutcomeUnknown(what)


def _decode(decoder: Callable[[bytes], _T], raw: bytes) -> _T:
    try:
        return decoder(raw)
    # Bad UTF-8 and too deep nesting are not DecodeErrors.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HubOutcomeUnknown(f"expected approvals ({error}); got {excerpt(raw)}") from None


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    path = parts.path.rstrip("/").removesuffix("/connection/websocket")
    return urlunsplit((scheme, parts.netloc, path, "", ""))
