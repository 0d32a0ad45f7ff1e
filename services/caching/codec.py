"""Values as JSON, and which of them may be shared."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from channels.errors import BadRequest

__all__ = ["decoder", "encode", "is_immutable"]

_encoder = msgspec.json.Encoder()
_decoders: dict[Any, Callable[[bytes], Any]] = {}
#: Types that programs make as they run must not pile up here.
_MAX_DECODERS = 1_000

_SCALARS = (
    str,
    int,
    float,
    bool,
    bytes,
    type(None),
    dt.datetime,
    dt.date,
    decimal.Decimal,
    uuid.UUID,
)


def encode(value: object) -> bytes:
    """Return ``value`` as JSON.

    Raises:
        BadRequest: JSON cannot hold it.
    """
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise BadRequest(f"expected a value that JSON can hold; {error}") from None


def decoder(shape: Any) -> Callable[[bytes], Any]:  # noqa: ANN401 - any type that msgspec reads
    """Return the function that reads JSON as ``shape``; it raises ``msgspec.MsgspecError``."""
    found = _decoders.get(shape)
    if found is None:
        if len(_decoders) >= _MAX_DECODERS:
            _decoders.clear()
        found = _decoders[shape] = msgspec.json.Decoder(shape).decode
    return found


def is_immutable(value: object) -> bool:
    """Tell whether one object can be given to everybody: nobody can change it."""
    if type(value) in _SCALARS:
        return True
    if type(value) is tuple or type(value) is frozenset:
        return all(map(is_immutable, value))
    if isinstance(value, msgspec.Struct) and type(value).__struct_config__.frozen:
        return all(is_immutable(getattr(value, name)) for name in value.__struct_fields__)
    return False
