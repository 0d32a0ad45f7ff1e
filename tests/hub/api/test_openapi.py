"""The OpenAPI document: complete, and consistent in itself."""

from __future__ import annotations

import re

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

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
    } == {path for path in document["paths"] if not path.startswith("/v1/")}
    schemas = document["components"]["schemas"]
    referred = set(re.findall(r"#/components/schemas/([\w.]+)", answer.text))
    assert referred <= set(schemas)
    publish = document["paths"]["/api/publish"]["post"]
    assert publish["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/PublishRequest"
    }
    assert schemas["PublishRequest"]["required"] == ["channel"]
    patterns = set(re.findall(r'"pattern":"(.*?)"', answer.text))
    assert patterns == {"^[A-Za-z0-9_.@-]{1,64}$"}  # JavaScript has no \A


async def test_the_document_is_valid_and_so_are_its_examples(valkey: ValkeyServer) -> None:
    """Every operation under /v1 has a summary, answers, and an example that its schema allows."""
    async with served(open_settings(valkey.url)) as at, at.client() as client:
        document = (await client.get("/openapi.json")).json()
    validate(document)
    seen = 0
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if not path.startswith("/v1/"):
                continue
            assert operation["summary"]
            assert {"400", "401", "403", "503"} <= set(operation["responses"])
            bodies = [operation.get("requestBody"), *operation["responses"].values()]
            for content in filter(None, (body and body.get("content") for body in bodies)):
                described = content.get("application/json", {})
                if "example" in described:
                    schema = {**described["schema"], "components": document["components"]}
                    Draft202012Validator(schema).validate(described["example"])
                    seen += 1
            if "requestBody" in operation:
                assert "example" in operation["requestBody"]["content"]["application/json"]
    assert seen > 25
