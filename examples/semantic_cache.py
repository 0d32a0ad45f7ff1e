"""One answer for all who ask the same in other words, and none for those who only sound so.

    python -m examples.semantic_cache

Needs ``wordllama`` (a small model in its wheel). A larger one takes the same place. It prints:

    How do I enable two-factor login?         loader
    How do I enable two-factor login?         exact
    How can I enable the two-factor login?    semantic
    How do I disable two-factor login?        loader    refused: asked disable, cached enable
    How do I enable three-factor login?       loader    refused: asked 3, cached 2
    What is the refund policy?                loader    far
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import wordllama
from numpy.typing import NDArray

from services.door import Services
from services.semantic.settings import SemanticSettings

PROMPTS = (
    "How do I enable two-factor login?",
    "How do I enable two-factor login?",
    "How can I enable the two-factor login?",
    "How do I disable two-factor login?",
    "How do I enable three-factor login?",
    "What is the refund policy?",
)


async def main() -> None:
    """Ask a model that is not there, through the cache."""
    llama = wordllama.WordLlama.load(
        cache_dir=Path(wordllama.__file__).parent, disable_download=True
    )

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        return llama.embed(list(texts), norm=True)

    url = os.environ.get("FANWIRE_REDIS_URL", "redis://localhost:6379")
    async with Services.connect(url) as services:
        cache = services.for_workspace("semantic-example").semantic_cache(
            embed=embed,
            model="demo-1",
            prompt_version="1",
            embedding="wordllama-256",
            settings=SemanticSettings(hit=0.2, uncertain=0.3),
        )
        await cache.invalidate(everything=True)
        for prompt in PROMPTS:
            answer = await cache.get_or_set(prompt, lambda prompt=prompt: f"Answer to: {prompt}")
            why = answer.why if answer.why not in ("", "none") else ""
            if answer.refusals:
                refusal = answer.refusals[0]
                why = f"refused: asked {refusal.asked}, cached {refusal.cached}"
            print(f"{prompt:41} {answer.source:9} {why}".rstrip())


if __name__ == "__main__":
    asyncio.run(main())
