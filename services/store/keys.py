"""Every Redis key and pub/sub channel of Fanwire, built in one place.

    fw:{root}:family:...

``{root}`` is the id of the aggregate (workspace, user, queue; the channel's own name where
it belongs to none). The braces are the Cluster hash tag: everything one script touches has
the same root, so it lives in one slot. Ids hold no separator (see ``channels/ids.py``), so
two different things cannot share a key.
"""

from __future__ import annotations

import hashlib

from channels.catalogue import Channel
from channels.ids import check_id

__all__ = ["Keys"]


class Keys:
    """The keys of one application; ``prefix`` keeps applications on one Redis apart."""

    __slots__ = ("prefix",)

    def __init__(self, prefix: str = "fw") -> None:
        self.prefix = check_id(prefix, "key prefix")

    def log(self, channel: Channel) -> str:
        """Stream: the event log; entry ``<offset>-0`` holds ``i`` (id) and ``b`` (body)."""
        return f"{self.prefix}:{{{channel.root}}}:log:{channel.name}"

    def log_meta(self, channel: Channel) -> str:
        """Hash: ``e`` epoch, ``o`` offset of the top, ``i`` its id, ``t`` its time in ms."""
        return f"{self.prefix}:{{{channel.root}}}:meta:{channel.name}"

    def publish_op(self, channel: Channel, idempotency_key: str) -> str:
        """String: ``<epoch> <offset>`` of what was published with this idempotency key."""
        digest = hashlib.blake2b(idempotency_key.encode("utf-8", "surrogatepass"), digest_size=16)
        return f"{self.prefix}:{{{channel.root}}}:op:{channel.name}:{digest.hexdigest()}"

    def pubsub(self, channel: Channel) -> str:
        """Pub/sub channel that carries the channel's messages."""
        return f"{self.prefix}:{{{channel.root}}}:pub:{channel.name}"

    def channel_index(self) -> str:
        """Sorted set: channels with a log, by the time in ms they were last begun."""
        return f"{self.prefix}:{{hub}}:channels"

    def nodes(self) -> str:
        """Hash: node id -> its last report, JSON."""
        return f"{self.prefix}:{{hub}}:nodes"

    def ticket(self, digest: str) -> str:
        """String: the identity that a one-use ticket stands for."""
        return f"{self.prefix}:{{hub}}:ticket:{digest}"

    def probe(self, process: str) -> str:
        """Pub/sub channel on which a process hears itself, to know that it hears at all."""
        return f"{self.prefix}:{{hub}}:probe:{process}"
