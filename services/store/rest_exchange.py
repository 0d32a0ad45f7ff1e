"""One request and its answer over REST: the HTTP client that the SDK is given instead of its own.

The SDK (``upstash_redis``) builds requests, keeps the sync token and knows the paths. What it
does with HTTP is not good enough for a store, so this stands in:

    the SDK                                   here
    waits for ever                            the caller's deadline (``upstash.py``)
    reads any status as an answer             every status has its meaning
    raises whatever went wrong                sent or not: OutcomeUnknown or StoreUnavailable
    decodes strings to text, or fails         bytes stay bytes
    raises a pipeline's first error           each command has its own reply or error
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Self, cast

import httpx
import msgspec
from upstash_redis.asyncio import Redis
from upstash_redis.http import AsyncHttpClient

from channels.errors import OutcomeUnknown, StoreRefused, StoreUnavailable

from .port import Reply
from .rest_address import RestAddress
from .rest_lines import Lines

__all__ = ["Call", "RestClient", "RestExchange"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
#: Comes before anything is executed.
_TOO_MANY = 429

#: The call that the running task makes; the SDK hands nothing of ours through.
_call: ContextVar[Call] = ContextVar("fanwire_rest_call")


class Call:
    """One call: knows whether anything of it went out.

    ``with call:`` makes it the call of this task.
    """

    __slots__ = ("_reset", "sent")

    def __init__(self) -> None:
        self.sent = False

    def __enter__(self) -> Self:
        self._reset = _call.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _call.reset(self._reset)

    async def trace(self, event: str, _info: dict[str, Any]) -> None:
        """Take note when the request begins to go out (httpcore tells)."""
        if event.endswith(".send_request_headers.started"):
            self.sent = True

    def failure(self, what: str) -> StoreUnavailable | OutcomeUnknown:
        """Return the error for a call that got no answer."""
        return OutcomeUnknown(what) if self.sent else StoreUnavailable(what)


class RestClient(Redis):
    """The SDK's client of one database, with :class:`RestExchange` for its HTTP.

    Names of commands are to be in lower case: the SDK converts replies by upper-case names,
    and a store gives them as they are.
    """

    def __init__(self, address: RestAddress, *, connect_timeout_s: float) -> None:
        super().__init__(
            address.url,
            address.token,
            rest_encoding="base64",
            rest_retries=0,
            allow_telemetry=False,
            read_your_writes=True,
        )
        self._http = RestExchange(
            address,
            connect_timeout_s=connect_timeout_s,
            on_sync_token=self._update_sync_token,
        )


class RestExchange(AsyncHttpClient):
    """Sends what the SDK wants sent, within a :class:`Call`, and reads the answer as RESP."""

    def __init__(
        self,
        address: RestAddress,
        *,
        connect_timeout_s: float,
        on_sync_token: Callable[[str], None],
    ) -> None:
        super().__init__("base64", 0, 0, on_sync_token)
        self._where = f"Upstash at {address.where}"
        self._on_sync_token = on_sync_token
        self._lines = Lines(address, connect_timeout_s=connect_timeout_s)

    async def execute(  # type: ignore[override]  # the SDK has no word for bytes
        self,
        url: str,
        headers: dict[str, str],
        command: list[Any],
        from_pipeline: bool = False,  # noqa: FBT001, FBT002 - the SDK's signature
    ) -> Reply | list[Reply | Exception]:
        """Send one command, or the commands of a pipeline, and return what came.

        Raises:
            StoreUnavailable: it was not sent, or the server took no notice of it.
            OutcomeUnknown: it was sent and no answer came that can be understood.
            StoreRefused: the server answered with an error.
        """
        call = _call.get()
        try:
            response = await self._lines.post(
                url,
                headers={**headers, "Content-Type": "application/json"},
                content=_encode(command),
                extensions={"trace": call.trace},
            )
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise call.failure(f"{self._where}: {why}") from error
        if token := response.headers.get("Upstash-Sync-Token"):
            self._on_sync_token(token)
        document = self._document(response)
        if from_pipeline:
            return self._replies(document, len(command), response)
        return self._reply(document, response)

    async def close(self) -> None:
        """End every connection."""
        await self._lines.close()
        await self._client.aclose()  # the SDK's own, which was never used

    def _document(self, response: httpx.Response) -> object:
        """Read the answer's JSON; raises for every status but 200."""
        status = response.status_code
        document: object = None
        try:
            document = _decode(response.content)
            readable = True
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            readable = False
        if status == httpx.codes.OK:
            if not readable:
                raise self._odd(response, "JSON")
            return document
        told = document.get("error") if isinstance(document, dict) else None
        error = told if isinstance(told, str) else ""
        what = f"{self._where}: {error or self._got(response)}"
        if status == _TOO_MANY:
            raise StoreUnavailable(f"{what} (too many requests)")
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            # A gateway says 502, 503 or 504 also when it lost the server behind it after the
            # request had gone there.
            raise OutcomeUnknown(what)
        raise StoreRefused(error or f"ERR {what}")

    def _reply(self, document: object, response: httpx.Response) -> Reply:
        match document:
            case {"error": str(error)}:
                raise StoreRefused(error)
            case {"result": result}:
                return self._resp(result, response)
        raise self._odd(response, "an object with result or error")

    def _replies(
        self, document: object, count: int, response: httpx.Response
    ) -> list[Reply | Exception]:
        if isinstance(document, dict):  # refused as a whole
            self._reply(document, response)
        if not isinstance(document, list) or len(document) != count:
            raise self._odd(response, f"{count} results")
        replies: list[Reply | Exception] = []
        for one in document:
            try:
                replies.append(self._reply(one, response))
            except StoreRefused as refused:
                replies.append(refused)
        return replies

    def _resp(self, result: object, response: httpx.Response) -> Reply:
        """Undo the base64 of strings."""
        match result:
            case "OK":  # the only string that is not encoded, and no base64
                return b"OK"
            case str():
                try:
                    return binascii.a2b_base64(result.encode("ascii"), strict_mode=True)
                except ValueError:
                    raise self._odd(response, "strings in base64") from None
            case list():
                return [self._resp(one, response) for one in result]
            case dict():
                raise self._odd(response, "a reply of Redis")
        return cast(Reply, result)  # None, an integer or a float

    def _odd(self, response: httpx.Response, expected: str) -> OutcomeUnknown:
        return OutcomeUnknown(f"{self._where}: expected {expected}, got {self._got(response)}")

    @staticmethod
    def _got(response: httpx.Response) -> str:
        """Describe an answer without its text, which may be a whole page."""
        kind = response.headers.get("Content-Type", "no type").partition(";")[0][:64]
        return f"HTTP {response.status_code} with {len(response.content)} bytes of {kind}"
