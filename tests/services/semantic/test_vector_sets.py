"""Vector sets as an index: what is asked of a server and what it answers, in both protocols."""

from __future__ import annotations

import numpy as np
import pytest

from services.semantic.index import Near
from services.semantic.vector_sets import VectorSets

from .support import make_context


class Recorder:
    """Takes the place of a store; answers what it is given."""

    def __init__(self, reply) -> None:
        self.reply = reply
        self.commands = []

    async def execute(self, *command, timeout_s=None):
        """Note a command."""
        self.commands.append(command)
        return self.reply


@pytest.mark.parametrize(
    "reply", [[b"a", b"1", b"b", b"0.75"], {b"b": 0.75, b"a": 1.0}], ids=["resp2", "resp3"]
)
async def test_similarities_become_distances(tcp_store, reply):
    """Of both protocols, nearest first: a similarity of s is the cosine 2s - 1."""
    context = make_context(tcp_store)
    context.store = recorder = Recorder(reply)
    vector = np.array([1, 0], dtype=np.float32)
    index = VectorSets(context, "w1")
    assert await index.search("p", vector, 3, version=0) == [Near("a", 0.0), Near("b", 0.5)]
    assert recorder.commands == [
        ("VSIM", "fw:{w1}:semantic:vectors:p", "FP32", vector.tobytes(), "WITHSCORES", "COUNT", 3)
    ]


async def test_a_server_without_them_is_found_out(tcp_store):
    """Asked at run time."""
    assert not await VectorSets.available(make_context(tcp_store))
