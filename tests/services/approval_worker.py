"""A process that works on gates, for tests that run several of them or kill them.

    python -m tests.services.approval_worker decide URL WORKER DECISIONS GATES
    python -m tests.services.approval_worker work URL WORKSPACE
    python -m tests.services.approval_worker wait URL KEY FILE

``decide`` waits for a line on standard input, decides every gate many times over, all at once,
and prints what it was told. ``work`` does random things until it is killed. ``wait`` calls a
function that needs approval, which appends a line to FILE.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from pathlib import Path

import uvloop

from channels.errors import RequestError, StoreUnavailable
from services import Services
from services.gate import AlreadyDecided
from services.requires_approval import requires_approval


async def decide(url: str, worker: str, decisions: str, gates: str) -> None:
    """Decide gates ``g0`` to the last, so many times in all, and print each answer."""
    async with Services.connect(url) as services:
        approvals = services.for_workspace("w1").approvals
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        # More at once would wait for a busy server for longer than a call may take.
        slots = asyncio.Semaphore(200)

        async def one(n: int) -> dict[str, object]:
            async with slots:
                return await decided(n)

        async def decided(n: int) -> dict[str, object]:
            gate, own = f"g{n % int(gates)}", f"d-{worker}-{n}"
            verdict = ("approve", "reject")[n // int(gates) % 2]
            try:
                told = await approvals.decide(gate, verdict, actor=f"p{worker}", decision_id=own)
            except AlreadyDecided as lost:
                told = lost.gate
            return {"gate": gate, "own": own, "winner": told.decision.decision}

        for answer in await asyncio.gather(*(one(n) for n in range(int(decisions)))):
            print(json.dumps(answer))


async def work(url: str, workspace: str) -> None:
    """Do random things to gates, several at a time, for ever; print what is certain."""
    chance = random.Random()
    async with Services.connect(url) as services:
        approvals = services.for_workspace(workspace).approvals

        async def one(n: int) -> None:
            gate = f"g{n}"
            await approvals.request("pay", {"n": n}, gate_id=gate, expires_in_s=3600)
            print(json.dumps([gate, "pending"]), flush=True)
            verdict = chance.choice(["approve", "reject", "edit"])
            payload = {"n": n + 1} if verdict == "edit" else None
            answers = await asyncio.gather(
                *(
                    approvals.decide(
                        gate, verdict, actor=f"p{m}", decision_id=f"d{m}", payload=payload
                    )
                    for m in range(3)
                ),
                return_exceptions=True,
            )
            (told,) = [one for one in answers if not isinstance(one, BaseException)]
            print(json.dumps([gate, told.status]), flush=True)
            if told.dispatchable:
                await approvals.consume(gate, run="r", args_sha256=told.digest)
                print(json.dumps([gate, "consumed"]), flush=True)

        n = 0
        while True:
            await asyncio.gather(*(one(m) for m in range(n, n + 8)), return_exceptions=True)
            n += 8


async def wait(url: str, key: str, file: str) -> None:
    """Wait for approval, then write to ``file``."""
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                services = await stack.enter_async_context(Services.connect(url))
            except StoreUnavailable:
                await asyncio.sleep(0.1)  # the server is killed too, and may come later than we
            else:
                break

        @requires_approval(lambda: services.for_workspace("w1").approvals, tool="pay")
        async def pay(amount: int) -> str:
            with Path(file).open("a", encoding="utf-8") as out:  # noqa: ASYNC230
                out.write(f"paid {amount}\n")
            return "paid"

        print("waiting", flush=True)
        try:
            print(await pay.keyed(key)(5), flush=True)
        except RequestError as error:
            print(f"refused: {error}", flush=True)


if __name__ == "__main__":
    uvloop.run({"decide": decide, "work": work, "wait": wait}[sys.argv[1]](*sys.argv[2:]))
