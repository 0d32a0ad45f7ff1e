"""``/metrics``: what all workers of the port count, in the text formats of Prometheus."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from channels.errors import Unauthorized
from hub.auth import check_api_key
from hub.metrics.exposition import SnapshotCollector
from hub.metrics.siblings import Siblings
from hub.settings import Settings

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = ["metrics_router"]


def metrics_router(hub: Hub, siblings: Siblings) -> APIRouter:
    """Return ``/metrics``."""
    router = APIRouter(tags=["metrics"])

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses={401: {"description": "the API key is missing or wrong"}},
    )
    async def metrics(request: Request) -> Response:
        """Tell the counters and states of every worker, for Prometheus to scrape."""
        _check_access(hub.settings, request)
        collector = SnapshotCollector(await siblings.ask())
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        # In a thread: with many workers it takes longer than the loop may stand still.
        text = await asyncio.to_thread(encode, collector)
        return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    return router


def _check_access(settings: Settings, request: Request) -> None:
    if settings.metrics_public or settings.insecure:
        return
    if settings.api_key is None:
        raise Unauthorized("metrics are closed: set api_key, or metrics_public to open them")
    # Prometheus writes the scheme as it is told, other collectors know Bearer only.
    check_api_key(settings, request, schemes=("apikey", "bearer"))
