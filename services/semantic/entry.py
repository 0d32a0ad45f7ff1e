"""An entry: what it is found by, and what is kept of it."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from typing import Any, NamedTuple

import msgspec

from channels.errors import BadRequest

__all__ = [
    "Entry",
    "Scope",
    "hashed_id",
    "index_record",
    "normal",
    "prompt_id",
    "size_of",
    "tag",
    "vector_of",
]

_BLANKS = re.compile(r"[ \t\r\f\v]+")


class Scope(NamedTuple):
    """Everything that an answer depends on beside the question: other scope, other answer."""

    model: str
    prompt_version: str
    locale: str
    embedding: str
    user: str = ""
    context: str = ""

    @property
    def partition(self) -> str:
        """The id of what is compared with each other; no two scopes have the same."""
        return _digest("partition", *self)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of an answer; times in ms."""

    prompt: str
    response: msgspec.Raw
    created: int
    expires: int
    category: str = ""
    metadata: dict[str, Any] = {}


def normal(prompt: str) -> str:
    """Return the form in which the very same prompts are the same: blanks do not count.

    Letters do, small and capital: "US" is not "us", and code is code. In a text of several
    lines only blanks at the ends of lines go, for the others may mean something.
    """
    text = unicodedata.normalize("NFC", prompt).strip()
    if "\n" in text:
        return "\n".join(line.rstrip() for line in text.splitlines())
    return _BLANKS.sub(" ", text)


def prompt_id(partition: str, prompt: str) -> str:
    """Return the id of the entry for this very prompt, which is normal."""
    return _digest("prompt", partition, prompt)


def hashed_id(partition: str, query_hash: str) -> str:
    """Return the id of the entry that the application found by a hash of its own."""
    return _digest("hash", partition, query_hash)


def tag(kind: str, value: str) -> str:
    """Return the tag by which entries of one kind are found: no blank, no two the same."""
    return f"{kind}{_digest('tag', kind, value)}"


def _digest(*parts: str) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        hashed.update(b"%d:" % len(raw))
        hashed.update(raw)
    return base64.urlsafe_b64encode(hashed.digest()[:18]).decode("ascii")


def index_record(size: int, expires_ms: int, tags: list[str], vector: bytes) -> bytes:
    """Return what stands in the index of an entry; ``lua/lib/semantic.lua`` reads its head."""
    return " ".join((str(size), str(expires_ms), *tags)).encode() + b"\n" + vector


def size_of(record: bytes) -> int:
    """Return the size that an index record tells."""
    return int(record.partition(b" ")[0])


def vector_of(record: bytes) -> tuple[int, bytes]:
    """Return when an index record ends, in ms, and its vector.

    Raises:
        BadRequest: it is none.
    """
    head, found, vector = record.partition(b"\n")
    try:
        expires_ms = int(head.split(b" ", 2)[1])
    except (IndexError, ValueError):
        found = b""
        expires_ms = 0
    if not found:
        raise BadRequest(f"expected an index record; got {record[:40]!r}")
    return expires_ms, vector
