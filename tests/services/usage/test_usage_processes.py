"""Several processes that count and write, and are killed: Redis and the database agree.

``FANWIRE_TEST_KILLS`` says how many kills there are; 12 by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select

from channels.errors import DatabaseUnavailable, StoreError
from channels.scope import Scope
from services.database import Database
from services.database.tables import USAGE_EVENTS, USAGE_RECORDS
from services.door import Services
from tests.postgres import PostgresServer
from tests.servers import ValkeyServer

from .usage_worker import STORM

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("FANWIRE_TEST_KILLS", "12"))
PATIENCE_S = 60


class Worker:
    """One process (``usage_worker.py``)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        """Return the next line it says; empty once it is gone."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            return (await self.process.stdout.readline()).decode().strip()

    def tell(self, line: str) -> None:
        """Give it a line."""
        assert self.process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.process.stdin.write(line.encode() + b"\n")

    async def kill(self) -> None:
        """Kill -9."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


async def start(*command: str) -> Worker:
    """Start a process and wait till it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.services.usage.usage_worker", *command),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    worker = Worker(process)
    assert await worker.line() == "ready"
    return worker


@contextlib.asynccontextmanager
async def workers(*commands: tuple[str, ...]) -> AsyncIterator[list[Worker]]:
    """Start processes; kill them in the end."""
    started = await asyncio.gather(*(start(*command) for command in commands))
    try:
        yield list(started)
    finally:
        for worker in started:
            await worker.kill()


async def settled(services: Services, users: list[str]) -> None:
    """Write all that waits."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                for user in users:
                    await services.usage.drain(user)
            except (StoreError, DatabaseUnavailable):
                await asyncio.sleep(0.1)  # a server that comes back sends no event
            else:
                return


async def test_a_retry_storm_charges_once(valkey: ValkeyServer, any_database_url: str) -> None:
    """Five events, fifty tries each of four processes: five are counted."""
    command = (valkey.url, any_database_url, "storm", "x")
    async with (
        workers(*[command] * 4) as started,
        Services.connect(valkey.url, database_url=any_database_url) as services,
    ):
        for worker in started:
            worker.tell("go")
        assert sum([json.loads(await worker.line()) for worker in started]) == 5
        assert STORM == 50
        await settled(services, ["ann"])
        month = (await services.usage.get_monthly_usage("ann")).cost_micro_usd
        assert month == 50_000
        for scope in (Scope("user", "ann"), Scope("workspace", "w1"), Scope("org", "o")):
            assert await services.usage.reconcile(scope) == []


async def test_sums_are_exact_under_many_tasks_and_processes(
    valkey: ValkeyServer, any_database_url: str
) -> None:
    """64 tasks in each of four processes, all for one workspace."""
    commands = [(valkey.url, any_database_url, "many", str(n), "64", "10") for n in range(4)]
    async with (
        workers(*commands) as started,
        Services.connect(valkey.url, database_url=any_database_url) as services,
    ):
        for worker in started:
            worker.tell("go")
        for worker in started:
            await worker.line()
        total = 4 * 64 * 10
        users = [f"u{number}" for number in range(4)]
        await settled(services, users)
        for scope in (Scope("workspace", "w1"), Scope("org", "o")):
            month = await services.usage.get_scope_monthly(scope)
            assert (month.requests, month.tokens_input) == (total, total)
            assert month.cost_micro_usd == 7 * total
            assert await services.usage.reconcile(scope) == []


@pytest.mark.timeout(60 + 12 * KILLS)
async def test_redis_and_the_database_agree_after_kills(
    valkey_server: Callable[[], ValkeyServer], own_postgres: PostgresServer
) -> None:
    """Of processes that count and write, of Valkey and of PostgreSQL: each event once in both.

    What a process said it had counted is counted, and everything is in the end, for what is not
    known is repeated with its id.
    """
    dice = random.Random(7)
    valkey, postgres = valkey_server(), own_postgres
    url = postgres.url
    async with Database(url) as database:
        await database.migrate()
    asked = 0
    open_: set[str] = set()
    done: set[str] = set()
    readers: dict[Worker, asyncio.Task[None]] = {}

    async def read(worker: Worker) -> None:
        while line := await worker.line():
            done.add(line)
            open_.discard(line)

    async def begin() -> Worker:
        worker = await start(valkey.url, url, "forever", "x")
        readers[worker] = asyncio.create_task(read(worker))
        for event in list(open_):  # what others left behind
            worker.tell(event)
        return worker

    try:
        running = [await begin() for _ in range(2)]
        for _ in range(KILLS):
            for _ in range(60):
                event = f"e-{asked}"
                asked += 1
                open_.add(event)
                dice.choice(running).tell(event)
            await asyncio.sleep(dice.random() * 0.8)
            match dice.choice(("process", "process", "valkey", "postgres")):
                case "process":
                    worker = running.pop(dice.randrange(2))
                    await worker.kill()
                    await readers.pop(worker)
                    running.append(await begin())
                case "valkey":
                    await asyncio.to_thread(valkey.crash)
                case "postgres":
                    await asyncio.to_thread(postgres.kill)
                    await asyncio.sleep(dice.random() * 0.3)
                    await asyncio.to_thread(postgres.start)
        async with asyncio.timeout(PATIENCE_S):
            while open_:
                for event in list(open_):
                    running[0].tell(event)
                await asyncio.sleep(0.2)
        for worker in running:
            await worker.kill()
            await readers.pop(worker)

        users = [f"u{number}" for number in range(5)]
        async with Services.connect(valkey.url, database_url=url) as services:
            await settled(services, users)
            assert len(done) == asked
            async with Database(url) as database, database.begin(write=False) as connection:
                count = select(func.count()).select_from(USAGE_EVENTS)
                assert (await connection.execute(count)).scalar() == asked
                sums = select(func.sum(USAGE_RECORDS.c.requests))
                assert (await connection.execute(sums)).scalar() == asked
            scopes = [*(Scope("user", user) for user in users), Scope("org", "o")]
            scopes += [Scope("workspace", "w0"), Scope("workspace", "w1")]
            for scope in scopes:
                assert await services.usage.reconcile(scope) == []
            total = await services.usage.get_scope_monthly(Scope("org", "o"))
            assert (total.requests, total.cost_micro_usd) == (asked, 7 * asked)
            assert total.source == "redis"
    finally:
        for worker, reader in readers.items():
            await worker.kill()
            reader.cancel()
