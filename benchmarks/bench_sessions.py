"""Working memory, calls a second: Fanwire beside the code it began from and beside libraries.

    python -m benchmarks.bench_sessions [--rounds 5] [--operations 20000]

Everybody runs on one client process and the same server, in alternating rounds, each round on
an empty server. Messages of 200 bytes. What counts as *kept* is in the store afterwards:

- Fanwire: messages counted by the session, each with its event in the channel's log.
- seed: the code of the document that Fanwire began from (``seed_sessions.py``). It keeps ten
  messages, so what it loses is counted in runs of its own in which it keeps all.
- OpenAI Agents SDK (``RedisSession``) and LlamaIndex (``RedisChatStore``), each in an
  environment of its own, made at the first run. They store messages only: no versions, no
  events, no ids against repetition, no end that is told.
- ``langgraph-checkpoint-redis`` is not measured: it needs the modules RedisJSON and RediSearch,
  and this server, as plain Valkey or Upstash, has none.

``get`` reads what a session keeps after fifty messages: fifty, but the seed's ten.

Prints a table and writes benchmarks/results/sessions.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import redis.asyncio as redis_py
import uvloop

from benchmarks.bench_store_append import machine, server
from benchmarks.peers._preparation import PreparationError
from benchmarks.peers._python import PythonPackages
from benchmarks.seed_sessions import SeedSessions
from channels.catalogue import Catalogue
from services.context import Context
from services.session_manager import SessionManager, install
from services.store.keys import Keys
from services.store.tcp import TcpStore

RESULTS = Path(__file__).parent / "results" / "sessions.json"
CONTENT = "x" * 200
WINDOW = 50

ONE, MANY = "add_message, one session", "add_message, many sessions"
CREATE, GET, UPDATE = "create", "get", "update"
CASES = [(case, writers) for case in (ONE, MANY) for writers in (1, 32, 64)]
CASES += [(case, 32) for case in (CREATE, GET, UPDATE)]

PEERS = {
    "openai-agents": PythonPackages("openai_agents", ("openai-agents", "redis", "uvloop")),
    "llama-index": PythonPackages(
        "llama_index",
        ("llama-index-core", "llama-index-storage-chat-store-redis", "redis", "uvloop"),
    ),
}
#: Optimistic transactions on one key: a minute and more for what takes others a second.
_FEWER = {("openai-agents", ONE, 32): 20, ("openai-agents", ONE, 64): 40}


class Sample(NamedTuple):
    """One run: how long, how many calls, how many of them had an effect that is still there."""

    seconds: float
    done: int
    kept: int


async def timed(call: Callable[[int, int], Awaitable[object]], writers: int, count: int) -> float:
    """Call ``call(writer, number)`` ``count`` times from ``writers`` tasks."""

    async def work(writer: int) -> None:
        for number in range(count // writers):
            await call(writer, number)

    started = time.perf_counter()
    await asyncio.gather(*(work(writer) for writer in range(writers)))
    return time.perf_counter() - started


async def fanwire(url: str, case: str, writers: int, count: int) -> Sample:
    """Run a case on Fanwire."""
    async with TcpStore(url) as store:
        await store.execute("FLUSHALL")
        context = Context(store, Keys("fw"), Catalogue())
        install(context)
        sessions = SessionManager(context, "w1")
        ids = ["s0"] if case == ONE else [f"s{writer}" for writer in range(writers)]
        for id in ids:
            await sessions.create_session(id, "ada")
        if case == GET:
            for _ in range(WINDOW):
                await sessions.add_message("s0", "user", CONTENT)
        calls: dict[str, Callable[[int, int], Awaitable[object]]] = {
            ONE: lambda _writer, _number: sessions.add_message("s0", "user", CONTENT),
            MANY: lambda writer, _number: sessions.add_message(ids[writer], "user", CONTENT),
            CREATE: lambda writer, number: sessions.create_session(f"c{writer}-{number}", "ada"),
            GET: lambda _writer, _number: sessions.get_session("s0"),
            UPDATE: lambda writer, number: sessions.update_session(
                ids[writer], current_task=f"task {number}"
            ),
        }
        seconds = await timed(calls[case], writers, count)
        done = kept = count // writers * writers
        if case in (ONE, MANY):
            states = [await sessions.get_session(id) for id in ids]
            kept = sum(state.message_count for state in states if state)
        return Sample(seconds, done, kept)


async def seed(url: str, case: str, writers: int, count: int) -> Sample:
    """Run a case on the seed's code; losses are counted in a run of their own."""
    async with redis_py.Redis.from_url(url, max_connections=writers) as redis:
        await redis.flushall()
        sessions = SeedSessions(redis)
        ids = ["s0"] if case == ONE else [f"s{writer}" for writer in range(writers)]
        for id in ids:
            await sessions.create_session(id, "w1", "ada")
        if case == GET:
            for _ in range(WINDOW):
                await sessions.add_message("s0", "user", CONTENT)
        calls: dict[str, Callable[[int, int], Awaitable[object]]] = {
            ONE: lambda _writer, _number: sessions.add_message("s0", "user", CONTENT),
            MANY: lambda writer, _number: sessions.add_message(ids[writer], "user", CONTENT),
            CREATE: lambda writer, number: sessions.create_session(
                f"c{writer}-{number}", "w1", "ada"
            ),
            GET: lambda _writer, _number: sessions.get_session("s0"),
            UPDATE: lambda writer, number: sessions.update_session(
                ids[writer], current_task=f"task {number}"
            ),
        }
        seconds = await timed(calls[case], writers, count)
        done = kept = count // writers * writers
        if case in (ONE, MANY):
            kept = round(done * await _kept_by_seed(redis, case, writers))
        return Sample(seconds, done, kept)


