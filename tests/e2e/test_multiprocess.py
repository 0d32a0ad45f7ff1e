"""Several workers on one port, and the demonstration: many processes that are one hub."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from clients import AsyncPublisher, Subscriber
from tests.history_check import check
from tests.servers import gone

from .processes import ROOT, HubProcess, Place, Program, eventually, free_port
from .readers import FeedReader, NodeSubscriber, OfficialSubscriber, OurSubscriber, Reader, joined
from .traffic import Sent, Traffic, history_of

StartHub = Callable[..., Awaitable[HubProcess]]
CONNECTIONS = 16


def workers_of(hub: HubProcess) -> set[int]:
    """Return the process ids of the workers (not of Python's resource tracker)."""
    return {pid for pid, command in hub.place.pids().items() if "spawn_main" in command}


async def nodes(hub: HubProcess) -> set[str]:
    """Return the ids of the nodes that new connections reached, asking often."""

    # A connection for each request.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=hub.url, limits=limits, timeout=20) as http:

        async def ask() -> str:
            node: str = (await http.get("/health/ready")).json()["node"]
            return node

        return set(await asyncio.gather(*(ask() for _ in range(4 * CONNECTIONS))))


async def both_nodes(hub: HubProcess) -> set[str]:
    """Return the ids of the nodes when new connections reach two of them."""
    found: set[str] = set()

    async def are_two() -> bool:
        found.clear()
        found.update(await nodes(hub))
        return len(found) == 2

    await eventually(are_two)
    return found


async def clients_by_node(hub: HubProcess) -> dict[str, int]:
    """Return how many clients each node has, as ``info`` tells."""
    async with httpx.AsyncClient(base_url=hub.url, timeout=20) as http:
        told = (await http.post("/api/info", json={})).json()["result"]["nodes"]
    return {node["uid"]: node["num_clients"] for node in told}


async def _is_replaced(hub: HubProcess, victim: int, before: set[str]) -> bool:
    return len(workers_of(hub) - {victim}) == 2 and await both_nodes(hub) != before


async def connections_by_worker(hub: HubProcess) -> dict[str, int]:
    """Return how many clients each worker has, of every transport, as one scrape tells."""
    async with httpx.AsyncClient(base_url=hub.url, timeout=20) as http:
        text = (await http.get("/metrics")).text
    [family] = [one for one in parse(text) if one.name == "fanwire_connections"]
    counts: Counter[str] = Counter()
    for sample in family.samples:
        counts[sample.labels["worker"]] += int(sample.value)
    return dict(counts)


async def test_events_reach_the_clients_of_every_worker(start_hub: StartHub) -> None:
    """Clients spread over both; whichever an event is published through, all see it, in order."""
    hub = await start_hub("--workers", "2", env={"FANWIRE_NODE_REPORT_S": "0.2"})
    assert len(workers_of(hub)) == 2
    assert len(await both_nodes(hub)) == 2
    readers: list[Reader] = [
        *(OurSubscriber(hub.url, "news") for _ in range(CONNECTIONS)),
        *(FeedReader(hub.url, "news") for _ in range(CONNECTIONS)),
    ]
    async with joined(readers):
        spread = await connections_by_worker(hub)
        assert sorted(spread) == ["0", "1"]
        assert sum(spread.values()) == len(readers)
        # Each has 16 give or take 3: less than one happens once in a thousand million runs.
        assert min(spread.values()) >= 1

        async def is_told() -> bool:  # reports of the other node are a moment old
            return sorted((await clients_by_node(hub)).values()) == sorted(spread.values())

        await eventually(is_told)
        for number in range(CONNECTIONS):
            async with AsyncPublisher(hub.url) as publisher:  # a connection of its own
                await publisher.publish("news", number)
        for reader in readers:
            await reader.received(CONNECTIONS)
    for reader in readers:
        assert reader.data() == list(range(CONNECTIONS))
    assert await hub.stop() == 0


async def test_a_killed_worker_is_replaced_and_its_clients_recover(
    start_hub: StartHub, place: Place, node: str
) -> None:
    """Both workers are killed (-9), one after the other, under traffic: nothing is missing.

    Four publishers go on meanwhile, and try again with the same key where they must.
    """
    hub = await start_hub("--workers", "2")
    readers: list[Reader] = [
        *(OurSubscriber(hub.url, "news") for _ in range(CONNECTIONS // 2)),
        *(FeedReader(hub.url, "news") for _ in range(CONNECTIONS // 2)),
        OfficialSubscriber(hub.ws_url, "news"),
        NodeSubscriber(place, node, hub.ws_url, "news"),
    ]
    async with joined(readers):
        async with Traffic(hub.url, "news") as traffic:
            for victim in sorted(workers_of(hub)):
                assert min((await connections_by_worker(hub)).values()) >= 1
                before = await both_nodes(hub)
                await traffic.flow(50)
                os.kill(victim, SIGKILL)
                await traffic.flow(50)
                await eventually(partial(_is_replaced, hub, victim, before))
                await traffic.flow(50)
        async with AsyncPublisher(hub.url) as publisher:
            end = await publisher.publish("news", {"id": "end0.0-0"})
        traffic.sent.append(Sent("end0.0-0", "news", end))
        for reader in readers:
            await reader.until(lambda reader=reader: reader.data()[-1:] == [{"id": "end0.0-0"}])
    report = check(history_of(traffic.sent, readers))
    assert report.findings == [], report
    assert report.acked >= 300
    assert [reader.kind for reader in readers if reader.of("gap")] == []
    assert await hub.stop() == 0
    assert sum("a worker died and is replaced" in line for line in hub.err) == 2


async def test_workers_and_valkey_end_with_a_parent_that_was_killed(start_hub: StartHub) -> None:
    """kill -9 of the parent leaves neither workers nor a Valkey behind."""
    hub = await start_hub("--workers", "2")
    left = [*workers_of(hub), hub.valkey_pid]
    hub.signal(SIGKILL)
    await hub.process.wait()
    for pid in left:
        assert await asyncio.to_thread(gone, pid), pid


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
async def test_the_demonstration_runs_and_ends(place: Place, number: Signals) -> None:
    """What ``make run`` runs: it prints the address once, is full of life, and ends with 0."""
    port = free_port()
    demo = Program(
        place, sys.executable, "-m", "examples.demo", "--port", str(port),
        "--data-dir", str(place.path / "demo.data"), name="demo", directory=ROOT,
    )  # fmt: skip
    await demo.spawn()
    line = await demo.line("Fanwire is live")
    assert f"http://127.0.0.1:{port}/" in line

    async def all_there() -> bool:  # demo, hub, agent and Valkey; the agent comes last
        return len(place.pids()) == 4

    await eventually(all_there)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, timeout=20) as http:
        assert "<title>" in (await http.get("/")).text
    async with AsyncPublisher(url) as publisher, Subscriber(url) as subscriber:

        async def runs() -> bool:  # the agent begins when it likes
            return bool(await publisher.channels("run:*"))

        await eventually(runs)
        run = next(iter(await publisher.channels("run:*")))
        async with asyncio.timeout(20), subscriber.subscribe(run) as deliveries:
            async for delivery in deliveries:
                assert delivery.event is not None
                break
    # As a terminal does: the signal goes to the whole group only when typed, here to one.
    assert await demo.stop(number) == 0
    assert place.pids() == {}
    assert sum("Fanwire is live" in line for line in demo.out) == 1
    assert not any("Traceback" in line for line in demo.err)
