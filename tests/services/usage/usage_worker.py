"""One process that records usage or writes it: ``python -m ... URL DATABASE WHAT ARGUMENTS``.

Says ``ready`` first. What it is sure of it says as a line; what it does not say, it may have done.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

import uvloop

from channels.errors import StoreError
from services.door import Services
from services.service_settings import ServiceSettings
from services.usage.settings import UsageSettings

#: Events of a retry storm.
STORM = 50


def say(line: str) -> None:
    """Tell the test."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def storm(services: Services, _name: str) -> None:
    """Record the same events that every other process records."""

    async def record(number: int) -> bool:
        recorded = await services.usage.record_usage(
            "ann", "w1", 3, 2, "0.01", "writer", event_id=f"e{number % 5}", organisation="o"
        )
        return not recorded.duplicate

    await asyncio.to_thread(sys.stdin.readline)
    counted = await asyncio.gather(*(record(number) for number in range(STORM)))
    say(json.dumps(sum(counted)))


async def many(services: Services, name: str, tasks: str, each: str) -> None:
    """Record with many tasks at once, all for the same workspace."""

    async def record(task: int) -> None:
        for _ in range(int(each)):
            await services.usage.record_usage(
                f"u{task % 4}", "w1", 1, 2, "0.000007", "writer", organisation="o"
            )

    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(record(task) for task in range(int(tasks))))
    say(json.dumps(name))


async def forever(services: Services, name: str) -> None:
    """Record and write until killed; say each event before it is sent, and when it is counted.

    What was not known to be counted is repeated by whoever takes the name next.
    """
    sweeping = asyncio.create_task(services.context.sweeper.run())
    waiting: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        line = sys.stdin.readline()
        if line:
            waiting.put_nowait(line.strip())
        else:
            loop.remove_reader(sys.stdin.fileno())

    loop.add_reader(sys.stdin.fileno(), read)

    async def record(task: int) -> None:
        while True:
            event = await waiting.get()
            number = int(event.rpartition("-")[2])
            while True:
                try:
                    await services.usage.record_usage(
                        f"u{number % 5}",
                        f"w{number % 2}",
                        1,
                        2,
                        "0.000007",
                        f"agent {number % 3}",
                        event_id=event,
                        organisation="o",
                    )
                except StoreError:
                    await asyncio.sleep(0.02)
                    continue
                break
            say(f"{event}")

    await asyncio.gather(sweeping, *(record(task) for task in range(8)))


WORK: dict[str, Callable[..., Awaitable[None]]] = {
    "storm": storm,
    "many": many,
    "forever": forever,
}


async def main(url: str, database: str, what: str, *arguments: str) -> None:
    """Connect and work."""
    settings = UsageSettings(lag_s=0.2, database_patience_s=1.0)
    async with Services.connect(
        url, database_url=database, settings=ServiceSettings(usage=settings), wait=what != "forever"
    ) as services:
        say("ready")
        await WORK[what](services, *arguments)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
