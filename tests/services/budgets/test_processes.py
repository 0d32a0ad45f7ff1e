"""Several processes, processes that are killed, and a server that is: never overspent."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from services.door import Services
from services.service_settings import ServiceSettings

from ...servers import ValkeyServer
from ..waiting_workers import PATIENCE_S, waiting_workers
from .support import account, events_of
from .worker import SETTINGS

workers = partial(waiting_workers, "tests.services.budgets.worker")


async def together(url: str, *command: str, processes: int = 4) -> list[Any]:
    """Have processes do the same at once; return what each found."""
    async with workers(url, *[command] * processes) as ready:
        for worker in ready:
            worker.begin()
        return [await worker.result() for worker in ready]


def write_at_once(server: ValkeyServer) -> None:
    """Have the server write what it acknowledges."""
    with server.client() as client:
        client.config_set("appendfsync", "always")


async def test_two_hundred_callers_in_four_processes_get_exactly_what_there_is(valkey):
    """Each asks for 5 %: twenty are granted. The document's code grants more."""
    assert sum(await together(valkey.url, "reserve", "50", "")) == 20
    assert sum(await together(valkey.url, "seed", "50", valkey.url)) > 20


async def test_a_tight_organisation_holds_for_all_processes(valkey):
    """Half a dollar for everybody: ten, although each user has a dollar."""
    assert sum(await together(valkey.url, "reserve", "50", "tight")) == 10


async def test_a_retry_storm_of_processes_charges_once(valkey):
    """Four processes, fifty times each, the same hold and the same event."""
    assert sum(await together(valkey.url, "storm", "50")) == 1
    async with Services.connect(valkey.url, settings=ServiceSettings(budgets=SETTINGS)) as services:
        assert (await account(services.budgets, "user:ann"))[:2] == (250_000, 0)
        kinds = [kind for kind, _ in await events_of(services.context, "usage:ann")]
    assert kinds == ["budget.reserved", "usage.recorded", "budget.released"]


async def test_nothing_stays_set_aside_for_the_dead(valkey):
    """Killed -9 with all of it held; a second later all of it is free, and told."""
    async with workers(valkey.url, ("hold", "10"), ("hold", "10")) as ready:
        for worker in ready:
            worker.begin()
        for worker in ready:
            assert await worker.line() == "holding"
        for worker in ready:
            worker.kill()
    async with Services.connect(valkey.url, settings=ServiceSettings(budgets=SETTINGS)) as services:
        async with asyncio.timeout(PATIENCE_S):
            while (await account(services.budgets, "user:ann"))[1]:
                await services.context.sweeper.sweep()
        events = await events_of(services.context, "usage:ann")
        reasons = [data["reason"] for kind, data in events if kind == "budget.released"]
        assert reasons == ["expired"] * 20
        assert await services.budgets.reserve("ann", "w1", estimated_cost=1)


async def test_a_server_that_is_killed_under_load_never_lets_anybody_overspend(valkey_server):
    """Each process clears up what it does not know by its hold ids; the sums agree in the end.

    The server writes before it answers here. As it is set otherwise (``everysec``) a kill may
    take back what was acknowledged within two seconds, as it does of everything in Redis.
    """
    server = valkey_server()
    write_at_once(server)
    commands = [("spend", f"p{number}", "400") for number in range(4)]
    async with workers(server.url, *commands) as ready:
        for worker in ready:
            worker.begin()
        results = asyncio.gather(*(worker.result() for worker in ready))
        for _ in range(3):
            await asyncio.sleep(0.1)
            assert not results.done(), "the load was over before the server was killed"
            server.kill()
            await asyncio.to_thread(server.wait_ready)
            write_at_once(server)
        found = await results
    async with Services.connect(server.url, settings=ServiceSettings(budgets=SETTINGS)) as services:
        spent, reserved, _, _ = await account(services.budgets, "user:ann")
    assert spent == sum(one["charged"] for one in found)
    assert 0 < spent <= 1_000_000
    assert reserved == 0
    assert server.restarts == 3
