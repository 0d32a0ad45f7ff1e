"""The semantic cache: right and wrong hits by distance alone and with the guard; its speed.

    python -m benchmarks.bench_semantic [--entries 1000 10000]

Pairs are those of ``data/semantic_pairs``: the tables of the guard were tuned on ``tuning``,
``held_out`` was written apart by the one who wrote them, ``independent`` by somebody who had not
seen them. A plain threshold is also shown at equal recall: the nearest one that finds as many
paraphrases as the guarded cache, with its false hits. Vectors come from WordLlama (256
dimensions, in its wheel), a small model: a larger one is nearer on paraphrases, and on negations
too. Intervals are Wilson's, 95 %. Speed is one process with its own server; the embedding is not
in it.

Prints tables and writes benchmarks/results/semantic.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np
import uvloop
import wordllama

from benchmarks.bench_store_append import machine, server
from channels.catalogue import Catalogue
from services.context import Context
from services.semantic.cache import SemanticCache
from services.semantic.guard import Guard
from services.semantic.settings import SemanticSettings
from services.store.keys import Keys
from services.store.tcp import TcpStore

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "semantic.json"
THRESHOLDS = (0.05, 0.10, 0.15, 0.20, 0.30)
NAMES = ("tuning", "held_out", "independent")


def model():
    """Return the embedding model; nothing is downloaded."""
    return wordllama.WordLlama.load(
        cache_dir=Path(wordllama.__file__).parent, disable_download=True
    )


def wilson(hits: int, of: int) -> list[float]:
    """Return the 95 % interval of a share."""
    if not of:
        return [0.0, 1.0]
    z, p = 1.96, hits / of
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]


def quality(name: str, embedder) -> dict:
    """Return hit rates and false hits of one file of pairs."""
    lines = (HERE / "data" / "semantic_pairs" / f"{name}.tsv").read_text("utf-8").splitlines()
    pairs = [line.split("\t") for line in lines]
    one = embedder.embed([pair[1] for pair in pairs], norm=True)
    two = embedder.embed([pair[2] for pair in pairs], norm=True)
    distances = 1 - np.einsum("ij,ij->i", one, two)
    guards = {
        "distance": None,
        "guard": Guard(),
        "guard, substitutions pass": Guard(substitutions=False),
    }
    passed = {
        kind: [guard is None or guard.refuse(a, b) is None for _, a, b in pairs]
        for kind, guard in guards.items()
    }
    same = np.array([label == "paraphrase" for label, _, _ in pairs])
    rows = []
    for kind, passes in passed.items():
        for limit in THRESHOLDS:
            hit = (distances <= limit) & np.array(passes)
            right, wrong = int((hit & same).sum()), int((hit & ~same).sum())
            labels = {pair[0] for pair, one_hit in zip(pairs, hit, strict=True) if one_hit}
            plain = float(np.sort(distances[same])[right - 1]) if right else 0.0
            rows.append(
                {
                    "kind": kind,
                    "threshold": limit,
                    "paraphrases_hit": right,
                    "hit_rate": round(right / int(same.sum()), 4),
                    "hit_rate_95": wilson(right, int(same.sum())),
                    "false_hits": wrong,
                    "false_hit_rate": round(wrong / int((~same).sum()), 4),
                    "false_hit_rate_95": wilson(wrong, int((~same).sum())),
                    "plain_threshold_of_equal_recall": round(plain, 4),
                    "its_false_hits": int(((distances <= plain) & ~same).sum()) if right else 0,
                    "wrong_kinds": sorted(labels - {"paraphrase"}),
                }
            )
    return {"paraphrases": int(same.sum()), "others": int((~same).sum()), "rows": rows}


async def speed(url: str, entries: int) -> dict:
    """Return lookups a second that miss, hit near and hit exactly, and the time of a load."""
    rng = np.random.default_rng(1)
    made = rng.standard_normal((entries, 256)).astype(np.float32)
    by_text = {f"Explain topic{number}": made[number] for number in range(entries)}

    async def embed(texts):
        return np.stack([by_text[text] for text in texts])

    async with TcpStore(url) as store:
        await store.execute("FLUSHALL")

        def cache() -> SemanticCache:
            context = Context(store, Keys("fw"), Catalogue())
            settings = SemanticSettings(max_entries=entries + 10, resync_s=3600.0)
            return SemanticCache(context, "w1", embed=embed, model="m", settings=settings)

        first, texts = cache(), list(by_text)
        for at in range(0, entries, 200):
            await asyncio.gather(*(first.store(text, "x" * 500) for text in texts[at : at + 200]))
        second = cache()
        started = time.perf_counter()
        await second.synced()
        load_s = time.perf_counter() - started
        rates = {}
        for number in range(1_000):
            near = made[number] + 0.05 * rng.standard_normal(256)
            by_text[f"Please explain topic{number}"] = near
            by_text[f"other{number}"] = rng.standard_normal(256)
        for kind, form in (
            ("exact", "Explain topic{}"),
            ("near", "Please explain topic{}"),
            ("miss", "other{}"),
        ):
            took = []
            for number in range(min(entries, 1_000)):
                begun = time.perf_counter()
                found = await second.lookup(form.format(number))
                took.append(time.perf_counter() - begun)
                assert bool(found) == (kind != "miss"), (kind, found)
            rates[kind] = {
                "per_s": round(len(took) / sum(took)),
                "median_ms": round(1000 * statistics.median(took), 3),
            }
    return {"entries": entries, "load_s": round(load_s, 3), "lookups": rates}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, nargs="*", default=[1_000, 10_000])
    options = parser.parse_args()
    embedder = model()
    found = {name: quality(name, embedder) for name in NAMES}
    for name, one in found.items():
        print(f"{name}: {one['paraphrases']} paraphrases, {one['others']} others")
        for row in one["rows"]:
            print(
                f"  {row['kind']:27} {row['threshold']:.2f}  hits {row['hit_rate']:6.1%} "
                f"{row['hit_rate_95']}  false {row['false_hit_rate']:6.1%} "
                f"{row['false_hit_rate_95']} {', '.join(row['wrong_kinds'])}"
            )
        print("  guard at equal recall:  paraphrases, false; false of a plain threshold")
        for row in one["rows"]:
            if row["kind"] == "guard":
                print(
                    f"    {row['threshold']:.2f}  {row['paraphrases_hit']:3}, "
                    f"{row['false_hits']:3}; {row['its_false_hits']:3} "
                    f"at {row['plain_threshold_of_equal_recall']:.3f}"
                )
    speeds = []
    with server(None) as url:
        for entries in options.entries:
            speeds.append(uvloop.run(speed(url, entries)))
            print(speeds[-1])
    report = {
        "machine": machine(),
        "model": "wordllama l2_supercat 256",
        "quality": found,
        "speed": speeds,
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
