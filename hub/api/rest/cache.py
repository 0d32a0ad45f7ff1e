"""``/v1/cache``: what cached values are no longer true."""

from __future__ import annotations

import msgspec

from channels.errors import BadRequest
from hub.api.rest.operation import Answer, Call, Operation

__all__ = ["CACHE", "Invalidated", "Invalidation", "invalidate_cache"]

_WRITE = "cache:invalidate"


class Invalidation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changed at its source: keys, tags, the foundation, the profiles."""

    keys: list[str] = []
    tags: list[str] = []
    foundation: bool = False
    icps: bool = False


class Invalidated(msgspec.Struct, frozen=True, kw_only=True):
    """Since which version cached values are true again."""

    version: int


async def invalidate_cache(call: Call) -> Answer:
    """Have values that are no longer true never be seen again."""
    asked: Invalidation = call.body
    cache = call.workspace.cache
    if not (asked.keys or asked.tags or asked.foundation or asked.icps):
        raise BadRequest("expected keys, tags, foundation or icps; nothing was named")
    version = 0
    if asked.keys or asked.tags:
        version = await cache.invalidate(keys=asked.keys, tags=asked.tags)
    if asked.foundation:
        version = await cache.invalidate_foundation()
    if asked.icps:
        version = await cache.invalidate_icps()
    return Answer(Invalidated(version=version))


CACHE = (
    Operation(
        method="POST",
        path="/v1/cache/invalidate",
        run=invalidate_cache,
        summary="Tell that cached values are no longer true",
        description=(
            "Every process drops them, and what is being loaded meanwhile is not kept. Told on "
            "`workspace:{workspace}`."
        ),
        scope=_WRITE,
        body=Invalidation,
        result=Invalidated,
        example=Invalidation(keys=["profile:7"], tags=["pricing"]),
        answer_example=Invalidated(version=12),
        errors=(413,),
    ),
)
