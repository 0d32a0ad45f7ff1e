"""Requests that may be sent twice: the ``Idempotency-Key`` of HTTP, draft 07.

The first request with a key is carried out, and its reply kept for a day; the same request
again gets that reply, or is carried out again where that was too large to keep. A node that
dies in between leaves a note that ends after a minute; then the request is carried out again
too. So what it does must be idempotent by :func:`operation_id` itself.
"""

from __future__ import annotations

import hashlib
from typing import cast

import msgspec

from channels.errors import Conflict, OutcomeUnknown, RequestError
from channels.ids import new_id
from services.store.keys import Keys
from services.store.port import Argument, Store
from services.store.script import load_script

__all__ = ["Idempotency", "KeptReply", "KeyReused", "UnderWay", "operation_id"]

#: How long a reply is kept.
KEEP_MS = 86_400_000
#: How long a request may be under way before another one may take its place: longer than all
#: deadlines of one request together.
UNDER_WAY_MS = 60_000
#: The largest body that is kept. A request with a larger reply is carried out again, which its
#: operation id makes harmless; a state of megabytes for each change would fill Redis in a day.
KEEP_BYTES = 256 * 1024


class KeyReused(RequestError):
    """The key stands for another request: a bug in the caller."""

    http_status = 422


class UnderWay(Conflict):
    """The same request is being carried out: its reply can be had soon."""

    temporary = True


class KeptReply(msgspec.Struct, frozen=True):
    """What was answered."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Note(msgspec.Struct, frozen=True):
    fingerprint: bytes
    reply: KeptReply | None = None
    #: Who carries it out, so that it knows its own note again.
    by: str = ""
    #: Whether it was carried out and its reply was too large to keep.
    again: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Note).decode


def operation_id(caller: str, key: str) -> str:
    """Return the id by which the operation behind a request is idempotent."""
    digest = hashlib.blake2b(f"{caller}\n{key}".encode("utf-8", "surrogatepass"), digest_size=16)
    return f"req-{digest.hexdigest()}"


class Idempotency:
    """The requests of all nodes."""

    __slots__ = ("_begin", "_keys", "_store")

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._begin = load_script("begin_request")

    async def begin(self, root: str, operation: str, request: bytes) -> KeptReply | None:
        """Return the reply that the request had; None when it is to be carried out now.

        ``operation`` is the :func:`operation_id`, ``request`` all that makes the request what
        it is. One that goes ahead must be finished or abandoned.

        Raises:
            UnderWay: it is being carried out.
            KeyReused: the key belongs to another request.
            StoreError: it cannot be told; nothing is to be carried out.
        """
        fingerprint, by = hashlib.blake2b(request, digest_size=16).digest(), new_id()
        keys = [self._keys.request_op(root, operation)]
        terms: list[Argument] = [_encode(_Note(fingerprint, by=by)), UNDER_WAY_MS]
        try:
            noted = await self._store.run(self._begin, keys, terms)
        except OutcomeUnknown:
            noted = await self._store.run(self._begin, keys, terms)
        if noted is None:
            return None
        note = _decode(cast(bytes, noted))
        if note.by == by:
            return None  # the first attempt was heard
        if note.fingerprint != fingerprint:
            raise KeyReused("the Idempotency-Key was used before, for another request")
        if note.again:
            return None
        if note.reply is None:
            raise UnderWay("a request with this Idempotency-Key is being carried out")
        return note.reply

    async def finish(self, root: str, operation: str, request: bytes, reply: KeptReply) -> None:
        """Keep the reply, if it is not too large."""
        fingerprint = hashlib.blake2b(request, digest_size=16).digest()
        large = len(reply.body) > KEEP_BYTES
        note = _encode(_Note(fingerprint, None if large else reply, again=large))
        await self._store.execute(
            "SET", self._keys.request_op(root, operation), note, "PX", KEEP_MS
        )

    async def abandon(self, root: str, operation: str) -> None:
        """Let the request be carried out again, at once."""
        await self._store.execute("DEL", self._keys.request_op(root, operation))
