"""The measurement of caches: it runs, whatever it says."""

from __future__ import annotations

import pytest

from benchmarks.bench_cache import MANY, MEMORY, fanwire, seed


@pytest.mark.parametrize("case", [MEMORY, MANY])
async def test_what_is_ours_can_be_measured(valkey, case):
    """From memory and from Redis; the code it began from, too."""
    assert await fanwire(valkey.url, case, 2, 200) > 0
    assert await seed(valkey.url, case, 2, 200) > 0
