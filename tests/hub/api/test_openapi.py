"""The OpenAPI document: complete, and consistent in itself."""

from __future__ import annotations

import re

from tests.hub.serving import open_settings, served
from tests.servers import ValkeyServer


async def test_every_route_and_schema_is_there(valkey: ValkeyServer) -> None:
    """Each method of the server API has the schemas of its bodies; no reference dangles."""
    async with served(open_settings(valkey.url)) as at, at.client() as client:
        answer = await client.get("/openapi.json")
    document = answer.json()
    methods = {"publish", "broadcast", "batch", "history", "history_remove", "channels", "info"}
    assert {f"/api/{method}" for method in methods} | {
        "/events",
        "/connection/ticket",
        "/health/live",
        "/health/ready",
        "/metrics",
    } == set(document["paths"])
    schemas = document["components"]["schemas"]
    referred = set(re.findall(r"#/components/schemas/(\w+)", answer.text))
    assert referred <= set(schemas)
    publish = document["paths"]["/api/publish"]["post"]
    assert publish["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/PublishRequest"
    }
    assert schemas["PublishRequest"]["required"] == ["channel"]
