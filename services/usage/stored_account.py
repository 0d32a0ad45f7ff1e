"""An account as it stands in Redis, read back."""

from __future__ import annotations

from collections import defaultdict
from typing import cast

from services.store.port import Reply
from services.usage.seeding import NO_BATCH
from services.usage.sums import Amounts, DaySums

__all__ = ["StoredAccount"]

_SUMS = {"c": 0, "i": 1, "o": 2, "n": 3}


class StoredAccount:
    """The fields of ``account.py`` by day; ``generation`` is empty where it is not seeded."""

    __slots__ = ("batch", "days", "fields", "generation", "pending")

    def __init__(self, reply: Reply) -> None:
        """Read what HGETALL returned."""
        if isinstance(reply, dict):
            pairs = cast("dict[bytes, bytes]", reply)
        else:
            flat = cast("list[bytes]", reply)
            pairs = dict(zip(flat[::2], flat[1::2], strict=True))
        #: All of it.
        self.fields = {name.decode(): value.decode() for name, value in pairs.items()}
        self.generation, _, batch = self.fields.get("seeded", "").partition(" ")
        self.batch = int(batch) if batch else NO_BATCH
        #: By ``DD``: entries that are not settled.
        self.pending: dict[str, int] = {}
        #: By ``DD``.
        self.days: dict[str, DaySums] = defaultdict(DaySums)
        self._read()

    @property
    def complete(self) -> bool:
        """Whether it has what the database had."""
        return self.batch != NO_BATCH

    def _read(self) -> None:
        totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for field, value in self.fields.items():
            day, colon, rest = field.partition(":")
            if not colon:
                continue
            sort, named, name = rest.partition(":")
            if named:
                cost, tokens_in, tokens_out, requests = map(int, value.split())
                self.days[day].names[sort][name] = (cost, tokens_in, tokens_out, requests)
            elif sort in _SUMS:
                totals[day][_SUMS[sort]] = int(value)
            elif sort == "p":
                self.pending[day] = int(value)
        for day, found in totals.items():
            self.days[day].total = cast(Amounts, tuple(found))
