"""What the tests of the semantic cache share: an embedding that is easy to foresee."""

from __future__ import annotations

import hashlib
import re

import numpy as np

from channels.catalogue import Catalogue
from services.clock import Clock
from services.context import Context
from services.semantic.cache import SemanticCache
from services.semantic.entries import install
from services.store.keys import Keys

from ..session_support import Hand

__all__ = ["Loader", "bag", "make_cache", "make_context"]


def bag(texts):
    """Return a bag of words a text: the more words two share, the nearer they are."""
    rows = np.zeros((len(texts), 64), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in re.findall(r"\w+", text.lower()):
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
            rows[row] += np.random.default_rng(seed).standard_normal(64)
    return rows


def make_context(store, hand: Hand | None = None) -> Context:
    """Return the ground of services, with semantic entries that end."""
    clock = Clock(store, now=hand) if hand else None
    context = Context(store, Keys("fw"), Catalogue(), clock=clock)
    install(context)
    return context


def make_cache(context, workspace="w1", **options) -> SemanticCache:
    """Return a cache over bags of words, with distances that suit them."""
    options.setdefault("embed", bag)
    options.setdefault("model", "m")
    return SemanticCache(context, workspace, **options)


class Loader:
    """Counts its calls."""

    def __init__(self, response="loaded") -> None:
        self.calls = 0
        self.response = response

    async def __call__(self):
        """Return the response."""
        self.calls += 1
        return self.response
