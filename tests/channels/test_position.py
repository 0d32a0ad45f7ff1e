"""Positions are values."""

from channels import Position
from channels.position import MAX_OFFSET


def test_positions_compare_by_value():
    """The same place is the same position; another epoch is another place."""
    assert Position("e", 1) == Position("e", 1)
    assert len({Position("e", 1), Position("e", 1), Position("f", 1)}) == 2


def test_offsets_are_exact_in_every_json_reader():
    """The largest offset is the largest integer that a double holds exactly."""
    assert float(MAX_OFFSET) == MAX_OFFSET
    assert float(MAX_OFFSET + 2) != MAX_OFFSET + 2
