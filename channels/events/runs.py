"""An agent run's own event stream."""

from __future__ import annotations

from msgspec import Raw

from ..event import Event

__all__ = ["RunEvent"]


class RunEvent(Event, frozen=True, kw_only=True, tag="run.event"):
    """One event of the agent protocol in use (AG-UI), carried verbatim in ``data``.

    The hub adds what that protocol lacks (order, position, resume) outside of it.
    """

    data: Raw
