"""The checker finds each fault that is put into a clean history, and nothing in a clean one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from .history_check import History, Kind, check

CHANNEL = "session:w1:s1"
OTHER = "session:w1:s2"


def run(
    *,
    seed: int = 1,
    count: int = 400,
    clients: int = 3,
    spoil: Callable[[list[tuple[str, int, str] | None], str], None] | None = None,
) -> History:
    """Return a history of two producers on two channels, spoilt for the first client."""
    dice = random.Random(seed)
    history = History(seed)
    streams: dict[str, list[tuple[str, int, str] | None]] = {CHANNEL: [], OTHER: []}
    for n in range(count):
        channel = dice.choice([CHANNEL, OTHER])
        op_id = f"p{dice.randrange(2)}-{n}"
        history.call(op_id, channel)
        stream = streams[channel]
        fate = dice.random()
        if fate < 0.1:
            history.fail(op_id)
            continue
        if fate < 0.15:
            history.unknown(op_id)
            continue
        stream.append(("e1", len(stream) + 1, op_id))
        if fate < 0.2:
            history.unknown(op_id)
        else:
            history.ok(op_id, ("e1", len(stream)))
    for client in range(clients):
        for channel, stream in streams.items():
            mine = list(stream)
            if client == 0 and channel == CHANNEL and spoil is not None:
                spoil(mine, f"c{client}")
            for seen in mine:
                if seen is None:
                    history.gap(f"c{client}", channel)
                else:
                    history.received(f"c{client}", channel, *seen)
    return history


def kinds(history: History) -> set[Kind]:
    """Return what is wrong with ``history``."""
    return {finding.kind for finding in check(history).findings}


@pytest.mark.parametrize("seed", range(20))
def test_a_clean_history_has_no_findings(seed):
    """Failures and unknown outcomes, delivered or not, are no findings."""
    report = check(run(seed=seed))
    assert not report.findings, report
    assert report.attempts == 400
    assert report.acked + report.failed + report.unknown == 400
    assert 0 < report.unknown_delivered < report.unknown
    assert report.deliveries == 3 * (report.acked + report.unknown_delivered)


SPOILERS = {
    "lost at the end": (lambda s, c: s.__delitem__(slice(-9, None)), {Kind.LOST}),
    "lost in the middle": (
        lambda s, c: s.__delitem__(slice(50, 60)),
        {Kind.LOST, Kind.SILENT_GAP},
    ),
    "duplicated": (lambda s, c: s.insert(51, s[50]), {Kind.DUPLICATED}),
    "duplicated later": (lambda s, c: s.append(s[50]), {Kind.DUPLICATED}),
    "swapped": (
        lambda s, c: s.__setitem__(slice(50, 52), [s[51], s[50]]),
        {Kind.SILENT_GAP, Kind.REORDERED},
    ),
    "epoch changed": (
        lambda s, c: s.__setitem__(slice(50, None), [("e2", o, i) for _, o, i in s[50:]]),
        {Kind.SILENT_GAP},
    ),
    "unexpected": (
        lambda s, c: s.append(("e1", len(s) + 1, "p9-1")),
        {Kind.UNEXPECTED},
    ),
    "two at one place": (
        lambda s, c: s.__setitem__(50, ("e1", 51, s[51][2])),
        {Kind.DIVERGENT, Kind.DUPLICATED, Kind.LOST, Kind.MISPLACED},
    ),
}


@pytest.mark.parametrize("name", SPOILERS)
@pytest.mark.parametrize("seed", range(5))
def test_a_spoilt_history_has_the_finding(name, seed):
    """Each fault is found, and what is named is what was done."""
    spoil, expected = SPOILERS[name]
    found = kinds(run(seed=seed, spoil=spoil))
    assert found, "the fault was not found"
    # Which producers are near decides whether an order of theirs breaks too.
    assert found - {Kind.OUT_OF_TURN} <= expected
    assert expected & found


def conflated(spoil: Callable[[list[list[int]]], None] | None = None) -> History:
    """Return a history with one client that keeps up and one that gets the newest only.

    Of 60 publications every third is a fact without a key; the others are readings of two
    gauges. The slow client looks after every ten. ``spoil`` changes its arrivals, lists of
    offset and told number of skipped ones.
    """
    history = History()
    keys = {n: "" if n % 3 == 0 else f"gauge:{n % 2}" for n in range(1, 61)}
    for n, key in keys.items():
        history.call(f"p-{n}", CHANNEL, key)
        history.ok(f"p-{n}", ("e", n))
        history.received("fast", CHANNEL, "e", n, f"p-{n}")
    arrivals = []
    last = 0
    for start in range(1, 61, 10):
        waiting = range(start, start + 10)
        newest = {keys[n]: n for n in waiting}
        for n in waiting:
            if not keys[n] or newest[keys[n]] == n:
                arrivals.append([n, n - last - 1])
                last = n
    if spoil is not None:
        spoil(arrivals)
    for n, skipped in arrivals:
        history.received("slow", CHANNEL, "e", n, f"p-{n}", skipped)
    return history


def _skip(offset: int) -> Callable[[list[list[int]]], None]:
    """Return what leaves out ``offset`` too, and tells so in the next arrival."""

    def spoil(arrivals: list[list[int]]) -> None:
        place = next(place for place, one in enumerate(arrivals) if one[0] == offset)
        arrivals[place + 1][1] += 1 + arrivals[place][1]
        del arrivals[place]

    return spoil


def _tell(offset: int, change: int) -> Callable[[list[list[int]]], None]:
    """Return what changes the number that is told with ``offset``."""

    def spoil(arrivals: list[list[int]]) -> None:
        place = next(place for place, one in enumerate(arrivals) if one[0] == offset)
        arrivals[place][1] += change

    return spoil


def test_what_was_superseded_and_told_is_no_loss():
    """Told skips are counted, and excuse what has a key and a newer one."""
    report = check(conflated())
    assert not report.findings, report
    assert report.told_skipped == 60 - (report.deliveries - 60) > 0


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_tell(6, -2), {Kind.SILENT_GAP, Kind.LOST}),
        (
            lambda arrivals: [one.__setitem__(1, 0) for one in arrivals],
            {Kind.SILENT_GAP, Kind.LOST},
        ),
        (_tell(6, +1), {Kind.MISCOUNTED}),
        (_tell(7, +1), {Kind.MISCOUNTED}),
        (_tell(6, -1), {Kind.SILENT_GAP, Kind.LOST}),
        (_skip(33), {Kind.LOST}),
        (_skip(6), {Kind.LOST}),
    ],
    ids=[
        "one untold",
        "none told",
        "one too many",
        "one where none was",
        "one too few",
        "a fact was skipped",
        "a fact in another place was skipped",
    ],
)
def test_a_skip_that_is_wrongly_told_is_found(spoil, expected):
    """Untold, miscounted, or of what must not be skipped: each is red."""
    found = kinds(conflated(spoil))
    assert found & expected
    assert found <= expected


def test_the_newest_of_a_key_is_owed():
    """A skip is excused by a newer one of the same key that came, not by being told."""

    def history(*, with_newer: bool) -> History:
        history = History()
        for n, key in ((1, "a"), (2, "b"), (3, ""), (4, "b")):
            history.call(f"p-{n}", CHANNEL, key)
            history.ok(f"p-{n}", ("e", n))
        history.received("c", CHANNEL, "e", 1, "p-1")
        if with_newer:
            history.received("c", CHANNEL, "e", 3, "p-3", 1)
            history.received("c", CHANNEL, "e", 4, "p-4")
        else:
            history.received("c", CHANNEL, "e", 3, "p-3", 1)
        return history

    assert kinds(history(with_newer=True)) == set()
    spoilt = check(history(with_newer=False))
    assert {finding.op_id for finding in spoilt.findings} == {"p-2", "p-4"}
    assert history(with_newer=True).outstanding("c", CHANNEL) == set()


def test_all_clients_losing_the_same_is_a_loss():
    """What nobody received is lost, though no two clients differ."""
    history = History()
    for n in range(1, 4):
        history.call(f"p-{n}", CHANNEL)
        history.ok(f"p-{n}")
    history.subscribed("c", CHANNEL)
    history.call("p-4", CHANNEL)
    history.ok("p-4", ("e", 4))
    history.received("c2", CHANNEL, "e", 1, "p-1")
    report = check(history)
    lost = [(finding.client, finding.op_id) for finding in report.findings]
    assert lost == [("c", "p-4"), ("c2", "p-2"), ("c2", "p-3"), ("c2", "p-4")]
    assert history.outstanding("c", CHANNEL) == {"p-4"}


def test_a_ghost_is_found():
    """What was definitely not published cannot be received."""
    history = History()
    history.call("p-1", CHANNEL)
    history.fail("p-1")
    history.received("c", CHANNEL, "e", 1, "p-1")
    assert kinds(history) == {Kind.GHOST}


def test_a_publication_on_another_channel_is_unexpected():
    """A publication leaks from its channel."""
    history = History()
    history.call("p-1", CHANNEL)
    history.unknown("p-1")
    history.received("c", OTHER, "e", 1, "p-1")
    assert kinds(history) == {Kind.UNEXPECTED}


def test_a_producer_is_heard_in_turn():
    """Rising offsets do not excuse that a producer's later publication came first."""
    history = History()
    for n in (1, 2):
        history.call(f"p-{n}", CHANNEL)
        history.ok(f"p-{n}")
    history.received("c", CHANNEL, "e", 1, "p-2")
    history.received("c", CHANNEL, "e", 2, "p-1")
    assert kinds(history) == {Kind.OUT_OF_TURN}


