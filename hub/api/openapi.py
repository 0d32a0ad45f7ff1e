"""What FastAPI cannot see: schemas of msgspec structs, keys, and the feed."""

from __future__ import annotations

from typing import Any

import msgspec

from channels.wire import ErrorReply
from hub.api import messages
from hub.api.rest.router import OPERATIONS
from hub.api.rest.schema import PROBLEM, kinds_of
from hub.api.server_api import REF_TEMPLATE

__all__ = ["complete_openapi"]

_SECURITY = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
}
_EVENTS = {
    "get": {
        "tags": ["streams"],
        "summary": "A feed of channels as server-sent events",
        "description": (
            "Every event carries an `id` that says how far the reader got on all its "
            "channels, so an `EventSource` resumes by itself. Events: plain ones "
            '(`{"channel","pub":{"offset","data"}}`), `gap`, `auth-expiring` and `close`.'
        ),
        "parameters": [
            {
                "name": "channel",
                "in": "query",
                "required": True,
                "description": "A channel; repeat it for more.",
                "schema": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            },
            {
                "name": "last_event_id",
                "in": "query",
                "description": "The last `id` seen, for the first connection of a page.",
                "schema": {"type": "string"},
            },
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "The same, as browsers send it when they reconnect.",
                "schema": {"type": "string"},
            },
            {
                "name": "ticket",
                "in": "query",
                "description": "A one-use ticket of `/connection/ticket`.",
                "schema": {"type": "string"},
            },
        ],
        "responses": {
            "200": {"description": "The stream.", "content": {"text/event-stream": {}}},
            "400": {"description": "No channel, too many, a malformed one, or a token here."},
            "401": {"description": "The token or ticket is no good."},
            "403": {"description": "The channel or the page's origin is not allowed."},
            "404": {"description": "There is no such channel."},
        },
    }
}


def _any(_kind: type) -> dict[str, Any]:
    """Return the schema of ``object``: not empty, which would count as none."""
    return {"description": "any JSON"}


def complete_openapi(document: dict[str, Any]) -> dict[str, Any]:
    """Return ``document`` with what is missing."""
    structs = [getattr(messages, name) for name in messages.__all__]
    operations = [one for group in OPERATIONS.values() for one in group]
    # All at once: two structs of one name would be an error.
    _, schemas = msgspec.json.schema_components(
        [*structs, ErrorReply, *kinds_of(operations)], ref_template=REF_TEMPLATE, schema_hook=_any
    )
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas | {"Problem": PROBLEM})
    components.setdefault("securitySchemes", {}).update(_SECURITY)
    document["paths"]["/events"] = _EVENTS
    _translate_patterns(document)
    return document


def _translate_patterns(document: dict[str, Any]) -> None:
    """Write patterns as JSON schema has them: those of JavaScript, which know no ``\\A``."""
    rest: list[Any] = [document]
    while rest:
        match rest.pop():
            case dict() as found:
                if isinstance(pattern := found.get("pattern"), str):
                    found["pattern"] = pattern.replace(r"\A", "^").replace(r"\Z", "$")
                rest.extend(found.values())
            case list() as found:
                rest.extend(found)
