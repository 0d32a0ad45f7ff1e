"""A process that waits for approval, its hub and their Valkey, killed in turn."""

from __future__ import annotations

import asyncio
import sys

from channels.errors import StoreError
from services import Services
from services.requires_approval import gate_of_key

from .processes import HubProcess, Place, Program


async def test_the_answer_comes_whoever_is_killed(place: Place, hub: HubProcess) -> None:
    """kill -9 of each, in every order and at once: the action runs once, after the answer."""
    url = (hub.data_dir / "redis.url").read_text(encoding="ascii").strip()
    async with Services.connect(url) as services:
        approvals = services.for_workspace("w1").approvals

        async def certain(call):
            async with asyncio.timeout(30):
                while True:
                    try:
                        return await call()
                    except StoreError:
                        await asyncio.sleep(0.02)

        for round_ in range(3):
            key, file = f"k{round_}", place.path / f"paid{round_}"
            waiter = Program(
                place,
                *(sys.executable, "-m", "tests.services.approval_worker"),
                *("wait", url, key, str(file)),
                name="waiter",
            )
            await waiter.spawn()
            gate = gate_of_key("pay", key)

            async def asked(gate=gate) -> bool:
                page = await certain(approvals.list_open)
                return gate in {one.gate for one in page.items}

            async with asyncio.timeout(20):
                while not await asked():  # noqa: ASYNC110 - nobody tells this process
                    await asyncio.sleep(0.01)

            async def kill_waiter(waiter=waiter) -> None:
                await waiter.kill()
                await waiter.spawn()

            async def kill_valkey() -> None:
                await hub.valkey_back(await hub.kill_valkey())

            async def kill_hub() -> None:
                await hub.restart()

            turns = [kill_waiter, kill_valkey, kill_hub]
            turns = turns[round_:] + turns[:round_]
            for turn in turns[:2]:
                await turn()
            assert not file.exists()
            # The last one dies about when the answer is given.
            await asyncio.gather(
                turns[2](),
                certain(
                    lambda gate=gate: approvals.decide(
                        gate, "approve", actor="ann", decision_id="d"
                    )
                ),
            )
            await waiter.until(
                lambda waiter=waiter: any(
                    line == "paid" or line.startswith("refused") for line in waiter.out
                ),
                "the answer",
            )
            # At most once, also where it died between the use of the approval and the action.
            assert (await certain(lambda gate=gate: approvals.get(gate))).status == "consumed"
            if waiter.out[-1] == "paid":
                assert file.read_text(encoding="utf-8") == "paid 5\n"
            await waiter.close()


async def test_a_hub_ends_gates_and_tells_its_readers(hub: HubProcess) -> None:
    """Nobody waits and nobody asks: the hub sweeps, and the event is in the log."""
    url = (hub.data_dir / "redis.url").read_text(encoding="ascii").strip()
    async with Services.connect(url) as services:
        approvals = services.for_workspace("w1").approvals
        await approvals.request("pay", {}, gate_id="g", expires_in_s=0.2)
        async with asyncio.timeout(20):
            while True:
                page = await services.events.history(approvals.channel.name)
                if len(page.publications) == 2:
                    break
                await asyncio.sleep(0.02)
        assert b'"approval.expired"' in page.publications[1].data
        assert (await approvals._store.read("g")).status == "expired"
