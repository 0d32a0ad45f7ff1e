"""What a subscriber yields: a publication, the news that some are missing, a state."""

from __future__ import annotations

from typing import Any

import msgspec

from channels import Catalogue, Event, Position
from channels.errors import BadRequest, UnknownChannel

__all__ = ["Delivery", "Gap", "Snapshot"]

_UNREAD: Any = object()


class Delivery:
    """One publication of one channel.

    Attributes:
        channel: name of the channel.
        position: where it stands; give it as ``since`` to go on after it. On a channel
            that keeps no history the epoch is empty, and nothing can be resumed.
        raw: the JSON that was published, as it came.
        skipped: how many publications right before it this reader did not get, because it
            was behind and newer ones superseded them. They are in the history.
    """

    __slots__ = ("_catalogue", "_data", "_event", "channel", "position", "raw", "skipped")

    def __init__(
        self,
        channel: str,
        position: Position,
        raw: bytes,
        catalogue: Catalogue,
        *,
        skipped: int = 0,
    ) -> None:
        self.channel = channel
        self.position = position
        self.raw = raw
        self.skipped = skipped
        self._catalogue = catalogue
        self._data: Any = _UNREAD
        self._event: Any = _UNREAD

    def __repr__(self) -> str:
        at = f"{self.position.epoch}:{self.position.offset}"
        return f"Delivery({self.channel!r}, {at}, {self.raw[:80]!r})"

    @property
    def data(self) -> Any:  # noqa: ANN401 - JSON can be anything
        """The JSON as Python values, decoded when it is asked for.

        Raises:
            msgspec.DecodeError: it is JSON that only other readers understand, such as a
                lone surrogate.
        """
        if self._data is _UNREAD:
            self._data = msgspec.json.decode(self.raw)
        return self._data

    @property
    def event(self) -> Event | None:
        """The typed event, decoded when it is asked for.

        None where the channel carries any JSON, is not in the catalogue, or carries an
        event that this version does not know; ``data`` has it all the same.
        """
        if self._event is _UNREAD:
            try:
                self._event = self._catalogue.find(self.channel).declaration.check_data(self.raw)
            except (UnknownChannel, BadRequest):
                self._event = None
        event: Event | None = self._event
        return event


class Gap(msgspec.Struct, frozen=True):
    """Publications of ``channel`` may be missing here: read the state anew.

    The hub could not prove that nothing happened between ``after``, the last position this
    reader had (None where the channel keeps no history), and ``position``, from where it
    goes on.
    """

    channel: str
    after: Position | None
    position: Position


class Snapshot:
    """The state behind a channel, as of one position: every change after it is delivered.

    What was known of the channel before is replaced by it.

    Attributes:
        channel: name of the channel.
        position: the last publication that is part of the state; what is delivered from here
            on comes after it.
        raw: the state as JSON, as it came.
    """

    __slots__ = ("_data", "channel", "position", "raw")

    def __init__(self, channel: str, position: Position, raw: bytes) -> None:
        self.channel = channel
        self.position = position
        self.raw = raw
        self._data: Any = _UNREAD

    def __repr__(self) -> str:
        at = f"{self.position.epoch}:{self.position.offset}"
        return f"Snapshot({self.channel!r}, {at}, {self.raw[:80]!r})"

    @property
    def data(self) -> Any:  # noqa: ANN401 - JSON can be anything
        """The state as Python values, decoded when it is asked for."""
        if self._data is _UNREAD:
            self._data = msgspec.json.decode(self.raw)
        return self._data
