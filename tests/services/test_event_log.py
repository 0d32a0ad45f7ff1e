"""The event log on a real server: contiguous, idempotent, all or nothing, honest about gaps."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import BadRequest, OutcomeUnknown, StoreRefused
from channels.position import Position
from channels.publication import Publication, encode_body, publication_prefix
from services.event_log import MAX_INDEXED, PAGE_SIZE, EventLog, Gap
from services.store.keys import Keys
from services.store.port import Store
from services.store.tcp import TcpStore

from ..servers import ValkeyServer
from .store.recorder import Recorder
from .support import append, body, make_channel

CHANNEL = make_channel()


@pytest.fixture
def store(any_store: Store) -> Store:
    """Every test of the log that names no store of its own runs on each kind of store."""
    return any_store


@pytest.fixture
def log_key(keys: Keys) -> str:
    """The stream of ``CHANNEL``."""
    return keys.log(CHANNEL)


@pytest.fixture
def meta_key(keys: Keys) -> str:
    """The meta of ``CHANNEL``."""
    return keys.log_meta(CHANNEL)


class UnluckyStore:
    """Carries everything out and then loses the reply, ``losses`` times."""

    def __init__(self, store: Store, losses: int) -> None:
        self._store = store
        self._losses = losses

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def run(self, script, keys, args, *, timeout_s=None):
        """Run a script and lose the reply."""
        reply = await self._store.run(script, keys, args, timeout_s=timeout_s)
        if self._losses:
            self._losses -= 1
            raise OutcomeUnknown("the reply was lost")
        return reply


# -- appending ------------------------------------------------------------------------------


async def test_offsets_are_contiguous_and_one_is_the_first(log):
    """The first publication has offset 1, each next one 1 more, all in one epoch."""
    positions = [(await append(log, CHANNEL, n)).position for n in range(1, 6)]
    assert [position.offset for position in positions] == [1, 2, 3, 4, 5]
    assert len({position.epoch for position in positions}) == 1


async def test_offsets_are_contiguous_under_concurrent_tasks(tcp_log):
    """64 tasks get every offset from 1 to the number of publications, each once."""

    async def publish(task: int) -> list[int]:
        return [(await append(tcp_log, CHANNEL, task)).position.offset for _ in range(25)]

    offsets = await asyncio.gather(*(publish(task) for task in range(64)))
    assert sorted(chain.from_iterable(offsets)) == list(range(1, 1601))
    assert all(own == sorted(own) for own in offsets), "a task's own order was not kept"


_PUBLISHER = """
import asyncio, sys
from services.event_log import EventLog
from services.store.keys import Keys
from services.store.tcp import TcpStore
from tests.services.support import append, make_channel

async def main():
    async with TcpStore(sys.argv[1]) as store:
        log = EventLog(store, Keys("fw"))
        async def publish():
            return [(await append(log, make_channel(), 1)).position for _ in range(20)]
        done = await asyncio.gather(*(publish() for _ in range(64)))
        for position in sum(done, []):
            print(position.epoch, position.offset)

