"""FastAPI with a queue for each WebSocket; what is posted to /publish goes to all of them."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect

app = FastAPI()
# Without a bound: the benchmark counts messages, and a full queue would have to drop some.
queues: set[asyncio.Queue[str]] = set()


@app.websocket("/ws")
async def subscribe(websocket: WebSocket) -> None:
    """Send everything that is published from now on."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues.add(queue)
    try:
        await websocket.accept()
        while True:
            await websocket.send_text(await queue.get())
    except WebSocketDisconnect:
        pass
    finally:
        queues.discard(queue)


@app.post("/publish")
async def publish(request: Request) -> Response:
    """Put the body into every queue."""
    text = (await request.body()).decode()
    for queue in queues:
        queue.put_nowait(text)
    return Response(status_code=204)
