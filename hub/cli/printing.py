"""Events as text: for people, and for pipes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

import click
import msgspec

from clients import Delivery, Gap, Snapshot

__all__ = ["EventPrinter", "HumanPrinter", "JsonPrinter", "event_time", "harmless"]

_encode = msgspec.json.Encoder().encode

#: What could move the cursor of a terminal or change its title: an event is not trusted.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Return ``text`` without what would move a terminal's cursor."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _read(delivery: Delivery) -> Any:  # noqa: ANN401 - JSON can be anything
    try:
        return delivery.data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def event_time(delivery: Delivery) -> datetime | None:
    """Return when the event says it happened, None where it says nothing."""
    data = _read(delivery)
    time = data.get("time") if isinstance(data, dict) else None
    if not isinstance(time, str):
        return None
    try:
        parsed = msgspec.convert(time, datetime)
    except msgspec.ValidationError:
        return None
    return parsed if parsed.tzinfo is not None else None


class EventPrinter(Protocol):
    """Writes one line an item, and writes it at once."""

    def event(self, delivery: Delivery) -> None:
        """Write a publication."""

    def gap(self, gap: Gap) -> None:
        """Write that publications are missing here."""

    def snapshot(self, snapshot: Snapshot) -> None:
        """Write the state behind a channel."""


class JsonPrinter:
    """One compact JSON object a line: ``channel``, ``epoch``, ``offset``, ``data``.

    ``skipped`` follows the offset where publications before this one were superseded.
    A gap is ``{"channel": ..., "gap": {"after": ..., "position": ...}}``; a snapshot has its
    state as ``snapshot`` where an event has ``data``.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def event(self, delivery: Delivery) -> None:
        """Write a publication, its data exactly as it was published."""
        head: dict[str, str | int] = {
            "channel": delivery.channel,
            "epoch": delivery.position.epoch,
            "offset": delivery.position.offset,
        }
        if delivery.skipped:
            head["skipped"] = delivery.skipped
        self._line(_encode(head)[:-1] + b',"data":' + delivery.raw + b"}")

    def gap(self, gap: Gap) -> None:
        """Write that publications are missing here."""
        told = {"after": gap.after, "position": gap.position}
        self._line(_encode({"channel": gap.channel, "gap": told}))

    def snapshot(self, snapshot: Snapshot) -> None:
        """Write the state behind a channel, exactly as it came."""
        at = snapshot.position
        head = {"channel": snapshot.channel, "epoch": at.epoch, "offset": at.offset}
        self._line(_encode(head)[:-1] + b',"snapshot":' + snapshot.raw + b"}")

    def _line(self, line: bytes) -> None:
        self._out.write(line.decode("utf-8", "replace") + "\n")
        self._out.flush()


class HumanPrinter:
    """Time, channel, offset, then the event: its type and data, a line of text, or JSON."""

    def __init__(self, out: TextIO, *, colour: bool) -> None:
        self._out = out
        self._colour = colour

    def event(self, delivery: Delivery) -> None:
        """Write a publication."""
        time = event_time(delivery) or datetime.now(UTC)
        clock = time.astimezone().strftime("%H:%M:%S.%f")[:-3]
        data = _read(delivery)
        offset = str(delivery.position.offset)
        if delivery.skipped:
            offset += f" ({delivery.skipped} skipped)"
        self._line(
            self._style(clock, dim=True),
            self._style(delivery.channel, fg="cyan"),
            self._style(offset, dim=True),
            *self._body(data, delivery),
        )

    def _body(self, data: Any, delivery: Delivery) -> list[str]:  # noqa: ANN401 - any JSON
        if isinstance(data, dict):
            kind = data.get("type")
            if isinstance(kind, str) and "specversion" in data:
                text = _encode(data.get("data")).decode()
                return [self._style(harmless(kind), fg="green"), harmless(text)]
            if data.keys() == {"line"} and isinstance(data["line"], str):
                return [harmless(data["line"])]
        return [harmless(delivery.raw.decode("utf-8", "replace"))]

    def gap(self, gap: Gap) -> None:
        """Write that publications are missing here."""
        after = "" if gap.after is None else f" after {gap.after.epoch}:{gap.after.offset}"
        goes_on = f"{gap.position.epoch}:{gap.position.offset}"
        text = f"-- gap: events of {gap.channel} may be missing{after}; going on at {goes_on} --"
        self._line(self._style(text, fg="red", bold=True))

    def snapshot(self, snapshot: Snapshot) -> None:
        """Write the state behind a channel."""
        self._line(
            self._style(datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3], dim=True),
            self._style(snapshot.channel, fg="cyan"),
            self._style(str(snapshot.position.offset), dim=True),
            self._style("snapshot", fg="yellow"),
            harmless(snapshot.raw.decode("utf-8", "replace")),
        )

    def _style(self, text: str, **style: Any) -> str:  # noqa: ANN401 - click's own
        return click.style(text, **style) if self._colour else text

    def _line(self, *parts: str) -> None:
        self._out.write("  ".join(parts) + "\n")
        self._out.flush()
