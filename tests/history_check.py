"""Judges a history: what publishers were told against what clients received.

Faults are injected into a running hub while publishers log what they asked for and how it
ended, and clients log what they received, in order, and every gap they were told of. This
module says what is wrong with such a history. It knows nothing of the hub.

    history = History()
    history.call("p1-7", "session:w1:s1")      # before the request is sent
    history.ok("p1-7", ("epoch", 7))           # or .fail(...), or .unknown(...)
    history.received("c1", "session:w1:s1", "epoch", 7, "p1-7")
    history.gap("c2", "session:w1:s1")         # recovered:false, code 2500, event: gap
    history.received("c3", "jobs:w1", "epoch", 9, "p2-9", skipped=2)  # 7 and 8 were superseded
    report = check(history)
    assert not report.findings, report

Ids are ``producer-counter``; a producer publishes one thing at a time in that order.

What a client is told to have skipped it need not receive: where the publication has a
conflation key, and a later one with the same key reached the client.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple

__all__ = ["Finding", "History", "Kind", "Report", "check"]


class Kind(Enum):
    """What can be wrong."""

    LOST = "acknowledged, and a client that should have received it did not"
    DUPLICATED = "received twice by a client"
    REORDERED = "received after one with a higher offset of the same epoch"
    SILENT_GAP = "offsets were skipped, or the epoch changed, and the client was not told"
    MISCOUNTED = "the client was told that more offsets were skipped than were"
    GHOST = "received, although its publisher was told that it was not published"
    UNEXPECTED = "received, although nobody published it there"
    DIVERGENT = "one position holds two publications, or one publication has two positions"
    MISPLACED = "received at another position than its publisher was told"
    OUT_OF_TURN = "received after a later one of the same producer"


class Finding(NamedTuple):
    """One thing that is wrong; ``client`` is empty where it is between clients."""

    kind: Kind
    channel: str
    client: str
    op_id: str
    detail: str = ""

    def __str__(self) -> str:
        """Return a line of the report."""
        who = f" by {self.client}" if self.client else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.kind.name.lower()}: {self.op_id} on {self.channel}{who}{detail}"


class _Outcome(Enum):
    PENDING = "pending"  # never returned: an unknown outcome
    UNKNOWN = "unknown"
    OK = "ok"
    FAILED = "failed"


@dataclass(slots=True)
class _Operation:
    channel: str
    key: str = ""
    outcome: _Outcome = _Outcome.PENDING
    position: tuple[str, int] | None = None


class _Arrival(NamedTuple):
    epoch: str
    offset: int
    op_id: str
    skipped: int = 0


class History:
    """What happened, in the order in which each participant saw it.

    ``channel`` of :meth:`call` may be left out where only one channel is used.
    """

    def __init__(self, seed: int | None = None) -> None:
        #: What makes the run repeatable; goes into the report.
        self.seed = seed
        self._operations: dict[str, _Operation] = {}
        #: (client, channel) -> arrivals; None stands for a gap that was told.
        self._streams: dict[tuple[str, str], list[_Arrival | None]] = {}
        #: (client, channel) -> ids that it need not have seen: it came after them.
        self._excused: dict[tuple[str, str], frozenset[str]] = {}

    def call(self, op_id: str, channel: str = "", key: str = "") -> None:
        """Log that a publication is about to be requested; once for an id, retries included.

        ``key`` is its conflation key. Of a publication with a key :meth:`ok` must say where it
        stands, or it is owed even if it was superseded.
        """
        if op_id in self._operations:
            raise ValueError(f"operation {op_id!r} was called twice")
        producer, _, counter = op_id.rpartition("-")
        if not producer or not counter.isdecimal():
            raise ValueError(f"expected an operation id like 'producer-7', got {op_id!r}")
        self._operations[op_id] = _Operation(channel, key)

    def ok(self, op_id: str, position: tuple[str, int] | None = None) -> None:
        """Log that it was acknowledged, and at which (epoch, offset) if that was said."""
        operation = self._end(op_id, _Outcome.OK)
        operation.position = position

    def fail(self, op_id: str) -> None:
        """Log that it was definitely not published."""
        self._end(op_id, _Outcome.FAILED)

    def unknown(self, op_id: str) -> None:
        """Log that nobody can say: a time-out, a lost connection, a cancelled call."""
        self._end(op_id, _Outcome.UNKNOWN)

    def _end(self, op_id: str, outcome: _Outcome) -> _Operation:
        operation = self._operations[op_id]
        if operation.outcome is not _Outcome.PENDING:
            raise ValueError(f"operation {op_id!r} ended twice")
        operation.outcome = outcome
        return operation

    def subscribed(self, client: str, channel: str) -> None:
        """Log that a client is in for the first time: it owes nothing that was called before.

        (What was on its way then may stand before or after it; offsets show the rest.) A
        client that was never logged so owes everything on the channels it received from.
        """
        self._streams.setdefault((client, channel), [])
        self._excused[client, channel] = frozenset(
            op_id
            for op_id, operation in self._operations.items()
            if operation.channel in {"", channel}
        )

    def received(
        self, client: str, channel: str, epoch: str, offset: int, op_id: str, skipped: int = 0
    ) -> None:
        """Log that a client received a publication, and how many it was told to have skipped."""
        stream = self._streams.setdefault((client, channel), [])
        stream.append(_Arrival(epoch, offset, op_id, skipped))

    def gap(self, client: str, channel: str) -> None:
        """Log that a client was told that it missed publications for good."""
        self._streams.setdefault((client, channel), []).append(None)

    def outstanding(self, client: str, channel: str) -> set[str]:
        """Return what is acknowledged on ``channel`` and not received: to drain before a check."""
        seen = {arrival.op_id for arrival in self._streams.get((client, channel), ()) if arrival}
        return {
            op_id
            for op_id, operation in self._operations.items()
            if operation.outcome is _Outcome.OK and operation.channel in {"", channel}
        } - (
            seen
            | self._excused.get((client, channel), frozenset())
            | self._superseded(client, channel)
        )

    def _superseded(self, client: str, channel: str) -> set[str]:
        """Return what the client was told to have skipped and has a newer one of."""
        arrivals = [one for one in self._streams.get((client, channel), ()) if one is not None]
        holes = {
            (one.epoch, one.offset - back)
            for one in arrivals
            for back in range(1, min(one.skipped, one.offset - 1) + 1)
        }
        if not holes:
            return set()
        newest: dict[tuple[str, str], int] = {}
        for one in arrivals:
            operation = self._operations.get(one.op_id)
            if operation is not None and operation.key:
                of = (one.epoch, operation.key)
                newest[of] = max(one.offset, newest.get(of, 0))
        return {
            op_id
            for op_id, operation in self._operations.items()
            if operation.key
            and operation.channel in {"", channel}
            and (position := operation.position) in holes
            and newest.get((position[0], operation.key), 0) > position[1]
        }

    def save(self, path: Path) -> None:
        """Write the history as lines of JSON, to look at after a failure."""
        with path.open("w", encoding="utf-8") as lines:
            lines.write(json.dumps({"seed": self.seed}) + "\n")
            for op_id, op in self._operations.items():
                entry = {"op": op_id, "channel": op.channel, "outcome": op.outcome.value}
                lines.write(json.dumps({**entry, "position": op.position, "key": op.key}) + "\n")
            for (client, channel), stream in self._streams.items():
                for arrival in stream:
                    seen = "gap" if arrival is None else list(arrival)
                    entry = {"client": client, "channel": channel}
                    lines.write(json.dumps({**entry, "received": seen}) + "\n")


@dataclass(slots=True)
class Report:
    """What a history amounts to. ``findings`` is empty when every promise was kept."""

    seed: int | None = None
    attempts: int = 0
    acked: int = 0
    failed: int = 0
    unknown: int = 0
    #: Unknown outcomes that did happen. Either is right; this one says how often.
    unknown_delivered: int = 0
    deliveries: int = 0
    told_gaps: int = 0
    #: Publications that clients were told to have skipped.
    told_skipped: int = 0
    findings: list[Finding] = field(default_factory=list)

    def count(self, kind: Kind) -> int:
        """Return how many findings are of ``kind``."""
        return sum(finding.kind is kind for finding in self.findings)

    def __str__(self) -> str:
        """Return the report as text: the counts, and the first findings."""
        counts = {
            "attempts": self.attempts,
            "acked": self.acked,
            "failed": self.failed,
            "unknown": self.unknown,
            "unknown-delivered": self.unknown_delivered,
            "deliveries": self.deliveries,
            "told-gaps": self.told_gaps,
            "told-skipped": self.told_skipped,
            **{kind.name.lower().replace("_", "-"): self.count(kind) for kind in Kind},
        }
        lines = [f"{name:>18} {count:>9,}" for name, count in counts.items()]
        if self.seed is not None:
            lines.insert(0, f"{'seed':>18} {self.seed:>9}")
        lines += [f"  {finding}" for finding in self.findings[:20]]
        if len(self.findings) > 20:
            lines.append(f"  ... and {len(self.findings) - 20} more")
        verdict = "FAILED" if self.findings else "ok"
        return "\n".join([*lines, f"{'verdict':>18} {verdict:>9}"])


def check(history: History) -> Report:
    """Say what is wrong with ``history``."""
    operations = history._operations.values()
    outcomes = Counter(operation.outcome for operation in operations)
    report = Report(
        seed=history.seed,
        attempts=len(history._operations),
        acked=outcomes[_Outcome.OK],
        failed=outcomes[_Outcome.FAILED],
        unknown=outcomes[_Outcome.UNKNOWN] + outcomes[_Outcome.PENDING],
    )
    delivered: set[str] = set()
    for (client, channel), stream in history._streams.items():
        arrivals = [arrival for arrival in stream if arrival is not None]
        report.deliveries += len(arrivals)
        report.told_gaps += len(stream) - len(arrivals)
        report.told_skipped += sum(arrival.skipped for arrival in arrivals)
        delivered.update(arrival.op_id for arrival in arrivals)
        report.findings += _check_stream(history, client, channel, stream)
        report.findings += _check_turns(client, channel, arrivals)
    report.findings += _check_places(history)
    report.unknown_delivered = sum(
        operation.outcome in {_Outcome.UNKNOWN, _Outcome.PENDING} and op_id in delivered
        for op_id, operation in history._operations.items()
    )
    return report


def _check_stream(
    history: History, client: str, channel: str, stream: list[_Arrival | None]
) -> Iterable[Finding]:
    """Check what one client received on one channel."""
    seen: set[str] = set()
    last: _Arrival | None = None
    told = False
    for arrival in stream:
        if arrival is None:
            told = True
            continue
        yield from _check_arrival(history, client, channel, arrival)
        if arrival.op_id in seen:
            yield Finding(Kind.DUPLICATED, channel, client, arrival.op_id)
        elif last is not None and not told:
            if fault := _break(last, arrival):
                detail = f"{last.epoch}:{last.offset} then {arrival.epoch}:{arrival.offset}"
                detail += f", told {arrival.skipped} skipped" if arrival.skipped else ""
                yield Finding(fault, channel, client, arrival.op_id, detail)
        elif last is not None and arrival.epoch == last.epoch and arrival.offset <= last.offset:
            # Being told of a gap excuses what is missing, never an order.
            yield Finding(Kind.REORDERED, channel, client, arrival.op_id)
        seen.add(arrival.op_id)
        last = arrival
        told = False
    if not any(arrival is None for arrival in stream):
        # After a gap a client owes what came after it, which the offsets show; before and
        # without one, everything that was acknowledged.
        for op_id in sorted(history.outstanding(client, channel), key=_in_turn):
            yield Finding(Kind.LOST, channel, client, op_id)
    else:
        yield from _check_after_gaps(history, client, channel, stream)


def _check_after_gaps(
    history: History, client: str, channel: str, stream: list[_Arrival | None]
) -> Iterable[Finding]:
    """Find what a client lost that was told of gaps: what stands after its last arrival."""
    arrivals = [arrival for arrival in stream if arrival is not None]
    if not arrivals or stream[-1] is None:
        return
    last = arrivals[-1]
    for op_id in sorted(history.outstanding(client, channel), key=_in_turn):
        position = history._operations[op_id].position
        if position is not None and position[0] == last.epoch and position[1] > last.offset:
            yield Finding(Kind.LOST, channel, client, op_id)


def _check_arrival(
    history: History, client: str, channel: str, arrival: _Arrival
) -> Iterable[Finding]:
    """Check one arrival against what its publisher knows."""
    operation = history._operations.get(arrival.op_id)
    if operation is None or operation.channel not in {"", channel}:
        yield Finding(Kind.UNEXPECTED, channel, client, arrival.op_id)
        return
    if operation.outcome is _Outcome.FAILED:
        yield Finding(Kind.GHOST, channel, client, arrival.op_id)
    told = operation.position
    if told is not None and told[0] == arrival.epoch and told[1] != arrival.offset:
        detail = f"told {told[1]}, received at {arrival.offset}"
        yield Finding(Kind.MISPLACED, channel, client, arrival.op_id, detail)


def _break(last: _Arrival, arrival: _Arrival) -> Kind | None:
    if arrival.epoch != last.epoch:
        return Kind.SILENT_GAP
    if arrival.offset <= last.offset:
        return Kind.REORDERED
    untold = arrival.offset - last.offset - 1 - arrival.skipped
    if untold:
        return Kind.SILENT_GAP if untold > 0 else Kind.MISCOUNTED
    return None


def _check_turns(client: str, channel: str, arrivals: list[_Arrival]) -> Iterable[Finding]:
    """Check that each producer's publications came in the order in which it sent them."""
    highest: dict[str, int] = {}
    seen: set[str] = set()
    for arrival in arrivals:
        if arrival.op_id in seen:
            continue  # a duplicate, which is a finding of its own
        seen.add(arrival.op_id)
        producer, counter = _in_turn(arrival.op_id)
        if counter < highest.get(producer, -1):
            yield Finding(Kind.OUT_OF_TURN, channel, client, arrival.op_id)
        highest[producer] = max(counter, highest.get(producer, -1))


def _check_places(history: History) -> Iterable[Finding]:
    """Check over all clients that a position holds one publication, and is its only one."""
    holders: dict[tuple[str, str, int], str] = {}
    places: dict[tuple[str, str, str], int] = {}
    for (client, channel), stream in history._streams.items():
        for arrival in stream:
            if arrival is None:
                continue
            epoch, offset, op_id, _ = arrival
            holder = holders.setdefault((channel, epoch, offset), op_id)
            place = places.setdefault((channel, epoch, op_id), offset)
            if holder != op_id:
                detail = f"{epoch}:{offset} is {holder} to others"
                yield Finding(Kind.DIVERGENT, channel, client, op_id, detail)
            elif place != offset:
                detail = f"at {epoch}:{offset} and at {epoch}:{place}"
                yield Finding(Kind.DIVERGENT, channel, client, op_id, detail)


def _in_turn(op_id: str) -> tuple[str, int]:
    producer, _, counter = op_id.rpartition("-")
    return producer, int(counter) if counter.isdecimal() else 0
