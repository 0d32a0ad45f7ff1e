"""What a hub and its Redis did between two moments, by their own counters.

The hub's are those of ``/metrics``, so an operator can repeat every figure on their own
machines; Redis tells its processor time in ``INFO``.
"""

from __future__ import annotations

import re
import time
import urllib.request
from collections import defaultdict
from dataclasses import dataclass

import redis

__all__ = ["Meter", "Used"]

_SAMPLE = re.compile(r"^(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_PATIENCE_S = 20.0
_POLL_S = 0.05


@dataclass(frozen=True)
class Used:
    """What happened in a span of time.

    Attributes:
        seconds: of the span, from scrape to scrape.
        hub_s, redis_s: processor time, user and system.
        publications: that came from Redis into rooms of the hub.
        walks: of a room's subscribers; publications that waited together take one.
        deliveries: publications handed to subscribers.
        delivered_bytes: of these, without what the transport adds.
        resident_bytes: of the hub at the end.
    """

    seconds: float
    hub_s: float
    redis_s: float
    publications: float
    walks: float
    deliveries: float
    delivered_bytes: float
    resident_bytes: float


class Meter:
    """Reads the counters of the hub on ``hub_port`` and the Redis on ``redis_port``."""

    def __init__(self, hub_port: int, redis_port: int) -> None:
        self._url = f"http://127.0.0.1:{hub_port}/metrics"
        self._redis = redis.Redis(port=redis_port)

    def read(self) -> dict[str, float]:
        """Return every metric of the hub, summed over its labels, and Redis's CPU seconds."""
        with urllib.request.urlopen(self._url, timeout=_PATIENCE_S) as response:
            text = response.read().decode()
        found: dict[str, float] = defaultdict(float)
        for name, value in _SAMPLE.findall(text):
            found[name] += float(value)
        cpu = self._redis.info("cpu")
        found["redis_cpu"] = float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])
        found["at"] = time.monotonic()
        return found

    def wait(self, metric: str, at_least: float) -> None:
        """Return when a metric of the hub has come to a value.

        Raises:
            RuntimeError: it did not within 20 seconds.
        """
        until = time.monotonic() + _PATIENCE_S
        while (value := self.read()[metric]) < at_least:
            if time.monotonic() > until:
                raise RuntimeError(f"expected {metric} to reach {at_least:g}; it is {value:g}")
            time.sleep(_POLL_S)

    def over(self, seconds: float) -> Used:
        """Return what is done in so many seconds from now."""
        before = self.read()
        time.sleep(seconds)
        return _between(before, self.read())

    def since(self, before: dict[str, float]) -> Used:
        """Return what was done since ``before`` was read."""
        return _between(before, self.read())


def _between(before: dict[str, float], after: dict[str, float]) -> Used:
    def grew(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    return Used(
        seconds=grew("at"),
        hub_s=grew("fanwire_process_cpu_seconds_total"),
        redis_s=grew("redis_cpu"),
        publications=grew("fanwire_publications_total"),
        walks=grew("fanwire_write_lag_seconds_count"),
        deliveries=grew("fanwire_deliveries_total"),
        delivered_bytes=grew("fanwire_delivered_bytes_total"),
        resident_bytes=after["fanwire_process_resident_memory_bytes"],
    )
