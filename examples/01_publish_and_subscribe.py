"""Start here: follow a channel, publish a typed event, print it as it arrives.

Needs a hub: ``fanwire serve --insecure``. Prints:

    notifications:ada 1 Lunch?
"""

import asyncio
import os

from channels.events import NotificationCreated, NotificationCreatedData
from clients import AsyncPublisher, Delivery, Subscriber

URL = os.environ.get("FANWIRE_URL", "http://127.0.0.1:8000")
LUNCH = NotificationCreatedData(user="ada", notification="n1", title="Lunch?")


async def main() -> None:
    """Follow first, then publish: what is published inside the block cannot be missed."""
    async with Subscriber(URL) as hub, hub.subscribe("notifications:ada") as feed:
        async with AsyncPublisher(URL) as publisher:
            await publisher.publish("notifications:ada", NotificationCreated(data=LUNCH))
        async for item in feed:
            match item:
                case Delivery(event=NotificationCreated(data=data)):
                    print(item.channel, item.position.offset, data.title)
                    break


asyncio.run(main())
