"""The cache with a real model, small, whose weights come in its wheel."""

from __future__ import annotations

from pathlib import Path

import pytest
import wordllama

from services.semantic.settings import SemanticSettings

from .support import make_cache, make_context


@pytest.fixture(scope="module")
def embed():
    """The model; nothing is downloaded."""
    model = wordllama.WordLlama.load(
        cache_dir=Path(wordllama.__file__).parent, disable_download=True
    )
    return lambda texts: model.embed(list(texts), norm=True)


async def test_paraphrases_hit_and_opposites_do_not(tcp_store, embed):
    """Although the opposite is nearer than the paraphrase."""
    cache = make_cache(
        make_context(tcp_store), embed=embed, settings=SemanticSettings(hit=0.2, uncertain=0.2)
    )
    await cache.store("Should I buy the stock?", "It depends.")
    opposite = await cache.lookup("Should I sell the stock?")
    assert not opposite
    assert opposite.distance < 0.2
    assert opposite.refusals[0].reason == "antonyms"
    assert await cache.lookup("Should I buy that stock?")
    assert (await cache.lookup("What is the capital of France?")).reason == "far"
