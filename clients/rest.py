"""The REST operations under ``/v1``, for code without an event loop.

Every call that changes something carries an idempotency key, so it is sent again when it is
not known what became of it; it is done once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from channels.errors import (
    FanwireError,
    HubOutcomeUnknown,
    HubUnavailable,
    UsageError,
    error_from_code,
)
from channels.ids import new_id

from .answers import excerpt, retry_after_s
from .backoff import Patience

__all__ = ["RestClient"]

_PATIENCE = Patience()
#: Errors that happen before the request leaves: the hub certainly did not carry it out.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_SERVER_ERROR = 500


class _Problem(msgspec.Struct):
    """An answer that tells an error, RFC 9457."""

    title: str = ""
    detail: str = ""
    code: int = 0


class RestClient:
    """Calls a hub's REST operations, as a user (``token``) or as the application (``api_key``)."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: str = "",
        api_key: str = "",
        patience: Patience = _PATIENCE,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the hub's address; nothing is connected yet.

        Raises:
            UsageError: ``url`` is no address of a hub.
        """
        parts = httpx.URL(url)
        if parts.scheme not in {"http", "https"} or not parts.host:
            raise UsageError(f"expected the hub's address as http://host:port; got {url!r}")
        self._url = str(parts).rstrip("/")
        self._patience = patience
        self._sleep = sleep
        self._reached = False
        headers = {"X-API-Key": api_key} if api_key else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(headers=headers, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the hub."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str | int] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:  # noqa: ANN401 - the operation's JSON
        """Call an operation and return its JSON, None for none.

        Raises:
            RequestError: the hub refused it; nothing was done.
            HubUnavailable: the hub was not reached in time; nothing was done.
            HubOutcomeUnknown: it did not say in time what became of it.
        """
        headers = {"Content-Type": "application/json"}
        if method != "GET":
            headers["Idempotency-Key"] = idempotency_key or new_id()
        content = None if body is None else msgspec.json.encode(body)
        began, backoff = self._patience.clock(), self._patience.make_backoff()
        doubtful = False
        while True:
            pause_s = 0.0
            try:
                answer = self._http.request(
                    method,
                    self._url + path,
                    params=dict(query or {}),
                    content=content,
                    headers=headers,
                    timeout=self._patience.try_timeout_s,
                )
            except httpx.TransportError as error:
                doubtful = doubtful or not isinstance(error, _NOT_SENT)
                trouble: FanwireError = _trouble(f"{self._url}: {_say(error)}", doubtful=doubtful)
            else:
                self._reached = True
                if answer.status_code < httpx.codes.BAD_REQUEST:
                    return _json(answer)
                trouble = _error(answer)
                if not trouble.temporary:
                    raise trouble
                pause_s = retry_after_s(answer.headers.get("retry-after")) or 0.0
                doubtful = doubtful or isinstance(trouble, HubOutcomeUnknown)
            pause_s = max(pause_s, backoff.next_pause_s())
            if self._patience.clock() - began + pause_s > self._limit_s:
                raise trouble
            self._sleep(pause_s)

    @property
    def _limit_s(self) -> float:
        patience = self._patience
        return (
            patience.deadline_s if self._reached else min(patience.deadline_s, patience.unreached_s)
        )


def _say(error: Exception) -> str:
    """Return the error with its kind: many of httpx have no text."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _trouble(what: str, *, doubtful: bool) -> FanwireError:
    return HubOutcomeUnknown(what) if doubtful else HubUnavailable(what)


def _json(answer: httpx.Response) -> Any:  # noqa: ANN401 - any JSON
    if not answer.content:
        return None
    try:
        return msgspec.json.decode(answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HubOutcomeUnknown(
            f"expected the hub's JSON answer ({error}); got {excerpt(answer.content)}"
        ) from None


def _error(answer: httpx.Response) -> FanwireError:
    """Return the error that an answer tells."""
    try:
        problem = msgspec.json.decode(answer.content, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        problem = _Problem(detail=f"got {excerpt(answer.content)}")
    what = problem.detail or problem.title or f"status {answer.status_code}"
    if answer.status_code >= _SERVER_ERROR:
        return HubOutcomeUnknown(f"the hub answered {answer.status_code}: {what}")
    if not problem.code:
        return UsageError(
            f"expected an operation of the hub; it answered {answer.status_code}: {what}"
        )
    return error_from_code(problem.code, what)
