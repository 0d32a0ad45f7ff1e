"""Every Redis key and pub/sub channel of Fanwire, built in one place.

    fw:{root}:family:...

``{root}`` is the id of the aggregate (workspace, user, queue; the channel's own name where
it belongs to none). The braces are the Cluster hash tag: everything one script touches has
the same root, so it lives in one slot. Ids hold no separator (see ``channels/ids.py``), so
two different things cannot share a key.

Each key says when it ends. What ends by itself is told, so a TTL of Redis is only for what nobody
ended: a node that sweeps is needed, or the sets of sessions, gates and deadlines stay.
"""

from __future__ import annotations

import hashlib

from channels.catalogue import Channel
from channels.ids import check_id
from channels.scope import Scope

__all__ = ["Keys"]


class Keys:
    """The keys of one application; ``prefix`` keeps applications on one Redis apart."""

    __slots__ = ("prefix",)

    def __init__(self, prefix: str = "fw") -> None:
        self.prefix = check_id(prefix, "key prefix")

    def log(self, channel: Channel) -> str:
        """Stream: the event log; entry ``<offset>-0`` holds ``i`` (id) and ``b`` (body).

        Ends with the history that the channel declares, after its last publication.
        """
        return f"{self.prefix}:{{{channel.root}}}:log:{channel.name}"

    def log_meta(self, channel: Channel) -> str:
        """Hash: ``e`` epoch, ``o`` offset of the top, ``i`` its id, ``t`` its time in ms.

        Ends 30 days after the last publication, or with the history where that is longer.
        """
        return f"{self.prefix}:{{{channel.root}}}:meta:{channel.name}"

    def publish_op(self, channel: Channel, idempotency_key: str) -> str:
        """String: ``<epoch> <offset>`` of what was published with this idempotency key."""
        digest = hashlib.blake2b(idempotency_key.encode("utf-8", "surrogatepass"), digest_size=16)
        return f"{self.prefix}:{{{channel.root}}}:op:{channel.name}:{digest.hexdigest()}"

    def pubsub(self, channel: Channel) -> str:
        """Pub/sub channel that carries the channel's messages."""
        return f"{self.prefix}:{{{channel.root}}}:pub:{channel.name}"

    def channel_index(self) -> str:
        """Sorted set: channels with a log, by the time in ms they were last begun.

        The latest 100,000; there is one.
        """
        return f"{self.prefix}:{{hub}}:channels"

    def nodes(self) -> str:
        """Hash: node id -> its last report, JSON."""
        return f"{self.prefix}:{{hub}}:nodes"

    def ticket(self, digest: str) -> str:
        """String: the identity that a one-use ticket stands for."""
        return f"{self.prefix}:{{hub}}:ticket:{digest}"

    def check(self, process: str) -> str:
        """String: what a process writes and reads to know that it can."""
        return f"{self.prefix}:{{hub}}:check:{process}"

    # -- state -----------------------------------------------------------------------------

    def session(self, workspace: str, session: str) -> str:
        """Hash: the working memory of a session; its fields are in ``lua/lib/session.lua``.

        It and the next two end with the session, or a day after its last moment.
        """
        return f"{self.prefix}:{{{workspace}}}:wm:{session}"

    def session_messages(self, workspace: str, session: str) -> str:
        """List: the newest messages of a session, JSON each, oldest first."""
        return f"{self.prefix}:{{{workspace}}}:wm:{session}:messages"

    def session_message_ids(self, workspace: str, session: str) -> str:
        """Sorted set: ids of the newest messages by sequence, for those that come twice."""
        return f"{self.prefix}:{{{workspace}}}:wm:{session}:ids"

    def sessions(self, workspace: str) -> str:
        """Sorted set: the workspace's sessions by the time in ms they began; none that ended."""
        return f"{self.prefix}:{{{workspace}}}:wms"

    def sessions_of(self, workspace: str, user: str) -> str:
        """Sorted set: a user's sessions in the workspace by the time in ms they began.

        None that ended; 367 days after the last began in any case.
        """
        return f"{self.prefix}:{{{workspace}}}:wms:{user}"

    def approval(self, workspace: str, gate: str) -> str:
        """Hash: one approval gate: ``v`` version, ``g`` JSON.

        Ends 90 days after it was decided, or its deadline; an open one without deadline stays.
        """
        return f"{self.prefix}:{{{workspace}}}:approval:{gate}"

    def approvals(self, workspace: str) -> str:
        """Sorted set: the workspace's gates by the time in ms they were requested: 456 days."""
        return f"{self.prefix}:{{{workspace}}}:approvals"

    def approvals_open(self, workspace: str) -> str:
        """Sorted set: those of them that nobody has decided: 2,000 at most."""
        return f"{self.prefix}:{{{workspace}}}:approvals:open"

    def approvals_open_gates(self, workspace: str) -> str:
        """Hash: those of them as JSON, for snapshots; see ``lua/approvals_snapshot.lua``."""
        return f"{self.prefix}:{{{workspace}}}:approvals:open:gates"

    def approvals_ready(self, workspace: str) -> str:
        """Sorted set: those approved and not used, by the time in ms they were: 90 days."""
        return f"{self.prefix}:{{{workspace}}}:approvals:ready"

    def approvals_refused(self, workspace: str) -> str:
        """Stream: the latest 10,000 or so decisions of people who may not decide: 400 days."""
        return f"{self.prefix}:{{{workspace}}}:approvals:refused"

    def approvals_audit(self, workspace: str) -> str:
        """Stream: what was done to the gates, by whom and when: 400 days."""
        return f"{self.prefix}:{{{workspace}}}:approvals:audit"

    def onboarding(self, workspace: str) -> str:
        """Hash: the onboarding of a workspace; its version stays 400 days after its end."""
        return f"{self.prefix}:{{{workspace}}}:onboarding"

    def preferences(self, workspace: str, user: str = "") -> str:
        """Hash: preferences of a workspace, or of one user in it; stays, 2 MiB at most."""
        family = f"prefs:{user}" if user else "prefs"
        return f"{self.prefix}:{{{workspace}}}:{family}"

    def auth_sessions(self, user: str) -> str:
        """Hash: a user's login sessions by their public ids; see ``lua/lib/auth.lua``.

        Without those that ended; a day after the last end of all of them in any case.
        """
        return f"{self.prefix}:{{{user}}}:auth"

    # -- rate limits -----------------------------------------------------------------------

    def rate_limit(self, root: str, policy: str, detail: str = "") -> str:
        """String, or sorted set of holders for slots: where a policy stands for its subject.

        ``root`` is a user, a workspace, ``~`` and the digest of an address, or ``~all``;
        ``detail`` an endpoint or agent, or ``~`` and its digest where it is no id; ``policy`` its
        name, with ``~`` and microseconds for a sliding window that a plan has its own of. See
        ``lua/lib/limit.lua`` and ``lua/lib/slots.lua``. Ends when it says nothing any more.
        """
        family = f"rl:{policy}:{detail}" if detail else f"rl:{policy}"
        return f"{self.prefix}:{{{root}}}:{family}"

    # -- caches ----------------------------------------------------------------------------

    def cache(self, root: str, key: str) -> str:
        """String: one cached value; see ``services/caching/envelope.py``. Ends with the value."""
        return f"{self.prefix}:{{{root}}}:cache:{key}"

    def cache_lease(self, root: str, key: str) -> str:
        """String: who loads a value now; see ``lua/lib/lease.lua``. Seconds, a minute at most."""
        return f"{self.prefix}:{{{root}}}:cache-lease:{key}"

    def cache_tag(self, root: str, tag: str) -> str:
        """String: the stamp of a tag: values that carry another one are not valid; 91 days."""
        return f"{self.prefix}:{{{root}}}:cache-tag:{tag}"

    def cache_version(self, root: str) -> str:
        """String: the version of the latest invalidation: 91 days after it."""
        return f"{self.prefix}:{{{root}}}:cache-version"

    def cache_filled(self, root: str) -> str:
        """Pub/sub channel: keys whose load ended, for those who wait for it."""
        return f"{self.prefix}:{{{root}}}:cache-filled"

    # -- semantic cache --------------------------------------------------------------------

    def semantic(self, workspace: str) -> list[str]:
        """Six keys of the semantic cache, those of ``lua/lib/semantic.lua`` in its order.

        Entries end by themselves; all six keys two days after the last end, or the last
        invalidation, in any case.
        """
        root = f"{self.prefix}:{{{workspace}}}:semantic"
        return [root, *(f"{root}:{name}" for name in ("index", "ends", "used", "tags", "marks"))]

    # -- usage -----------------------------------------------------------------------------

    def account(self, scope: Scope, month: str) -> str:
        """Hash: what a user, workspace or organisation used in a month (``YYYY-MM``).

        With its limits and what is reserved; see ``services/usage/account.py``. Ends 100 days
        after its month's last change: by then the database is asked.
        """
        return f"{self.prefix}:{{{scope.id}}}:usage:{scope.kind}:{month}"

    def usage_pending(self, user: str) -> str:
        """Stream: what a user's agents used and the database does not have yet; no TTL."""
        return f"{self.prefix}:{{{user}}}:usage:pending"

    def usage_dead(self, user: str) -> str:
        """Stream: entries of it that no version could read, for people to look at; no TTL."""
        return f"{self.prefix}:{{{user}}}:usage:dead"

    def usage_op(self, user: str, event: str) -> str:
        """String: that this event was counted; two days, then the database knows it."""
        return f"{self.prefix}:{{{user}}}:usage:op:{event}"

    # -- budgets ---------------------------------------------------------------------------

    def hold(self, user: str, hold: str) -> str:
        """String: an amount that is set aside for a call; see ``lua/lib/budget.lua``.

        Two days beyond its end, so that what is asked twice is done once.
        """
        return f"{self.prefix}:{{{user}}}:budget:hold:{hold}"

    # -- requests --------------------------------------------------------------------------

    def request_op(self, root: str, key: str) -> str:
        """String: the outcome of a request with this idempotency key: a day, 256 KiB or so."""
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16)
        return f"{self.prefix}:{{{root}}}:req:{digest.hexdigest()}"

    # -- what ends by itself ---------------------------------------------------------------

    def due(self, root: str) -> str:
        """Sorted set: ``family:id`` of what ends by itself under this root, by when (ms).

        Nothing that ended.
        """
        return f"{self.prefix}:{{{root}}}:due"

    def due_roots(self) -> str:
        """Sorted set: roots that have something due, by when (ms) to look there at the latest."""
        return f"{self.prefix}:{{hub}}:roots"

    def due_claimed(self) -> str:
        """Sorted set: those of them that a node looks after now, by when (ms) it must be done."""
        return f"{self.prefix}:{{hub}}:roots:claimed"
