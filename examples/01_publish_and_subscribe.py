"""Start here: subscribe to a channel, publish a typed event, print it.

Needs a hub: ``fanwire serve --insecure``. Prints:

    notifications:ada 1 notification.created: Lunch?
"""

import asyncio
import os

from channels import event_type
from channels.events import NotificationCreated, NotificationCreatedData
from clients import AsyncPublisher, Delivery, Subscriber

URL = os.environ.get("FANWIRE_URL", "http://127.0.0.1:8000")
LUNCH = NotificationCreatedData(user="ada", notification="n1", title="Lunch?")


async def main() -> None:
    """Follow the channel first, so that what is published cannot be missed."""
    async with (
        AsyncPublisher(URL) as publisher,
        Subscriber(URL) as hub,
        hub.subscribe("notifications:ada") as feed,
    ):
        await publisher.publish("notifications:ada", NotificationCreated(data=LUNCH))
        async for item in feed:
            match item:
                case Delivery(event=NotificationCreated() as event):
                    kind = event_type(type(event))
                    print(item.channel, item.position.offset, f"{kind}: {event.data.title}")
                    break


if __name__ == "__main__":
    asyncio.run(main())