asyncio.run(main())
"""


async def test_offsets_are_contiguous_over_processes(valkey):
    """Three processes of 64 tasks share one epoch and one sequence of offsets."""
    root = Path(__file__).parents[2]
    publishers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PUBLISHER, valkey.url),
            stdout=subprocess.PIPE,
            cwd=root,
        )
        for _ in range(3)
    ]
    outputs = [(await publisher.communicate())[0] for publisher in publishers]
    places = [line.split() for output in outputs for line in output.decode().splitlines()]
    assert len({epoch for epoch, _ in places}) == 1
    assert sorted(int(offset) for _, offset in places) == list(range(1, 3 * 64 * 20 + 1))


@pytest.mark.parametrize("id_", ["a b", "é", "x" * 65, "a\nb"])
async def test_an_id_that_would_break_the_message_is_refused(log, id_):
    """Ids travel between spaces, so only ids may be ids."""
    with pytest.raises(BadRequest):
        await log.append(CHANNEL, body(1), id=id_)
    assert (await log.read(CHANNEL)).top.offset == 0


# -- idempotency ----------------------------------------------------------------------------


async def test_a_key_used_by_many_tasks_at_once_publishes_once(log):
    """All get the same position, and one of them learns that it was the first."""
    done = await asyncio.gather(
        *(log.append(CHANNEL, body(n), idempotency_key="once") for n in range(64))
    )
    assert {appended.position.offset for appended in done} == {1}
    assert sorted(appended.duplicate for appended in done) == [False] + [True] * 63
    assert (await log.read(CHANNEL)).top.offset == 1


@pytest.mark.parametrize(
    "key", ["a b", "\n\r\0", "ключ", "🦄", "\ud800", "{x}:*?[", "k" * 100_000, "1 2"]
)
async def test_any_text_is_an_idempotency_key(log, key):
    """Odd keys work, and are not confused with each other or with none."""
    first = await log.append(CHANNEL, body(1), idempotency_key=key)
    again = await log.append(CHANNEL, body(1), idempotency_key=key)
    other = await log.append(CHANNEL, body(1), idempotency_key=key + "x")
    assert (again.position, again.duplicate) == (first.position, True)
    assert (other.position.offset, other.duplicate) == (2, False)


async def test_an_empty_key_is_none(log):
    """Two publications with an empty key are two publications."""
    await log.append(CHANNEL, body(1), idempotency_key="")
    assert (await log.append(CHANNEL, body(2), idempotency_key="")).position.offset == 2


async def test_a_key_belongs_to_its_channel(log):
    """The same key on two channels is two publications."""
    one = await log.append(CHANNEL, body(1), idempotency_key="k")
    two = await log.append(make_channel("test:two"), body(1), idempotency_key="k")
    assert not one.duplicate
    assert not two.duplicate


async def test_a_key_survives_a_crash_of_the_server(valkey_server, keys):
    """What was published before a kill -9 is not published again after it."""
    server = valkey_server()
    async with TcpStore(server.url) as store:
        first = await EventLog(store, keys).append(CHANNEL, body(1), idempotency_key="k")
        # With appendfsync everysec a process kill loses nothing: the kernel has the bytes.
        await asyncio.to_thread(server.crash)
    async with TcpStore(server.url) as store:
        again = await EventLog(store, keys).append(CHANNEL, body(1), idempotency_key="k")
        assert (again.position, again.duplicate) == (first.position, True)


async def test_a_lost_reply_and_a_retry_are_one_publication(store, keys):
    """Whoever repeats an unknown outcome with its key has published once."""
    log = EventLog(UnluckyStore(store, losses=3), keys)
    for _ in range(3):
        with pytest.raises(OutcomeUnknown):
            await log.append(CHANNEL, body(1), id="n1", idempotency_key="k")
    appended = await log.append(CHANNEL, body(1), id="n1", idempotency_key="k")
    assert (appended.position.offset, appended.duplicate) == (1, True)
    assert [publication.id for publication in (await log.read(CHANNEL)).publications] == ["n1"]


# -- the text -------------------------------------------------------------------------------


async def _announced(
    tcp_store: TcpStore, keys: Keys, log: EventLog, text: bytes, key: str = ""
) -> Publication:
    """Append ``text`` as data; return the publication as it was announced."""
    recorder = Recorder()
    await tcp_store.listen(keys.pubsub(CHANNEL), recorder)
    await log.append(CHANNEL, encode_body(text), key=key)
    await recorder.wait_for(1)
    await tcp_store.unlisten(keys.pubsub(CHANNEL))
    length = len(publication_prefix(CHANNEL.name))
    return Publication.from_message(CHANNEL.name, length, recorder.messages[0])


@pytest.mark.parametrize("before", [0, 9, 2**31 - 1, 2**31, 2**32, 2**53 - 3])
async def test_lua_and_python_put_the_same_text_together(
    store, tcp_store, keys, log, meta_key, before
):
    """What is announced is byte for byte what is read back, at any offset and in any script."""
    if before:
        await store.execute("HSET", meta_key, "e", "epoch1", "o", before, "i", "x", "t", 1)
    text = json.dumps({"t": "a\0b %s %d {0} \\u2028 \u2028 ключ 🦄 \x7f"}, ensure_ascii=False)
    announced = await _announced(tcp_store, keys, log, text.encode())
    (read,) = (await log.read(CHANNEL)).publications
    assert announced.wire == read.wire
    assert announced.offset == read.offset == before + 1
    assert announced.position == read.position
    assert announced.id == read.id
    assert announced.previous == ("x" if before else "")
    assert announced.data == read.data == text.encode()
    assert json.loads(announced.wire)["push"]["pub"]["offset"] == before + 1


@pytest.mark.parametrize("key", ["", "job.progress:j1", "x" * 128])
async def test_a_conflation_key_travels_and_is_not_kept(tcp_store, keys, log, key):
    """Followers hear it; what is read back is to be given in full, so it has none."""
    announced = await _announced(tcp_store, keys, log, b"1", key)
    (read,) = (await log.read(CHANNEL)).publications
    assert (announced.key, read.key) == (key, "")
    assert announced.wire == read.wire


async def test_an_offset_never_leaves_the_numbers_of_json(store, log, meta_key):
    """After 2^53 - 1 comes a new epoch, because browsers cannot count further."""
    await store.execute("HSET", meta_key, "e", "epoch1", "o", 2**53 - 1, "i", "x", "t", 1)
    done = await append(log, CHANNEL, 1)
    assert done.position.offset == 1
    assert done.position.epoch != "epoch1"


# -- epochs ---------------------------------------------------------------------------------


async def test_a_quiet_channel_has_a_position_to_come_back_to(log):
    """The epoch that a reader of an empty log was given is that of the first publication."""
    page = await log.read(CHANNEL)
    assert page.top.offset == 0
    assert (await append(log, CHANNEL, 1)).position == Position(page.top.epoch, 1)


@pytest.mark.parametrize("how", ["flushall", "meta", "meta and size 0", "garbled"])
async def test_a_lost_meta_begins_a_new_epoch(store, keys, log, log_key, meta_key, how):
    """Whatever took the meta away, offsets begin at 1 and nothing old is told as new."""
    before = (await append(log, CHANNEL, 1, 2, 3)).position
    if how == "flushall":
        await store.execute("FLUSHALL")
    elif how == "garbled":
        await store.execute("HSET", meta_key, "o", "three")
    else:
        await store.execute("DEL", meta_key)
    channel = make_channel(size=0) if "size 0" in how else CHANNEL
    done = await append(log, channel, 4)
    assert done.position.offset == 1
    assert done.position.epoch != before.epoch
    page = await log.read(CHANNEL)
    assert [publication.id for publication in page.publications] == (
        [] if channel.declaration.history.size == 0 else ["n4"]
    )
    assert (await log.recover(CHANNEL, before, "n3")).gap is Gap.EPOCH


async def test_a_lost_meta_is_noticed_by_readers_too(store, log, meta_key):
    """Reading begins a new epoch as well, and does not show what belonged to the old one."""
    before = (await append(log, CHANNEL, 1, 2, 3)).position
    await store.execute("DEL", meta_key)
    page = await log.read(CHANNEL)
    assert page.publications == []
    assert page.top.offset == 0
    assert page.top.epoch != before.epoch
    assert (await append(log, CHANNEL, 4)).position == Position(page.top.epoch, 1)


async def test_a_lost_log_is_a_gap_for_those_who_were_behind(store, log, log_key):
    """Epoch and offsets go on; who had read everything goes on, who had not is told."""
    top = (await append(log, CHANNEL, 1, 2, 3)).position
    await store.execute("DEL", log_key)
    assert (await log.recover(CHANNEL, top, "n3")).gap is None
    assert (await log.recover(CHANNEL, Position(top.epoch, 2), "n2")).gap is Gap.TRIMMED
    assert (await log.recover(CHANNEL, Position(top.epoch, 2))).gap is Gap.TRIMMED
    assert (await append(log, CHANNEL, 4)).position == Position(top.epoch, 4)
    assert [p.id for p in (await log.recover(CHANNEL, top)).publications] == ["n4"]


async def test_a_log_ahead_of_its_meta_begins_a_new_epoch(store, log, meta_key):
    """A meta restored from an older state gives no offset a second time."""
    top = (await append(log, CHANNEL, 1, 2, 3)).position
    await store.execute("HSET", meta_key, "o", 1, "i", "n1")
    assert (await log.recover(CHANNEL, Position(top.epoch, 1), "n1")).gap is Gap.TRIMMED
    done = await append(log, CHANNEL, 4)
    assert done.position.offset == 1
    assert done.position.epoch != top.epoch
    assert [p.id for p in (await log.read(CHANNEL)).publications] == ["n4"]


async def test_an_expired_log_goes_on_in_its_epoch(store, log, log_key, meta_key):
    """Who had read all of it can go on, even by id; who had not is told."""
    channel = make_channel(ttl_s=60)
    top = (await append(log, channel, 1, 2, 3)).position
    assert 60_000 < await store.execute("PTTL", log_key) <= 61_000
    # As after two minutes: the log is gone and the meta's time is old.
    await store.execute("DEL", log_key)
    time_ms = int(await store.execute("HGET", meta_key, "t"))
    await store.execute("HSET", meta_key, "t", time_ms - 120_000)
    await append(log, channel, 4, 5)
    for id_ in ("n3", ""):
        read = await log.recover(channel, top, id_)
        assert read.gap is None
        assert [publication.id for publication in read.publications] == ["n4", "n5"]
    assert (await log.recover(channel, top, "other")).gap is Gap.TRIMMED
    assert (await log.recover(channel, Position(top.epoch, 2), "n2")).gap is Gap.TRIMMED


@pytest.mark.parametrize("how", ["new", "removed", "ahead of its meta", "without a meta"])
async def test_a_log_is_never_without_its_ttl(store, log, log_key, meta_key, how):
    """However a log begins, and whenever: in the second of the last publication too."""
    channel = make_channel(ttl_s=60)
    for n in range(1, 6):  # at least four of them share a second with the one before
        match how:
            case "removed":
                await log.remove(channel)
            case "ahead of its meta" if n > 1:
                await store.execute("HSET", meta_key, "o", 0)
            case "without a meta":
                await store.execute("DEL", meta_key)
        await append(log, channel, n)
        assert 60_000 < await store.execute("PTTL", log_key) <= 61_000


async def test_a_publication_keeps_the_log_for_its_whole_ttl(store, log, log_key, meta_key):
    """The TTL counts from the last publication, and is renewed once a second at most."""
    channel = make_channel(ttl_s=60)
    await append(log, channel, 1)
    await store.execute("PEXPIRE", log_key, 5_000)
    time_ms = int(await store.execute("HGET", meta_key, "t"))
    await store.execute("HSET", meta_key, "t", time_ms - 1_000)
    await append(log, channel, 2)
    assert await store.execute("PTTL", log_key) > 60_000


async def test_without_history_nothing_is_kept_and_that_is_told(store, log, log_key):
    """Size 0 keeps offsets and epoch, and no log."""
    channel = make_channel(size=0)
    done = await append(log, channel, 1, 2)
    assert done.position.offset == 2
    assert await store.execute("EXISTS", log_key) == 0
    assert (await log.recover(channel, Position(done.position.epoch, 1))).gap is Gap.TRIMMED
    assert (await log.recover(channel, done.position, "n2")).gap is None


async def test_a_log_is_trimmed_to_about_its_size(store, log, tcp_log, log_key):
    """``MAXLEN ~`` keeps at least the size and at most a node of a hundred more."""
    channel = make_channel(size=50)
    done = await append(tcp_log, channel, *range(1, 401))
    assert 50 <= await store.execute("XLEN", log_key) <= 150
    assert (await log.recover(channel, Position(done.position.epoch, 1))).gap is Gap.TRIMMED
    kept = await log.recover(channel, Position(done.position.epoch, 350), "n350")
    assert [publication.id for publication in kept.publications] == [
        f"n{n}" for n in range(351, 401)
    ]


async def test_forking_is_done_once(log):
    """Of several who saw the loss one begins the epoch; entries and offsets go on."""
    top = (await append(log, CHANNEL, 1, 2)).position
    await asyncio.gather(*(log.fork(CHANNEL, top.epoch) for _ in range(8)))
    page = await log.read(CHANNEL)
    assert page.top.epoch != top.epoch
    assert page.top.offset == 2
    await log.fork(CHANNEL, top.epoch)
    assert (await append(log, CHANNEL, 3)).position == Position(page.top.epoch, 3)


# -- all or nothing -------------------------------------------------------------------------


def _snapshot(server: ValkeyServer) -> dict[bytes, bytes]:
    with server.client() as client:
        return {key: client.dump(key) for key in client.keys("*")}


@pytest.mark.parametrize("present", [False, True])
@pytest.mark.parametrize("key", ["log", "meta", "op"])
async def test_a_key_of_another_type_changes_nothing(valkey, store, keys, log, key, present):
    """WRONGTYPE is an error, and every key, the foreign one too, stays as it was."""
    if present:
        await append(log, CHANNEL, 1)
    name = {
        "log": keys.log(CHANNEL),
        "meta": keys.log_meta(CHANNEL),
        "op": keys.publish_op(CHANNEL, "k"),
    }[key]
    await store.execute("DEL", name)
    await store.execute("LPUSH", name, "foreign")
    before = _snapshot(valkey)
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await log.append(CHANNEL, body(2), idempotency_key="k")
    if key != "op":
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            await log.read(CHANNEL)
    assert _snapshot(valkey) == before


@pytest.mark.parametrize("size", [0, 100])
async def test_without_memory_nothing_changes(valkey_server, keys, size):
    """Known and unknown channels, with and without history: refused before the first write."""
    server = valkey_server()
    known, unknown = make_channel("test:known", size=size), make_channel("test:new", size=size)
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        async with TcpStore(server.url) as store:
            log = EventLog(store, keys)
            await append(log, known, 1)
            client.config_set("maxmemory", "1")
            before = _snapshot(server)
            for channel in (known, unknown):
                with pytest.raises(StoreRefused, match="OOM"):
                    await log.append(channel, body(2), idempotency_key="k")
            with pytest.raises(StoreRefused, match="OOM"):
                await log.read(unknown)
            assert _snapshot(server) == before
            assert (await log.read(known)).top.offset == 1
            client.config_set("maxmemory", "0")
            assert (await append(log, known, 2)).position.offset == 2


async def test_a_forbidden_announcement_does_not_fail_what_stands(valkey_server, keys):
    """An ACL without channels: the publication is in the log, so the call succeeds."""
    server = valkey_server()
    with server.client() as client:
        client.acl_setuser("mute", enabled=True, nopass=True, keys=["*"], commands=["+@all"])
        client.execute_command("ACL", "SETUSER", "mute", "resetchannels")
    parts = urlsplit(server.url)
    where = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"mute:any@{where}"))
    async with TcpStore(url) as store:
        log = EventLog(store, keys)
        assert (await append(log, CHANNEL, 1, 2)).position.offset == 2
        assert len((await log.read(CHANNEL)).publications) == 2


async def test_scripts_can_be_flushed_at_any_time(valkey, tcp_log):
    """A server that forgets its scripts while 32 tasks publish makes no difference."""
    publishing = True

    async def flush() -> int:
        flushes = 0
        with valkey.client() as client:
            while publishing:
                client.script_flush()
                flushes += 1
                await asyncio.sleep(0)
        return flushes

    async def publish() -> None:
        for _ in range(20):
            await append(tcp_log, CHANNEL, 1)

    flusher = asyncio.create_task(flush())
    await asyncio.gather(*(publish() for _ in range(32)))
    publishing = False
    assert await flusher > 3
    assert (await tcp_log.read(CHANNEL, limit=0)).top.offset == 640


# -- recovering -----------------------------------------------------------------------------


async def test_a_reader_of_another_epoch_is_told(log):
    """Offsets of another epoch mean nothing here."""
    await append(log, CHANNEL, 1, 2)
    assert (await log.recover(CHANNEL, Position("other", 1))).gap is Gap.EPOCH


async def test_a_reader_ahead_of_the_log_saw_what_the_log_lost(log):
    """A position beyond the top is a fork, with and without an id."""
    top = (await append(log, CHANNEL, 1, 2)).position
    for id_ in ("", "n3"):
        read = await log.recover(CHANNEL, Position(top.epoch, 3), id_)
        assert read.gap is Gap.FORKED
        assert (read.publications, read.top, read.top_id) == ([], top, "n2")


@pytest.mark.parametrize("offset", [1, 2])
async def test_another_publication_at_the_same_place_is_a_fork(log, offset):
    """Below the top and at it, the id tells."""
    top = (await append(log, CHANNEL, 1, 2)).position
    assert (await log.recover(CHANNEL, Position(top.epoch, offset), "x")).gap is Gap.FORKED
    assert (await log.recover(CHANNEL, Position(top.epoch, offset), f"n{offset}")).gap is None


@pytest.mark.parametrize("id_", ["", "n1"])
async def test_a_reader_who_saw_everything_gets_nothing(log, id_):
    """At the top there is nothing to bring."""
    top = (await append(log, CHANNEL, 1)).position
    read = await log.recover(CHANNEL, top, id_)
    assert (read.publications, read.top, read.top_id, read.gap) == ([], top, "n1", None)


@pytest.mark.parametrize("behind", [1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 2 * PAGE_SIZE + 1])
@pytest.mark.parametrize("with_id", [False, True])
async def test_everything_after_a_position_comes_over_any_number_of_pages(
    log, tcp_log, behind, with_id
):
    """Each publication once and in order, also where a page ends exactly at the top."""
    count = behind + 3
    done = await asyncio.gather(*(append(tcp_log, CHANNEL, n) for n in range(1, count + 1)))
    ids = {p.offset: p.id for page in [await log.read(CHANNEL, limit=3)] for p in page.publications}
    since = Position(done[0].position.epoch, 3)
    read = await log.recover(CHANNEL, since, ids[3] if with_id else "")
    assert read.gap is None
    assert [publication.offset for publication in read.publications] == list(range(4, count + 1))
    assert read.top.offset == count
    assert read.top_id == read.publications[-1].id


async def test_a_reader_from_the_beginning_gets_all(log):
    """Offset 0 is before the first publication, and has no id to compare."""
    top = (await append(log, CHANNEL, 1, 2)).position
    read = await log.recover(CHANNEL, Position(top.epoch, 0), "whatever")
    assert [publication.id for publication in read.publications] == ["n1", "n2"]


@pytest.mark.parametrize("deleted", [[3], [4], [9], [5, 6], [10]])
@pytest.mark.parametrize("id_", ["", "n2"])
async def test_a_hole_in_the_log_is_told(store, log, log_key, deleted, id_):
    """Entries that somebody deleted are missing: nothing is told as if it were complete."""
    top = (await append(log, CHANNEL, *range(1, 11))).position
    await store.execute("XDEL", log_key, *(f"{offset}-0" for offset in deleted))
    read = await log.recover(CHANNEL, Position(top.epoch, 2), id_)
    assert (read.gap, read.publications) == (Gap.TRIMMED, [])


async def test_an_entry_that_is_not_ours_is_a_hole(store, log, log_key, meta_key):
    """Foreign entries are never told, and do not make the log unreadable."""
    top = (await append(log, CHANNEL, 1)).position
    await store.execute("XADD", log_key, "1-5", "i", "x", "b", '"data":0}')
    await store.execute("XADD", log_key, "2-0", "foreign", "entry")
    await store.execute("HSET", meta_key, "o", 2, "i", "n2")
    assert [p.id for p in (await log.read(CHANNEL)).publications] == ["n1"]
    assert (await log.recover(CHANNEL, top, "n1")).gap is Gap.TRIMMED


async def test_appending_while_a_reader_pages_neither_repeats_nor_omits(log, tcp_log):
    """The reader gets everything up to a top that it is told."""
    top = (await append(log, CHANNEL, 1)).position
    await asyncio.gather(*(append(tcp_log, CHANNEL, n) for n in range(1, 1200)))
    writing = asyncio.gather(*(append(tcp_log, CHANNEL, n) for n in range(400)))
    reads = [await log.recover(CHANNEL, top, "n1") for _ in range(5)]
    await writing
    for read in reads:
        assert read.gap is None
        offsets = [publication.offset for publication in read.publications]
        assert offsets == list(range(2, read.top.offset + 1))
        assert read.publications[-1].id == read.top_id


async def test_a_fork_between_two_pages_is_found(store, keys, log, tcp_log, log_key, meta_key):
    """Redis may fail over while a reader pages: the second page is held against the first."""
    top = (await append(log, CHANNEL, 1)).position
    await asyncio.gather(*(append(tcp_log, CHANNEL, n) for n in range(1, 1200)))

    class ForkingStore:
        reads = 0

        def __getattr__(self, name):
            return getattr(store, name)

        async def run(self, script, keys, args, *, timeout_s=None):
            reply = await store.run(script, keys, args, timeout_s=timeout_s)
            self.reads += 1
            if self.reads == 1:  # the log rewinds to 400 and grows beyond 1200 with others
                await store.execute("DEL", log_key)
                await store.execute("HSET", meta_key, "o", 400)
                await asyncio.gather(*(append(tcp_log, CHANNEL, n) for n in range(1000)))
            return reply

    read = await EventLog(ForkingStore(), keys).recover(CHANNEL, top, "n1")
    assert (read.gap, read.publications) == (Gap.FORKED, [])


async def test_a_recovery_is_bounded_in_bytes(log, tcp_log):
    """A reader that is 20 MB behind is told of a gap instead."""
    channel = make_channel(size=1000)
    large = encode_body(b'"%b"' % (b"x" * 60_000))
    done = await asyncio.gather(*(tcp_log.append(channel, large) for _ in range(350)))
    epoch = done[0].position.epoch
    read = await log.recover(channel, Position(epoch, 1))
    assert (read.gap, read.publications) == (Gap.TRIMMED, [])
    assert len((await log.recover(channel, Position(epoch, 150))).publications) == 200


# -- reading and listing --------------------------------------------------------------------


async def test_a_page_reads_either_way(log, tcp_log):
    """After a position, or before it and newest first, and never more than a thousand."""
    top = (await append(log, CHANNEL, *range(1, 7))).position
    since = Position(top.epoch, 3)
    assert [p.offset for p in (await log.read(CHANNEL, since=since, limit=2)).publications] == [
        4,
        5,
    ]
    back = await log.read(CHANNEL, since=since, limit=5, reverse=True)
    assert [publication.offset for publication in back.publications] == [2, 1]
    assert back.top == top
    assert (await log.read(CHANNEL, limit=0)).publications == []
    assert (await log.read(CHANNEL, limit=-1)).publications == []
    await asyncio.gather(*(append(tcp_log, CHANNEL, n) for n in range(1100)))
    assert len((await log.read(CHANNEL, limit=10**9)).publications) == 1000


async def test_tops_are_read_in_one_round_trip(store, keys, log):
    """Known logs have a top; unknown ones and what is no meta have none."""
    done = await append(log, CHANNEL, 1, 2)
    foreign = make_channel("test:foreign")
    await store.execute("SET", keys.log_meta(foreign), "x")
    tops = await log.tops([CHANNEL, make_channel("test:none"), foreign])
    assert tops == [(done.position, "n2"), None, None]


async def test_the_index_remembers_a_bounded_number_of_channels(store, keys, log):
    """The channel that was quiet the longest leaves when there are too many."""
    index = keys.channel_index()
    for start in range(0, MAX_INDEXED, 10_000):
        members = [x for n in range(start, start + 10_000) for x in (n, f"old:{n}")]
        await store.execute("ZADD", index, *members)
    await append(log, CHANNEL, 1)
    assert await store.execute("ZCARD", index) == MAX_INDEXED
    assert await store.execute("ZSCORE", index, "old:0") is None
    names = await log.names()
    assert names[0] == CHANNEL.name
    assert len(names) == 10_000


async def test_an_index_that_lost_a_channel_hears_of_it_within_the_hour(store, keys, log, meta_key):
    """The first publication of each hour brings its channel into the index."""
    await append(log, CHANNEL, 1)
    await store.execute("DEL", keys.channel_index())
    await append(log, CHANNEL, 2)
    time_ms = int(await store.execute("HGET", meta_key, "t"))
    await store.execute("HSET", meta_key, "t", time_ms - 3_600_000)
    await append(log, CHANNEL, 3)
    assert await log.names() == [CHANNEL.name]


# -- commands -------------------------------------------------------------------------------


def _calls(server: ValkeyServer) -> dict[str, int]:
    with server.client() as client:
        stats = client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    return {name: count for name, count in calls.items() if name in _COUNTED}


_COUNTED = {
    *("evalsha", "eval", "get", "set", "del", "exists", "expire", "pexpire", "publish"),
    *("hget", "hmget", "hset", "hincrby", "xadd", "xlen", "xrange", "zadd", "zremrangebyrank"),
}


@pytest.mark.parametrize(
    ("size", "key", "expected"),
    [
        (100, None, {"hmget": 1, "xadd": 1, "hset": 1, "publish": 1}),
        (100, "new", {"get": 1, "hmget": 1, "xadd": 1, "hset": 1, "set": 1, "publish": 1}),
        (100, "used", {"get": 1}),
        (0, None, {"hmget": 1, "hset": 1, "publish": 1}),
    ],
    ids=["plain", "with a key", "duplicate", "no history"],
)
async def test_a_publication_takes_few_commands(valkey, log, size, key, expected):
    """On some servers every call inside a script is billed, so the number is a promise."""
    channel = make_channel(size=size)
    await log.append(channel, body(1), idempotency_key="used")
    before = _calls(valkey)
    await log.append(channel, body(2), idempotency_key=key, key="gauge")
    after = _calls(valkey)
    used = {name: count - before.get(name, 0) for name, count in after.items()}
    # One more where the clock began a new second in between: it renews the log's TTL.
    assert used.pop("pexpire", 0) <= (1 if size else 0)
    assert {name: count for name, count in used.items() if count} == {"evalsha": 1, **expected}


async def test_recovering_takes_two_commands(valkey, log):
    """One for the top and one for the entries, as of one moment."""
    top = (await append(log, CHANNEL, 1, 2)).position
    await log.recover(CHANNEL, Position(top.epoch, 1))
    before = _calls(valkey)
    await log.recover(CHANNEL, Position(top.epoch, 1))
    after = _calls(valkey)
    used = {name: count - before.get(name, 0) for name, count in after.items()}
    assert {name: count for name, count in used.items() if count} == {
        "evalsha": 1,
        "hmget": 1,
        "xrange": 1,
    }


# -- keys -----------------------------------------------------------------------------------

_names = st.from_regex(r"\A[A-Za-z0-9_.@:#$/&=+!~%-]{1,40}\Z")


@given(one=_names, two=_names, keys=st.tuples(st.text(max_size=20), st.text(max_size=20)))
def test_two_things_never_share_a_key(one, two, keys):
    """The names of all keys of two channels differ unless the channels are one."""
    builder = Keys("fw")

    def of(name: str, key: str) -> list[str]:
        channel = make_channel(name)
        return [
            builder.log(channel),
            builder.log_meta(channel),
            builder.pubsub(channel),
            builder.publish_op(channel, key),
        ]

    mine, theirs = of(one, keys[0]), of(two, keys[1])
    assert len(set(mine)) == 4
    if one != two:
        assert not set(mine) & set(theirs)
    elif keys[0] != keys[1]:
        assert mine[3] != theirs[3]
    tags = {key[key.index("{") : key.index("}")] for key in mine}
    assert tags == {"{" + one}
