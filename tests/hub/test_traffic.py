"""The counters of a node."""

from __future__ import annotations

from hub.traffic import Traffic


def test_drops_are_counted_by_reason() -> None:
    """One at a time or several at once."""
    traffic = Traffic()
    traffic.dropped("slow")
    traffic.dropped("conflated", 3)
    traffic.dropped("conflated", 2)
    assert traffic.drops == {"slow": 1, "conflated": 5}
