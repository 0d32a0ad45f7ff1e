"""JSON objects as hashes: one field of the hash for each field of the object.

Patches are JSON merge patches (RFC 7396). Fields that a patch replaces or removes are written
without being read, so that patches of different fields never meet; one that merges an object
into an object names the text it was merged with, and the script refuses it when another came
in between (``lua/lib/document.lua``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import msgspec

from channels.errors import BadRequest, LimitExceeded
from channels.event import Event
from channels.publication import check_json
from channels.template import body_pieces
from services.store.port import Argument, Reply

__all__ = ["Document", "check_patch", "merge", "needs_reading", "patch_terms", "version_pieces"]

#: Fields a document may have, characters a field's name, bytes a field's value: what one
#: script reads stays below 2 MiB.
MAX_FIELDS = 128
MAX_NAME = 128
MAX_VALUE_BYTES = 16 * 1024
#: Beyond it a number is no longer exact in a browser.
_MAX_INTEGER = 2**53 - 1
#: What stands before the name of a field in the hash; others are the document's own.
_FIELD = b"."

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Document(NamedTuple):
    """What a hash holds: ``texts`` the fields of the object, ``meta`` what is known of it."""

    texts: dict[str, bytes]
    meta: dict[str, str]

    @classmethod
    def read(cls, found: Reply) -> Document:
        """Read the reply of HGETALL: a map in RESP3, flat in RESP2 and from scripts."""
        if isinstance(found, dict):
            pairs = list(found.items())
        else:
            flat = cast("list[bytes]", found)
            pairs = list(zip(flat[::2], cast("list[Reply]", flat[1::2]), strict=True))
        texts: dict[str, bytes] = {}
        meta: dict[str, str] = {}
        for name, value in pairs:
            text = cast(bytes, value)
            if name.startswith(_FIELD):
                texts[name[1:].decode()] = text
            else:
                meta[name.decode()] = text.decode()
        return cls(texts, meta)

    @property
    def version(self) -> int:
        """How often it was changed."""
        return int(self.meta.get("v", "0"))

    @property
    def values(self) -> dict[str, Any]:
        """The object."""
        return {name: _decode(text) for name, text in self.texts.items()}


def merge(target: object, patch: object) -> Any:  # noqa: ANN401 - JSON, whatever it is
    """Return ``target`` after the JSON merge patch; neither is changed."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def check_patch(patch: Mapping[str, object]) -> dict[str, Any]:
    """Return ``patch`` as plain JSON; structs and dates have become what they are there.

    Raises:
        BadRequest: it is no JSON object, nests too deep, or holds a number beyond 2^53.
        LimitExceeded: a name or a value is too long, or there are too many.
    """
    try:
        plain = _decode(check_json(_encode(dict(patch))))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(f"expected a JSON object; {error}") from None
    if len(plain) > MAX_FIELDS:
        raise LimitExceeded(f"a patch has {MAX_FIELDS} fields at most; got {len(plain)}")
    for name in plain:
        if not 1 <= len(name) <= MAX_NAME:
            raise LimitExceeded(f"a field's name has 1 to {MAX_NAME} characters: {name[:80]!r}")
    _check_numbers(plain)
    return cast("dict[str, Any]", plain)


def _check_numbers(value: object) -> None:
    match value:
        case bool():
            return
        case int() if abs(value) > _MAX_INTEGER:
            raise BadRequest(f"a number must not exceed 2^53 - 1: {value}")
        case dict():
            for inner in value.values():
                _check_numbers(inner)
        case list():
            for inner in value:
                _check_numbers(inner)


def needs_reading(patch: Mapping[str, object]) -> bool:
    """Return whether some field can only be patched by who knows what it holds."""
    return any(isinstance(value, dict) for value in patch.values())


def patch_terms(patch: Mapping[str, object], document: Document) -> list[Argument]:
    """Return the arguments that ``lib/document.lua`` takes for ``patch``.

    ``document`` is what it was read as; only fields that the patch merges into are looked at.

    Raises:
        LimitExceeded: a value is too long.
    """
    terms: list[Argument] = [MAX_FIELDS, len(patch)]
    for name, value in patch.items():
        field = _FIELD + name.encode()
        if value is None:
            terms += (field, "-", "", "")
            continue
        before = document.texts.get(name, b"") if isinstance(value, dict) else b""
        text = _encode(merge(_decode(before) if before else None, value))
        if len(text) > MAX_VALUE_BYTES:
            raise LimitExceeded(
                f"the field {name[:80]!r} would have {len(text)} bytes; "
                f"at most {MAX_VALUE_BYTES} are allowed"
            )
        terms += (field, "?" if isinstance(value, dict) else "=", before, text)
    return terms


def version_pieces(event: Event) -> tuple[bytes, bytes]:
    """Return the body of ``event`` before and after the ``version`` in its data.

    Raises like :func:`~channels.template.body_pieces`.
    """

    def numbered(version: int) -> Event:
        # Not made anew: its id is its publication's too.
        data = msgspec.structs.replace(event.data, version=version)
        return msgspec.structs.replace(event, data=data)

    before, after = body_pieces(numbered, 1)
    return before, after
