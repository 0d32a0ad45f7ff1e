"""The metrics of the hub itself: what it delivers, whom it serves, how it does."""

from __future__ import annotations

from hub.metrics.family import Family, by_label, one
from hub.metrics.snapshot import Snapshot

__all__ = ["HUB_FAMILIES", "WORKER_UP"]

#: The reasons of ``Traffic.drops`` that end a connection. They are told from 0 on, so that the
#: first one is an increase. Any other reason but the next one counts here too.
_ENDS = ("slow", "no_pong")
_CONFLATED = "conflated"


def _ended(snapshot: Snapshot) -> dict[str, int]:
    drops = {**dict.fromkeys(_ENDS, 0), **snapshot.traffic.drops}
    drops.pop(_CONFLATED, None)
    return drops


#: Whether a worker answered; the collector knows that, not a snapshot.
WORKER_UP = Family(
    "fanwire_worker_up",
    "gauge",
    "1 if the worker told its metrics for this scrape, 0 if it did not within a second: it is "
    "starting, being replaced, or its event loop stands still.",
    one(lambda _snapshot: 1),
)

HUB_FAMILIES: tuple[Family, ...] = (
    WORKER_UP,
    Family(
        "fanwire_build_info",
        "gauge",
        "1, with the version of Fanwire as a label.",
        lambda snapshot: [((snapshot.version,), 1)],
        ("version",),
    ),
    Family(
        "fanwire_start_time_seconds",
        "gauge",
        "When the worker started, in seconds since 1970; a replaced worker has a new one.",
        one(lambda snapshot: snapshot.started_at),
    ),
    Family(
        "fanwire_publications_total",
        "counter",
        "Publications that came from Redis into a room of the worker, each counted once however "
        "many subscribers it has.",
        one(lambda snapshot: snapshot.traffic.publications),
    ),
    Family(
        "fanwire_deliveries_total",
        "counter",
        "Publications handed to subscribers: one publication to a hundred subscribers counts a "
        "hundred.",
        one(lambda snapshot: snapshot.traffic.deliveries),
    ),
    Family(
        "fanwire_delivered_bytes_total",
        "counter",
        "Bytes of the publications handed to subscribers, without the framing of the transport.",
        one(lambda snapshot: snapshot.traffic.bytes),
    ),
    Family(
        "fanwire_dropped_connections_total",
        "counter",
        "Connections that were given up, by reason: slow had more waiting than outbox_bytes "
        "allows (code 3008), no_pong did not answer a ping (code 3012).",
        by_label(_ended),
        ("reason",),
    ),
    Family(
        "fanwire_conflated_publications_total",
        "counter",
        "Publications that a slow subscriber did not get because a newer one took their place.",
        one(lambda snapshot: snapshot.traffic.drops.get(_CONFLATED, 0)),
    ),
    Family(
        "fanwire_write_lag_seconds",
        "histogram",
        "Time from the arrival of a message from Redis until it was written to every subscriber "
        "of its room. Messages that were written together count once, as the first of them.",
        one(lambda snapshot: snapshot.traffic.write_lag),
    ),
    Family(
        "fanwire_connections",
        "gauge",
        "Connected clients, by transport.",
        by_label(lambda snapshot: snapshot.connections),
        ("transport",),
    ),
    Family(
        "fanwire_connections_accepted_total",
        "counter",
        "Clients that were let in, by transport.",
        by_label(lambda snapshot: snapshot.accepted),
        ("transport",),
    ),
    Family(
        "fanwire_rooms",
        "gauge",
        "Channels that the worker follows because a subscriber is, or was a moment ago, in them.",
        one(lambda snapshot: snapshot.rooms),
    ),
    Family(
        "fanwire_subscriptions",
        "gauge",
        "Subscribers of all rooms: a client in three channels counts three.",
        one(lambda snapshot: snapshot.subscriptions),
    ),
    Family(
        "fanwire_follower_repairs_total",
        "counter",
        "Times a channel's log was read because a message was missing or could not be trusted.",
        one(lambda snapshot: snapshot.follower.repairs),
    ),
    Family(
        "fanwire_follower_backfilled_publications_total",
        "counter",
        "Publications that Redis pub/sub lost and the log had.",
        one(lambda snapshot: snapshot.follower.backfilled),
    ),
    Family(
        "fanwire_follower_gaps_total",
        "counter",
        "Times publications were lost to a room for good, because the log did not have them any "
        "more; its subscribers were told.",
        one(lambda snapshot: snapshot.follower.gaps),
    ),
    Family(
        "fanwire_follower_foreign_messages_total",
        "counter",
        "Messages on our pub/sub channels that are none of ours.",
        one(lambda snapshot: snapshot.follower.foreign),
    ),
    Family(
        "fanwire_follower_late_messages_total",
        "counter",
        "Messages that came when the log had told already what they say.",
        one(lambda snapshot: snapshot.follower.late),
    ),
    Family(
        "fanwire_store_ready",
        "gauge",
        "1 while Redis can be used, 0 while it is away.",
        one(lambda snapshot: int(snapshot.store_ready)),
    ),
    Family(
        "fanwire_loop_lag_seconds",
        "histogram",
        "How late the event loop came to what was due, measured ten times a second.",
        one(lambda snapshot: snapshot.loop_lag),
    ),
    Family(
        "fanwire_process_cpu_seconds_total",
        "counter",
        "CPU time that the worker's process used, user and system.",
        one(lambda snapshot: snapshot.process.cpu_s),
    ),
    Family(
        "fanwire_process_resident_memory_bytes",
        "gauge",
        "Memory of the worker's process that is in RAM. Linux only.",
        one(lambda snapshot: snapshot.process.resident_bytes),
    ),
    Family(
        "fanwire_process_open_fds",
        "gauge",
        "Open file descriptors of the worker's process: one a connection, and some. Linux only.",
        one(lambda snapshot: snapshot.process.open_fds),
    ),
)
