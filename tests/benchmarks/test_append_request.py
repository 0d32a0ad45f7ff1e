"""What the load client publishes is what the event log would have appended."""

from __future__ import annotations

import time

import redis

from benchmarks.harness.append_request import append_publish
from benchmarks.harness.fanwire_hub import ONE_CHANNEL, FanwireHub
from benchmarks.harness.load_client import Group, Load, run_load
from benchmarks.harness.ports import free_port
from benchmarks.harness.valkey import running_valkey
from channels.catalogue import Catalogue
from services.store.keys import Keys


def test_the_request_appends() -> None:
    """Publications are in the log under the ids of their messages, at the time they were sent."""
    catalogue, keys = Catalogue(allow_undeclared=True), Keys()
    channel = catalogue.find(ONE_CHANNEL)
    port, began_ms = free_port(), time.time_ns() // 1_000_000
    with FanwireHub().running(port, None) as endpoint:
        assert endpoint.ws is not None
        load = Load(groups=[Group(endpoint.ws, 1)], publish=endpoint.publish, seconds=0.1)
        result = run_load(load, port)
        with redis.Redis(port=endpoint.publish.port) as log:
            meta = log.hgetall(keys.log_meta(channel))
            last = log.xrevrange(keys.log(channel), count=1)[0][1]
    top = result.published - 1
    assert meta[b"o"] == b"%d" % result.published
    assert meta[b"i"] == last[b"i"] == b"bench-%08d" % top
    assert b"~SEQ:%08d~" % top in last[b"b"]
    assert began_ms <= int(meta[b"t"]) <= time.time_ns() // 1_000_000


def test_the_request_has_blanks() -> None:
    """Number, channel and time are blanks, which the load client fills in."""
    with running_valkey() as port:
        template = append_publish("run:w1:@@CHANNEL@@", port).template
    for blank in (b"@@SEQ@@", b"@@CHANNEL@@", b"@@NOW_MS@@"):
        assert blank in template