async def _kept_by_seed(redis: redis_py.Redis, case: str, writers: int) -> float:
    """Return which part of its messages survive the other writers."""
    sessions = SeedSessions(redis, kept=None)
    ids = ["k0"] if case == ONE else [f"k{writer}" for writer in range(writers)]
    for id in ids:
        await sessions.create_session(id, "w1", "ada")
    tries = writers * 20

    async def add(writer: int, _number: int) -> None:
        await sessions.add_message(ids[writer % len(ids)], "user", CONTENT)

    await timed(add, writers, tries)
    states = [await sessions.get_session(id) for id in ids]
    return sum(len(state["recent_messages"]) for state in states if state) / tries


def peer(name: str, url: str, case: str, writers: int, count: int) -> Sample | None:
    """Run a case in a peer's environment; None for what it does not offer."""
    if case not in (ONE, MANY, GET):
        return None
    count = max(count // _FEWER.get((name, case, writers), 1), writers)
    command = PEERS[name].script("sessions.py", url, case, str(writers), str(count))
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    found = json.loads(done.stdout)
    return Sample(found["seconds"], found["done"], found["kept"])


def measure(url: str, rounds: int, operations: int) -> dict[str, dict[str, list[Sample]]]:
    """Return the samples by case and system."""
    samples: dict[str, dict[str, list[Sample]]] = {}
    names = [name for name in PEERS if PEERS[name].missing() is None]
    for turn in range(rounds + 1):
        for case, writers in CASES:
            count = operations if writers > 1 else operations // 5
            if not turn:
                count //= 10  # warm up
            row = {
                "fanwire": uvloop.run(fanwire(url, case, writers, count)),
                "seed": uvloop.run(seed(url, case, writers, count)),
                **{name: peer(name, url, case, writers, count) for name in names if turn},
            }
            if turn:
                for name, sample in row.items():
                    if sample is not None:
                        label = f"{case}, {writers} writer{'s' * (writers > 1)}"
                        samples.setdefault(label, {}).setdefault(name, []).append(sample)
    return samples


def summary(samples: list[Sample]) -> dict[str, float]:
    """Return calls a second, and what was kept of them."""
    rates = [sample.done / sample.seconds for sample in samples]
    kept = sum(sample.kept for sample in samples) / sum(sample.done for sample in samples)
    return {
        "median": round(statistics.median(rates)),
        "min": round(min(rates)),
        "max": round(max(rates)),
        "kept": round(kept, 4),
        "kept_a_second": round(statistics.median(rates) * kept),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Working memory a second, beside others.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--operations", type=int, default=20_000)
    options = parser.parse_args()
    for packages in PEERS.values():
        with contextlib.suppress(PreparationError):  # the report says that it is missing
            packages.prepare()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    pinned = len(cores) > 1
    with server(cores[1] if pinned else None) as url:
        if pinned:
            os.sched_setaffinity(0, {cores[0]})
        samples = measure(url, options.rounds, options.operations)
    results: dict[str, dict[str, object]] = {}
    print(f"{'calls a second (part of the messages kept)':44}")
    for label, systems in samples.items():
        row = {name: summary(found) for name, found in systems.items()}
        ours, theirs = row["fanwire"], row["seed"]
        ratios = {
            "calls_to_seed": round(ours["median"] / theirs["median"], 2),
            "kept_to_seed": round(ours["kept_a_second"] / max(theirs["kept_a_second"], 1), 1),
        }
        results[label] = {**row, "ratio": ratios}
        cells = "".join(
            f"  {name} {found['median']:,.0f} ({found['kept']:.0%})" for name, found in row.items()
        )
        print(f"{label:44}{cells}  x{ratios['calls_to_seed']} (kept x{ratios['kept_to_seed']})")
    report = {
        "what": "calls a second; medians and ranges of alternating rounds, one client process",
        "content_bytes": len(CONTENT),
        "rounds": options.rounds,
        "operations": options.operations,
        "client_and_server_on_cores_of_their_own": pinned,
        "machine": machine(),
        "versions": {name: PEERS[name].versions() for name in PEERS},
        "missing": {
            "langgraph-checkpoint-redis": "needs the modules RedisJSON and RediSearch",
            **{name: found for name in PEERS if (found := PEERS[name].missing()) is not None},
        },
        "results": results,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
