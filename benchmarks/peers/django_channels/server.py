"""Django Channels in memory; what is posted to /publish is sent to a group of consumers."""

from __future__ import annotations

from typing import ClassVar

from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter

GROUP = "bench"


class Subscriber(AsyncWebsocketConsumer):
    """A connection; its attributes and handlers have the names that Channels looks for."""

    groups: ClassVar[list[str]] = [GROUP]

    async def deliver(self, event: dict[str, str]) -> None:
        """Send what the group was sent."""
        await self.send(text_data=event["text"])


async def publish(request: HttpRequest) -> HttpResponse:
    """Send the body to the group."""
    await get_channel_layer().group_send(GROUP, {"type": "deliver", "text": request.body.decode()})
    return HttpResponse(status=204)


urlpatterns = [path("publish", publish)]
app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("ws", Subscriber.as_asgi())]),
    }
)
