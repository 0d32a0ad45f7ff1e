"""Canonical JSON: one text for one value, so that a digest of it means the value.

The form is that of RFC 8785 (JCS), so that a browser, or whoever else shows arguments to a
person, computes the same digest of what was shown.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping

from .errors import BadRequest

__all__ = ["canonical_json", "digest"]

#: The largest integer that every reader of JSON tells from its neighbours.
_MAX_INT = 2**53 - 1
_MAX_DEPTH = 100


def canonical_json(value: object) -> bytes:
    """Return the one text of ``value`` in JSON: keys sorted, no white space, UTF-8.

    Raises:
        BadRequest: it holds what JSON has no word for (NaN, another type, a lone surrogate),
            an integer that a browser would show as another one, or it nests too deep.
    """
    pieces: list[str] = []
    _write(value, pieces, 0)
    try:
        return "".join(pieces).encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"expected text that UTF-8 can hold; {error}") from None


def digest(value: object) -> str:
    """Return the SHA-256 of the canonical JSON of ``value``, 64 hexadecimal digits.

    Raises:
        BadRequest: as :func:`canonical_json`.
    """
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _write(value: object, pieces: list[str], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise BadRequest(f"expected JSON that nests at most {_MAX_DEPTH} deep")
    match value:
        case None | bool() | str():
            pieces.append(json.dumps(value, ensure_ascii=False))
        case int():
            if not -_MAX_INT <= value <= _MAX_INT:
                # A longer one has no text at all (sys.set_int_max_str_digits).
                told = str(value) if value.bit_length() < 128 else f"{value.bit_length()} bits"
                raise BadRequest(f"expected integers within 2^53; got {told}: send it as text")
            pieces.append(int.__repr__(value))
        case float():
            pieces.append(_number(value))
        case Mapping():
            _write_object(value, pieces, depth)
        case list() | tuple():
            pieces.append("[")
            for index, item in enumerate(value):
                if index:
                    pieces.append(",")
                _write(item, pieces, depth + 1)
            pieces.append("]")
        case _:
            raise BadRequest(f"expected what JSON can hold; got {type(value).__name__}")


def _write_object(value: Mapping[object, object], pieces: list[str], depth: int) -> None:
    keys: list[str] = []
    for key in value:
        if not isinstance(key, str):
            raise BadRequest(f"expected text for the keys of an object; got {key!r}")
        keys.append(key)
    pieces.append("{")
    # By UTF-16 code units, as JavaScript sorts.
    keys.sort(key=lambda key: key.encode("utf-16-be", "surrogatepass"))
    for index, key in enumerate(keys):
        if index:
            pieces.append(",")
        pieces.append(json.dumps(key, ensure_ascii=False))
        pieces.append(":")
        _write(value[key], pieces, depth + 1)
    pieces.append("}")


def _number(value: float) -> str:
    """Return a float as JavaScript writes it."""
    if not math.isfinite(value):
        raise BadRequest(f"expected a finite number; got {value}")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    # Not that of a subclass, as NumPy has one.
    mantissa, _, exponent = float.__repr__(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    # The digits of the shortest form, and where the point stands among them.
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0)
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    if 0 < point <= 21:
        if len(digits) <= point:
            return sign + digits.ljust(point, "0")
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if point > 0 else '-'}{abs(point - 1)}"
