"""The OpenAPI description of REST operations, from their msgspec types."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from channels.ids import ID_PATTERN
from hub.api.rest.operation import Operation

__all__ = ["PROBLEM", "REF_TEMPLATE", "describe", "kinds_of"]

REF_TEMPLATE = "#/components/schemas/{name}"

PROBLEM = {
    "type": "object",
    "description": "Problem details, RFC 9457.",
    "required": ["status", "title"],
    "properties": {
        "status": {"type": "integer"},
        "title": {"type": "string"},
        "detail": {"type": "string", "description": "What was expected and what came."},
        "code": {"type": "integer", "description": "The error's code in docs/protocol.md."},
    },
}
_WHY = {
    400: "The request is malformed.",
    401: "Nobody vouches for the caller.",
    402: "A budget does not allow it; nothing was set aside or charged.",
    403: "The caller may not do this.",
    404: "It does not exist.",
    409: "It is not in a state in which this can be done, or the same request is under way.",
    412: "It is not at the version of `If-Match`.",
    413: "It is too large.",
    422: "The `Idempotency-Key` was used for another request.",
    429: "A policy of the rate limiter denies it; come back after `Retry-After` seconds.",
    503: "Redis is away; try again after `Retry-After` seconds.",
}
_WORKSPACE = {
    "name": "workspace",
    "in": "query",
    "description": "The workspace; needed unless the token is for exactly one.",
    "schema": {"type": "string", "pattern": ID_PATTERN},
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "The `ETag` of the version that the change is meant for.",
    "schema": {"type": "string", "examples": ['"7"']},
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The `ETag` of the version that is known already: the answer is 304 then.",
    "schema": {"type": "string", "examples": ['"7"']},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes it safe to send the request again, for a day.",
    "schema": {"type": "string", "maxLength": 255},
}


def kinds_of(operations: Iterable[Operation]) -> list[Any]:
    """Return the types of bodies and results, whose schemas the descriptions refer to."""
    return [kind for one in operations for kind in (one.body, one.result) if kind is not None]


def describe(operation: Operation) -> dict[str, Any]:
    """Return what stands under the operation's method in the document."""
    described: dict[str, Any] = {
        "parameters": _parameters(operation),
        "responses": _responses(operation),
        "security": [{"bearer": []}, {"apiKey": []}],
    }
    if operation.body is not None:
        content: dict[str, Any] = {"schema": _schema_of(operation.body)}
        if operation.example is not None:
            content["example"] = msgspec.to_builtins(operation.example)
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _WORKSPACE["schema"]}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    if operation.tenant:
        parameters.append(_WORKSPACE)
    parameters += [
        {
            "name": field.encode_name,
            "in": "query",
            "required": field.required,
            "schema": msgspec.json.schema(field.type),
        }
        for field in msgspec.structs.fields(operation.query)
    ]
    if operation.versioned:
        parameters.append(_IF_NONE_MATCH if operation.safe else _IF_MATCH)
    if not operation.safe:
        parameters.append(_IDEMPOTENCY_KEY)
    return parameters


def _responses(operation: Operation) -> dict[str, Any]:
    success: dict[str, Any] = {"description": HTTPStatus(operation.status).phrase}
    if operation.result is not None:
        content: dict[str, Any] = {"schema": _schema_of(operation.result)}
        if operation.answer_example is not None:
            content["example"] = msgspec.to_builtins(operation.answer_example)
        success["content"] = {"application/json": content}
    if operation.versioned:
        success["headers"] = {"ETag": {"schema": {"type": "string"}, "description": "The version."}}
    responses = {str(operation.status): success}
    if operation.versioned and operation.safe:
        responses["304"] = {"description": "It is the version of `If-None-Match`."}
    statuses = {400, 401, 403, 503, *operation.errors}
    if operation.versioned and not operation.safe:
        statuses.add(412)
    if not operation.safe:
        statuses |= {409, 422}
    if operation.body is not None:
        statuses.add(413)
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status in sorted(statuses):
        responses[str(status)] = {"description": _WHY[status], "content": problem}
    return responses


def _schema_of(kind: Any) -> dict[str, Any]:  # noqa: ANN401 - any type that msgspec knows
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=REF_TEMPLATE)
    return dict(schema)
