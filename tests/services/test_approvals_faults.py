"""Gates decided by many processes at once, and by processes and servers that are killed.

``FANWIRE_TEST_CRASHES`` says how often the server is killed (60 unless told otherwise), and
a tenth of it how often a process is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path

import pytest

from channels.errors import Conflict, NotFound, StoreError
from services.clock import Clock
from services.gate import AlreadyDecided
from services.store import embedded
from services.store.tcp import TcpStore, TcpStoreOptions

from ..servers import PATIENCE_S
from .approval_support import Stage, assert_agreement

ROOT = Path(__file__).parents[2]
CRASHES = int(os.environ.get("FANWIRE_TEST_CRASHES", "60"))
QUICK = TcpStoreOptions(backoff_s=(0.001, 0.05))


async def start(*arguments: str) -> asyncio.subprocess.Process:
    """Start a worker process."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.services.approval_worker", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**22,
    )


async def test_eight_processes_decide_a_hundred_gates(valkey, store):
    """Ten thousand decisions: a hundred winners, and everybody is told the right one."""
    stage = Stage(store)
    for n in range(100):
        await stage.of().request("pay", {"n": n}, gate_id=f"g{n}")
    workers = [await start("decide", valkey.url, str(n), "1250", "100") for n in range(8)]
    try:
        async with asyncio.timeout(100):
            for worker in workers:
                assert await worker.stdout.readline() == b"ready\n"
            for worker in workers:
                worker.stdin.write(b"go\n")
            outputs = await asyncio.gather(*(worker.communicate() for worker in workers))
    finally:
        for worker in workers:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
    answers = [json.loads(line) for out, _ in outputs for line in out.splitlines()]
    assert len(answers) == 10_000
    assert len({answer["own"] for answer in answers}) == 10_000
    gates = {gate.gate: gate for gate in await assert_agreement(stage, "w1")}
    assert {gate.version for gate in gates.values()} == {2}
    for answer in answers:
        assert answer["winner"] == gates[answer["gate"]].decision.decision
    winners = [answer for answer in answers if answer["winner"] == answer["own"]]
    assert len(winners) == 100
    assert {answer["gate"] for answer in winners} == set(gates)


async def test_a_deadline_and_a_decision_meet(store):
    """In one millisecond, by clocks that differ by one: one of them ends the gate."""
    late, early = Stage(store), Stage(store)
    early.hand = late.hand
    early.context.clock._now = lambda: late.hand.seconds - 0.001
    late.context.clock = late.context.sweeper._clock = Clock(store, now=late.hand)
    ended = defaultdict(int)
    for n in range(200):
        gate = f"g{n}"
        await late.of().request("pay", {}, gate_id=gate, expires_in_s=10)
        late.hand.move(10)
        calls = [
            early.of().decide(gate, "approve", actor="ann", decision_id="d"),
            late.of().decide(gate, "reject", actor="bob", decision_id="e"),
            late.context.sweeper.sweep(),
        ]
        random.Random(n).shuffle(calls)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        told = await late.of().get(gate)
        ended[told.status] += 1
        assert told.version == 2
        for answer in answers:
            if isinstance(answer, AlreadyDecided):
                assert answer.gate == told
            elif answer is not None and not isinstance(answer, int):
                assert answer == told
                assert told.status == "approved"
    assert set(ended) == {"approved", "expired"}  # both of them came first sometimes
    await assert_agreement(late, "w1")


@pytest.mark.timeout(60 + CRASHES)
async def test_processes_that_are_killed_leave_whole_changes(valkey, store):
    """kill -9 at any moment: what was told certainly is there, and nothing is half there."""
    stage, chance = Stage(store), random.Random(7)
    for n in range(max(8, CRASHES // 10)):
        workspace = f"w{n}"
        worker = await start("work", valkey.url, workspace)
        certain: dict[str, str] = {}

        async def listen(worker=worker, certain=certain) -> None:
            async for line in worker.stdout:
                gate, status = json.loads(line)
                certain[gate] = status

        listening = asyncio.create_task(listen())
        async with asyncio.timeout(PATIENCE_S):
            while not certain:  # noqa: ASYNC110 - the worker tells of itself only
                await asyncio.sleep(0.001)
        await asyncio.sleep(chance.random() * 0.1)
        worker.kill()
        await worker.wait()
        await listening
        gates = {gate.gate: gate for gate in await assert_agreement(stage, workspace)}
        order = ["pending", "approved", "edited", "rejected", "consumed"]
        for gate, status in certain.items():
            there = gates[gate].status
            assert there == status or order.index(there) > order.index(status)


@pytest.mark.timeout(60 + CRASHES)
async def test_a_server_that_is_killed_leaves_whole_changes(valkey_server, monkeypatch):
    """kill -9 at any moment: whoever asks again with the same ids gets each change once."""
    # Started again at once, however often it died.
    monkeypatch.setattr(embedded, "_BACKOFF_S", (0.001, 0.002))
    server = valkey_server()
    chance = random.Random()
    async with TcpStore(server.url, QUICK) as store:
        stage = Stage(store)
        for n in range(CRASHES):
            workspace = f"w{n}"
            approvals = stage.of(workspace)
            done: dict[str, str] = {}
            stop = asyncio.Event()

            async def until_certain(call):
                while True:
                    try:
                        return await call()
                    except StoreError:
                        await asyncio.sleep(0.002)

            async def one(gate, approvals=approvals, done=done, seed=n):
                own = random.Random(f"{seed}{gate}")
                verdict = own.choice(["approve", "reject"])
                await until_certain(
                    lambda: approvals.request("pay", {"g": gate}, gate_id=gate, run="r")
                )
                told = await until_certain(
                    lambda: approvals.decide(gate, verdict, actor="ann", decision_id="d")
                )
                if told.dispatchable:
                    told = await until_certain(
                        lambda: approvals.consume(gate, run="r", args_sha256=told.digest)
                    )
                done[gate] = told.status

            async def again(gate, one=one):
                # A server that syncs its file once a second may forget, when it is killed,
                # what it said in the last one; never a part of it, nor what came before.
                while True:
                    with contextlib.suppress(NotFound, Conflict):
                        return await one(gate)

            async def work(part, again=again, stop=stop):
                number = 0
                while not stop.is_set() and number < 60:
                    await again(f"g{part}-{number}")
                    number += 1

            working = asyncio.gather(*(work(part) for part in range(4)))
            await asyncio.sleep(chance.random() * 0.02)
            await asyncio.to_thread(server.crash)
            stop.set()
            async with asyncio.timeout(PATIENCE_S):
                await working
                await until_certain(partial(assert_agreement, stage, workspace))
                told = dict(done)
                await asyncio.gather(*(again(gate) for gate in told))
            assert done == told  # asked again, everything is as it was said
            gates = {
                gate.gate: gate.status
                for gate in await until_certain(partial(assert_agreement, stage, workspace))
            }
            assert gates == done
