"""A REST operation: what it takes, what it gives, who may call it; and its endpoint.

Everything an operation shares with the others is here: who calls, decoding, entity tags,
idempotency keys, answers. Errors are ``FanwireError`` and become problem details.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from channels.errors import BadRequest, FanwireError, StoreError
from channels.ids import check_id
from hub.api.body import read_body
from hub.api.rest.caller import Caller, caller_of
from hub.api.rest.preconditions import etag, expected_version, is_unchanged
from hub.auth import TICKET_PARAMETER
from hub.problem import problem_response
from services.idempotency import KeptReply, operation_id
from services.workspace import Workspace

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = ["Answer", "Call", "Operation", "PageQuery", "endpoint_of"]

_log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_MAX_KEY_CHARACTERS = 255


class _NoQuery(msgspec.Struct, frozen=True):
    """No query parameters."""


class PageQuery(msgspec.Struct, frozen=True):
    """Which page of a list: ``cursor`` is ``next`` of the page before."""

    limit: int = 50
    cursor: str = ""


class Call(NamedTuple):
    """One request, understood.

    ``operation`` is an id of the operation, the same when the request is sent again with its
    ``Idempotency-Key``; None without one. ``expected_version`` is that of ``If-Match``.
    """

    hub: Hub
    request: Request
    caller: Caller
    path: dict[str, str]
    query: Any
    body: Any
    operation: str | None
    expected_version: int | None
    workspace_id: str

    @property
    def workspace(self) -> Workspace:
        """The services of the workspace."""
        return self.hub.services.for_workspace(self.workspace_id)


class Answer(NamedTuple):
    """What an operation answers; ``value`` None is an answer without content."""

    value: object = None
    status: int = 200
    #: Version of what is answered, for its entity tag.
    version: int | None = None
    #: Path of what was created.
    location: str = ""
    #: Cursor of the next page, for its link.
    next: str = ""
    #: What else the response needs: cookies.
    finish: Callable[[Response], None] | None = None


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path.

    ``scope`` is needed of the caller's token; ``tenant`` says whether the operation belongs to
    a workspace, named by ``?workspace=``. ``example`` and ``answer_example`` are for the
    documents.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    run: Callable[[Call], Awaitable[Answer]]
    summary: str
    description: str = ""
    scope: str = ""
    tenant: bool = True
    query: type[msgspec.Struct] = _NoQuery
    body: Any = None
    result: Any = None
    status: int = 200
    versioned: bool = False
    errors: tuple[int, ...] = ()
    example: Any = None
    answer_example: Any = None

    @property
    def safe(self) -> bool:
        """Whether it changes nothing."""
        return self.method == "GET"


_Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


def endpoint_of(hub: Hub, operation: Operation) -> _Endpoint:
    """Return the ASGI endpoint of ``operation``."""
    decode = None if operation.body is None else msgspec.json.Decoder(operation.body).decode

    async def endpoint(request: Request) -> Response:
        caller = await caller_of(hub, request)
        asked = _query_of(request)
        workspace = caller.workspace(asked.pop("workspace", None)) if operation.tenant else ""
        caller.need(operation.scope)
        path = {name: check_id(value, name) for name, value in request.path_params.items()}
        raw = b"" if decode is None else await read_body(request, hub.settings.max_api_body_bytes)
        call = Call(
            hub=hub,
            request=request,
            caller=caller,
            path=path,
            query=_decode_query(operation.query, asked),
            body=None if decode is None else _decode_body(decode, raw),
            operation=_operation_id(operation, request, caller),
            expected_version=_expected_version(operation, request),
            workspace_id=workspace,
        )
        if call.operation is None:
            return _response(operation, await operation.run(call), request)
        return await _once(operation, call, call.operation, raw, request)

    return endpoint


def _query_of(request: Request) -> dict[str, str]:
    """Return what is asked for, without the ticket, which says who asks and is used up.

    Raises:
        BadRequest: something is there twice, and whoever looked at it before may have meant
            the other one.
    """
    asked = dict(request.query_params)
    names = [name for name, _ in request.query_params.multi_items()]
    if len(names) > len(asked):
        ((name, times),) = Counter(names).most_common(1)
        raise BadRequest(f"expected one query parameter {name[:64]!r}; got {times}")
    asked.pop(TICKET_PARAMETER, None)
    return asked


def _decode_query(kind: type[msgspec.Struct], asked: dict[str, str]) -> Any:  # noqa: ANN401
    known = set(kind.__struct_fields__)
    if unknown := sorted(set(asked) - known):
        expected = ", ".join(sorted(known)) or "none"
        raise BadRequest(f"unknown query parameter {unknown[0][:64]!r}: expected {expected}")
    try:
        return msgspec.convert(asked, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the query is wrong: {error}") from None


def _decode_body(decode: Callable[[bytes], Any], raw: bytes) -> Any:  # noqa: ANN401
    try:
        return decode(raw)
    # Bad UTF-8 and too deep nesting are not DecodeErrors.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is wrong: {error}") from None


def _expected_version(operation: Operation, request: Request) -> int | None:
    if operation.versioned:
        return expected_version(request)
    if not operation.safe and request.headers.get("if-match", "*") != "*":
        raise BadRequest("this takes no If-Match: it would be done at whichever version")
    return None


def _operation_id(operation: Operation, request: Request, caller: Caller) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is None or operation.safe:
        return None
    key = key.strip().removeprefix('"').removesuffix('"')
    if not key or len(key) > _MAX_KEY_CHARACTERS:
        raise BadRequest(
            f"expected an Idempotency-Key of 1-{_MAX_KEY_CHARACTERS} characters; got {len(key)}"
        )
    return operation_id(caller.name, key)


async def _once(
    operation: Operation, call: Call, id_: str, raw: bytes, request: Request
) -> Response:
    """Carry the request out, unless it was before."""
    idempotency = call.hub.idempotency
    root = call.workspace_id or call.caller.name or "hub"
    what = b"\n".join(
        (
            operation.method.encode(),
            str(request.url.path).encode(),
            urlencode(_query_of(request)).encode(),
            request.headers.get("if-match", "").encode(),
            raw,
        )
    )
    kept = await idempotency.begin(root, id_, what)
    if kept is not None:
        headers = {**kept.headers, "Idempotency-Replayed": "true"}
        return Response(kept.body, kept.status, headers)
    try:
        response = await _answered(operation, call, request)
    except BaseException:
        # Whatever was done, doing it again with the same id does it once.
        await asyncio.shield(_abandon(call, root, id_))
        raise
    headers = {
        name: value
        for name, value in response.headers.items()
        if name not in {"content-length", "set-cookie"}
    }
    reply = KeptReply(response.status_code, headers, bytes(response.body))
    try:
        await idempotency.finish(root, id_, what, reply)
    except StoreError as error:
        _log.warning("the reply to a request could not be kept: %s", error)
    return response


async def _answered(operation: Operation, call: Call, request: Request) -> Response:
    """Return the answer, also if it is a refusal that will be one again."""
    try:
        return _response(operation, await operation.run(call), request)
    except FanwireError as error:
        if error.temporary or error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        return problem_response(error)


async def _abandon(call: Call, root: str, id_: str) -> None:
    try:
        await call.hub.idempotency.abandon(root, id_)
    except StoreError as error:
        _log.info("a request stays noted for a minute: %s", error)


def _response(operation: Operation, answer: Answer, request: Request) -> Response:
    response = _plain_response(operation, answer, request)
    if answer.finish is not None:
        answer.finish(response)
    return response


def _plain_response(operation: Operation, answer: Answer, request: Request) -> Response:
    headers = {"Cache-Control": "no-store"}
    if answer.version is not None:
        headers["ETag"] = etag(answer.version)
        # Kept by whoever asked, but asked about each time.
        headers["Cache-Control"] = "private, no-cache"
        if operation.safe and is_unchanged(request, answer.version):
            return Response(status_code=304, headers=headers)
    if answer.location:
        headers["Location"] = answer.location
    if answer.next:
        query = {**_query_of(request), "cursor": answer.next}
        headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
    if answer.value is None:
        status = 204 if answer.status == HTTPStatus.OK else answer.status
        return Response(status_code=status, headers=headers)
    return Response(_encode(answer.value), answer.status, headers, "application/json")
