"""Requests that may be sent twice: the ``Idempotency-Key`` of HTTP, draft 07.

The first request with a key is carried out, and its reply kept for a day; the same request
again gets that reply. A node that dies in between leaves a note that ends after a minute;
then the request is carried out again, so what it does must be idempotent by
:func:`operation_id` itself.
"""

from __future__ import annotations

import hashlib
from typing import cast

import msgspec

from channels.errors import Conflict, RequestError
from services.store.keys import Keys
from services.store.port import Store
from services.store.script import load_script

__all__ = ["Idempotency", "KeptReply", "KeyReused", "UnderWay", "operation_id"]

#: How long a reply is kept.
KEEP_MS = 86_400_000
#: How long a request may be under way before another one may take its place: longer than all
#: deadlines of one request together.
UNDER_WAY_MS = 60_000


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
        fingerprint = hashlib.blake2b(request, digest_size=16).digest()
        noted = await self._store.run(
            self._begin,
            [self._keys.request_op(root, operation)],
            [_encode(_Note(fingerprint)), UNDER_WAY_MS],
        )
        if noted is None:
            return None
        note = _decode(cast(bytes, noted))
        if note.fingerprint != fingerprint:
            raise KeyReused("the Idempotency-Key was used before, for another request")
        if note.reply is None:
            raise UnderWay("a request with this Idempotency-Key is being carried out")
        return note.reply

    async def finish(self, root: str, operation: str, request: bytes, reply: KeptReply) -> None:
        """Keep the reply."""
        fingerprint = hashlib.blake2b(request, digest_size=16).digest()
        note = _encode(_Note(fingerprint, reply))
        await self._store.execute(
            "SET", self._keys.request_op(root, operation), note, "PX", KEEP_MS
        )

    async def abandon(self, root: str, operation: str) -> None:
        """Let the request be carried out again, at once."""
        await self._store.execute("DEL", self._keys.request_op(root, operation))
