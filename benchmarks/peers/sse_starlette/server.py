"""sse-starlette with a generator for each client; what is posted to /publish goes to all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from sse_starlette import EventSourceResponse

app = FastAPI()
# Without a bound: the benchmark counts messages, and a full queue would have to drop some.
queues: set[asyncio.Queue[str]] = set()


async def events(queue: asyncio.Queue[str]) -> AsyncIterator[dict[str, str]]:
    """Yield what is published, until the client goes."""
    try:
        while True:
            yield {"data": await queue.get()}
    finally:
        queues.discard(queue)


@app.get("/sse")
async def subscribe() -> EventSourceResponse:
    """Send everything that is published from now on."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues.add(queue)
    return EventSourceResponse(events(queue))


@app.post("/publish")
async def publish(request: Request) -> Response:
    """Put the body into every queue."""
    text = (await request.body()).decode()
    for queue in queues:
        queue.put_nowait(text)
    return Response(status_code=204)