def test_clients_that_see_different_pasts_are_divergent():
    """The same position with another publication: history forked and nobody was told."""
    history = History()
    for n in (1, 2):
        history.call(f"p{n}-1", CHANNEL)
        history.unknown(f"p{n}-1")
    history.received("c1", CHANNEL, "e", 1, "p1-1")
    history.received("c2", CHANNEL, "e", 1, "p2-1")
    assert kinds(history) == {Kind.DIVERGENT}


def test_a_told_gap_excuses_what_is_missing_and_nothing_else():
    """A skip and a new epoch are excused; a duplicate, an order and a lost tail are not."""

    def history(*seen: tuple[str, int, int] | None, told: int = 6) -> History:
        history = History()
        for n in range(1, told + 1):
            history.call(f"p-{n}", CHANNEL)
            history.ok(f"p-{n}", ("e", n))
        for arrival in seen:
            if arrival is None:
                history.gap("c", CHANNEL)
            else:
                epoch, offset, n = arrival
                history.received("c", CHANNEL, epoch, offset, f"p-{n}")
        return history

    assert kinds(history(("e", 1, 1), None, ("e", 5, 5), ("e", 6, 6))) == set()
    assert kinds(history(("e", 1, 1), None, ("f", 1, 6))) == set()
    assert check(history(("e", 1, 1), None, ("e", 6, 6))).told_gaps == 1
    assert kinds(history(("e", 5, 5), None, ("e", 5, 5), ("e", 6, 6))) == {Kind.DUPLICATED}
    assert Kind.REORDERED in kinds(history(("e", 5, 5), None, ("e", 2, 2)))
    assert kinds(history(("e", 1, 1), None, ("e", 5, 5))) == {Kind.LOST}
    assert kinds(history(("e", 1, 1), None)) == set()


def test_misuse_is_refused():
    """An operation is called once and ends once, and its id says whose it is."""
    history = History()
    history.call("p-1")
    with pytest.raises(ValueError, match="called twice"):
        history.call("p-1")
    with pytest.raises(ValueError, match="producer-7"):
        history.call("seven")
    history.ok("p-1")
    with pytest.raises(ValueError, match="ended twice"):
        history.unknown("p-1")


def test_the_report_can_be_read(tmp_path):
    """Counts first, then findings, then a verdict; a history is saved with its seed."""
    spoil, _ = SPOILERS["lost at the end"]
    history = run(seed=7, spoil=spoil)
    text = str(check(history))
    assert "lost         " in text
    assert "FAILED" in text
    assert "lost: p" in text
    assert str(check(run())).endswith("ok")
    history.save(tmp_path / "history.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert lines[0] == {"seed": 7}
    assert len(lines) > 1000
