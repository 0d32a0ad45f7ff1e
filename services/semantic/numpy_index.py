"""The nearest vectors by looking at all of them."""

from __future__ import annotations

import numpy as np

from .index import Near
from .vectors import Vector

__all__ = ["Matrix"]

_FIRST_ROWS = 64


class Matrix:
    """Vectors of one dimension by their ids, in rows that stand without holes. No I/O."""

    __slots__ = ("_expires", "_ids", "_rows", "_vectors", "dimension")

    def __init__(self, dimension: int, rows: int = _FIRST_ROWS) -> None:
        self.dimension = dimension
        self._vectors = np.empty((max(rows, 1), dimension), dtype=np.float32)
        self._expires = np.empty(max(rows, 1), dtype=np.int64)
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, id: object) -> bool:
        return id in self._rows

    @property
    def ids(self) -> list[str]:
        """The ids, in no order."""
        return list(self._ids)

    @property
    def nbytes(self) -> int:
        """The memory that the vectors take, with the rows that are still free."""
        return self._vectors.nbytes + self._expires.nbytes

    def put(self, id: str, vector: Vector, expires_ms: int) -> None:
        """Add a vector, or replace the one that this id has."""
        row = self._rows.get(id)
        if row is None:
            row = len(self._ids)
            if row == len(self._vectors):
                self._grow(2 * row)
            self._ids.append(id)
            self._rows[id] = row
        self._vectors[row] = vector
        self._expires[row] = expires_ms

    def _grow(self, rows: int) -> None:
        vectors = np.empty((rows, self.dimension), dtype=np.float32)
        vectors[: len(self._vectors)] = self._vectors
        expires = np.empty(rows, dtype=np.int64)
        expires[: len(self._expires)] = self._expires
        self._vectors, self._expires = vectors, expires

    def remove(self, id: str) -> bool:
        """Forget a vector; the last row takes its place."""
        row = self._rows.pop(id, None)
        if row is None:
            return False
        last = self._ids.pop()
        if last != id:
            self._ids[row] = last
            self._rows[last] = row
            self._vectors[row] = self._vectors[len(self._ids)]
            self._expires[row] = self._expires[len(self._ids)]
        return True

    def search(self, vector: Vector, k: int, now_ms: int) -> list[Near]:
        """Return the ``k`` nearest that have not ended by ``now_ms``, the nearest first."""
        count = len(self._ids)
        if not count or vector.shape != (self.dimension,):
            return []
        # Row by row: a product with the matrix goes to the threads of BLAS, which wait for each
        # other in busy loops. Where others want the cores too, that takes ten times as long.
        similarities = np.vecdot(self._vectors[:count], vector)
        similarities[self._expires[:count] <= now_ms] = -np.inf
        if k < count:
            found = np.argpartition(similarities, count - k)[count - k :]
        else:
            found = np.arange(count)
        found = found[np.argsort(-similarities[found], kind="stable")]
        return [
            Near(self._ids[row], min(max(1.0 - float(similarities[row]), 0.0), 2.0))
            for row in found.tolist()
            if similarities[row] > -np.inf
        ]
