"""Vectors: checked, made of length one, and as bytes."""

from __future__ import annotations

import base64
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from channels.errors import BadRequest

__all__ = ["Vector", "decode_vector", "encode_vector", "unit_vector", "unit_vectors"]

#: Of length one, so that a product of two is their cosine.
Vector: TypeAlias = NDArray[np.float32]

_MAX_DIMENSION = 16_384
_TINY = 1e-12


def unit_vectors(made: ArrayLike, count: int, dimension: int | None) -> list[Vector]:
    """Return what an embedding function made of ``count`` texts, each of length one.

    Raises:
        BadRequest: it is not one vector a text, not of this dimension, or one is zero or holds
            what is no number.
    """
    try:
        matrix = np.asarray(made, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"expected {count} vectors of numbers from embed: {error}") from None
    if matrix.ndim == 1 and count == 1:
        matrix = matrix[None, :]
    if matrix.ndim != 2 or matrix.shape[0] != count or not 0 < matrix.shape[1] <= _MAX_DIMENSION:
        raise BadRequest(
            f"expected {count} vectors of at most {_MAX_DIMENSION} numbers from embed; got the "
            f"shape {matrix.shape}"
        )
    if dimension is not None and matrix.shape[1] != dimension:
        raise BadRequest(
            f"expected vectors of dimension {dimension} from embed; got {matrix.shape[1]}"
        )
    lengths = np.linalg.norm(matrix, axis=1)
    if not np.isfinite(matrix).all() or not np.isfinite(lengths).all():
        raise BadRequest("embed made a vector that holds NaN or infinity")
    if (lengths < _TINY).any():
        raise BadRequest("embed made a vector of zeros: it has no direction")
    units = (matrix / lengths[:, None]).astype(np.float32)
    return [units[row] for row in range(count)]


def unit_vector(made: ArrayLike, dimension: int | None = None) -> Vector:
    """Return one vector of length one; raises like :func:`unit_vectors`."""
    return unit_vectors(made, 1, dimension)[0]


def encode_vector(vector: Vector, *, text: bool) -> bytes:
    """Return the vector as little-endian float32; in base64 for a store that takes only text."""
    raw = vector.astype("<f4").tobytes()
    return b"b" + base64.b64encode(raw) if text else b"f" + raw


def decode_vector(stored: bytes) -> Vector | None:
    """Return a vector of length one; None where the bytes are none."""
    try:
        raw = base64.b64decode(stored[1:], validate=True) if stored[:1] == b"b" else stored[1:]
        vector = np.frombuffer(raw, dtype="<f4").astype(np.float32)
    except ValueError:
        return None
    if stored[:1] not in (b"b", b"f") or not vector.size or not np.isfinite(vector).all():
        return None
    return vector if abs(float(vector @ vector) - 1) < 1e-3 else None
