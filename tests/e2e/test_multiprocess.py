"""Several workers on one port, and the demonstration: many processes that are one hub."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from signal import SIGCONT, SIGINT, SIGKILL, SIGSTOP, SIGTERM, Signals

import httpx
import pytest

from clients import AsyncPublisher, Subscriber
from tests.servers import gone

from .processes import ROOT, HubProcess, Place, Program, eventually, free_port
from .readers import FeedReader, NodeSubscriber, OfficialSubscriber, OurSubscriber, Reader, joined

StartHub = Callable[..., Awaitable[HubProcess]]
CONNECTIONS = 16


def workers_of(hub: HubProcess) -> set[int]:
    """Return the process ids of the workers (not of Python's resource tracker)."""
    return {pid for pid, command in hub.place.pids().items() if "spawn_main" in command}


async def nodes(hub: HubProcess) -> set[str]:
    """Return the ids of the nodes that new connections reached, asking often."""

    async def ask() -> str:
        async with httpx.AsyncClient(base_url=hub.url) as http:
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
    async with httpx.AsyncClient(base_url=hub.url) as http:
        told = (await http.post("/api/info", json={})).json()["result"]["nodes"]
    return {node["uid"]: node["num_clients"] for node in told}


async def _is_replaced(hub: HubProcess, victim: int, before: set[str]) -> bool:
    return len(workers_of(hub) - {victim}) == 2 and await both_nodes(hub) != before


@contextmanager
def only(hub: HubProcess, worker: int) -> Iterator[None]:
    """Have ``worker`` take every new connection: the others stand still meanwhile.

    Which process accepts a connection on a shared socket is the kernel's choice, and on an
    idle machine it can be the same one every time.
    """
    others = workers_of(hub) - {worker}
    for pid in others:
        os.kill(pid, SIGSTOP)
    try:
        yield
    finally:
        for pid in others:
            os.kill(pid, SIGCONT)


async def test_events_reach_the_clients_of_every_worker(start_hub: StartHub) -> None:
    """Whichever worker an event is published through, the clients of both see it, in order."""
    hub = await start_hub("--workers", "2", env={"FANWIRE_NODE_REPORT_S": "0.2"})
    workers = sorted(workers_of(hub))
    assert len(workers) == 2
    assert len(await both_nodes(hub)) == 2
    readers: list[Reader] = []
    async with AsyncExitStack() as stack:
        for worker in workers:
            with only(hub, worker):
                one: list[Reader] = [OurSubscriber(hub.url, "news"), FeedReader(hub.url, "news")]
                readers += await stack.enter_async_context(joined(one))

        async def are_counted() -> bool:  # reports of the other node are a moment old
            return sorted((await clients_by_node(hub)).values()) == [2, 2]

        await eventually(are_counted)
        for number in range(CONNECTIONS):
            # A connection of its own for each, through one worker and then the other.
            with only(hub, workers[number % 2]):
                async with AsyncPublisher(hub.url) as publisher:
                    await publisher.publish("news", number)
        for reader in readers:
            await reader.received(CONNECTIONS)
    for reader in readers:
        assert reader.data() == list(range(CONNECTIONS))
    assert await hub.stop() == 0


async def test_a_killed_worker_is_replaced_and_its_clients_recover(
    start_hub: StartHub, place: Place, node: str
) -> None:
    """Both workers are killed (-9), one after the other, while events flow: none is missing."""
    hub = await start_hub("--workers", "2")
    readers: list[Reader] = [
        *(OurSubscriber(hub.url, "news") for _ in range(CONNECTIONS // 2)),
        *(FeedReader(hub.url, "news") for _ in range(CONNECTIONS // 2)),
        OfficialSubscriber(hub.ws_url, "news"),
        NodeSubscriber(place, node, hub.ws_url, "news"),
    ]
    count = 0
    async with joined(readers), AsyncPublisher(hub.url) as publisher:
        for victim in sorted(workers_of(hub)):
            before = await both_nodes(hub)
            os.kill(victim, SIGKILL)
            for _ in range(50):
                await publisher.publish("news", count)
                count += 1
            await eventually(partial(_is_replaced, hub, victim, before))
        await publisher.publish("news", count)
        for reader in readers:
            await reader.received(count + 1)
    for reader in readers:
        assert reader.data() == list(range(count + 1)), reader.kind
        assert reader.of("gap") == []
    assert await hub.stop() == 0
    assert any("a worker died and is replaced" in line for line in hub.err)


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
    assert len(place.pids()) == 4, place.pids()  # demo, hub, agent and Valkey
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url) as http:
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
