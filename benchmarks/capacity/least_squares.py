"""Least squares with weights, for costs, which are never negative."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["fit"]


def fit(rows: Sequence[Sequence[float]], measured: Sequence[float]) -> list[float]:
    """Return the coefficients, 0 or more, with the least squares of *relative* errors.

    Relative, so that a room of one counts as much as a room of a thousand. A coefficient that
    would come out negative is 0, and the others are fitted without it.

    Raises:
        ValueError: the rows do not tell the coefficients apart.
    """
    used = list(range(len(rows[0])))
    while True:
        found = _solve_normal(
            [
                [row[index] / value for index in used]
                for row, value in zip(rows, measured, strict=True)
            ]
        )
        if min(found, default=0.0) >= 0:
            coefficients = [0.0] * len(rows[0])
            for index, value in zip(used, found, strict=True):
                coefficients[index] = value
            return coefficients
        del used[found.index(min(found))]


def _solve_normal(rows: list[list[float]]) -> list[float]:
    """Solve ``rows`` times the coefficients = 1, in the sense of least squares."""
    size = len(rows[0])
    matrix = [
        [sum(row[i] * row[j] for row in rows) for j in range(size)] + [sum(row[i] for row in rows)]
        for i in range(size)
    ]
    for column in range(size):
        pivot = max(range(column, size), key=lambda line: abs(matrix[line][column]))
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        if abs(matrix[column][column]) < 1e-18:
            raise ValueError("expected measurements that tell the costs apart; these do not")
        for line in range(size):
            if line != column:
                factor = matrix[line][column] / matrix[column][column]
                matrix[line] = [
                    own - factor * other
                    for own, other in zip(matrix[line], matrix[column], strict=True)
                ]
    return [matrix[line][size] / matrix[line][line] for line in range(size)]
