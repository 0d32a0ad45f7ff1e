"""One channel, many connections: what fan-out scenarios measure in common."""

from __future__ import annotations

from .load_client import Group, Load
from .scenario import NotOffered, Running, Sample

__all__ = ["fan_out"]


def fan_out(running: Running, connections: int, *, window: int = 1, sse: bool = False) -> Sample:
    """Measure deliveries a second with so many messages on their way at a time.

    The next message is published when the oldest reached everybody, so the figure is what
    the server delivers when it always has something to do, and its queues do not grow.
    """
    subscribe = running.endpoint.sse if sse else running.endpoint.ws
    if subscribe is None:
        raise NotOffered("it offers no event stream" if sse else "it offers no WebSocket")
    result = running.load(
        Load(
            groups=[Group(subscribe, connections, sse=sse)],
            publish=running.endpoint.publish,
            window=window,
            seconds=running.seconds,
        )
    )
    p99_us = 0.0 if result.latency is None else result.latency.p99_us
    return Sample.of_load(result.deliveries_per_s, result, p99_us=p99_us)
