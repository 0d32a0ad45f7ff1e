"""Lists of what began when: newest first, page by page, on a sorted set of times in ms."""

from __future__ import annotations

from typing import NamedTuple, cast

from channels.errors import BadRequest
from channels.ids import check_id
from services.page import Page
from services.store.port import Reply, Store

__all__ = ["MAX_PAGE", "newest"]

#: Items a page, whatever was asked for.
MAX_PAGE = 500


class _Place(NamedTuple):
    """The last item of a page: its time and id. Items of one moment go by id, downwards."""

    ms: int
    id: str

    @classmethod
    def parse(cls, cursor: str) -> _Place:
        ms, dash, id_ = cursor.partition("-")
        if not (dash and ms.isascii() and ms.isdigit() and len(ms) < 17):
            raise BadRequest(f"expected a cursor that a page gave; got {cursor[:80]!r}")
        return cls(int(ms), check_id(id_, "the cursor's id"))


async def newest(store: Store, key: str, *, limit: int, cursor: str) -> Page[str]:
    """Return ids of the sorted set at ``key``, those with the latest times first.

    What is added while pages are read appears on none of them; nothing appears twice.

    Raises:
        BadRequest: ``limit`` is less than 1, or ``cursor`` was not given by a page.
        StoreError: Redis could not be asked.
    """
    if limit < 1:
        raise BadRequest(f"limit must be 1 or more; got {limit}")
    limit = min(limit, MAX_PAGE)
    after = _Place.parse(cursor) if cursor else None
    found: list[_Place] = []
    skipped = 0
    while True:
        # Those of the cursor's own moment come again; one more tells if there is a next page.
        reply = await store.execute(
            *("ZREVRANGEBYSCORE", key, after.ms if after else "+inf", "-inf"),
            *("WITHSCORES", "LIMIT", skipped, limit + 1),
        )
        places = _places(cast("list[Reply]", reply))
        skipped += len(places)
        found += [place for place in places if after is None or place < after]
        if len(found) > limit or len(places) <= limit:
            break
    page = found[:limit]
    more = len(found) > limit
    return Page([place.id for place in page], f"{page[-1].ms}-{page[-1].id}" if more else "")


def _places(reply: list[Reply]) -> list[_Place]:
    """Read a reply of WITHSCORES: flat in RESP2, pairs in RESP3."""
    flat = [part for pair in reply for part in (pair if isinstance(pair, list) else [pair])]
    return [
        _Place(int(float(cast("bytes | float", score))), cast(bytes, id_).decode())
        for id_, score in zip(flat[::2], flat[1::2], strict=True)
    ]
