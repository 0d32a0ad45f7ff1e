"""Working memory: an agent keeps a conversation, and a reader follows it event by event.

Needs a Redis or Valkey. Prints:

    message 1 again is message 1
    the agent sees ada: Find me a flight | bot: Where to?
    planner works on 'ask for the destination' at version 4
    created, message, message, updated
    the reader who followed knows the same: True
"""

import asyncio
import json
import os

from channels.reduce_session import reduce_session
from services.door import Services

URL = os.environ.get("FANWIRE_REDIS_URL", "redis://127.0.0.1:6379")


async def main() -> None:
    """Write as an agent does, read as a browser does."""
    async with Services.connect(URL) as services:
        sessions = services.for_workspace("acme").sessions
        await sessions.delete_session("s1")
        before = await sessions.snapshot("s1")  # where a reader begins

        await sessions.create_session("s1", "ada", fields={"current_agent": "planner"})
        first = await sessions.add_message("s1", "ada", "Find me a flight", message_id="m1")
        # Nobody knows whether a call that timed out was done: the id makes it safe to repeat.
        again = await sessions.add_message("s1", "ada", "Find me a flight", message_id="m1")
        print(f"message {again.seq} again is message {first.seq}")

        await sessions.add_message("s1", "bot", "Where to?")
        state = await sessions.update_session("s1", current_task="ask for the destination")
        said = (f"{message.role}: {message.content}" for message in state.recent_messages)
        print("the agent sees", " | ".join(said))
        print(f"{state.current_agent} works on {state.current_task!r} at version {state.version}")

        # A browser gets these over a WebSocket; each carries the change and its version.
        page = await services.events.history("session:acme:s1", since=before.position)
        known = json.loads(before.data)
        events = [json.loads(publication.data) for publication in page.publications]
        for event in events:
            known = reduce_session(known, event)
        print(", ".join(event["type"].removeprefix("session.") for event in events))
        after = await sessions.snapshot("s1")
        print("the reader who followed knows the same:", known == json.loads(after.data))


asyncio.run(main())
