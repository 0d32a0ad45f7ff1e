"""The events of sessions, as scripts take them: text around what only the script knows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast

import msgspec

from channels.errors import BadRequest
from channels.events import (
    SessionCreated,
    SessionCreatedData,
    SessionData,
    SessionDeleted,
    SessionExpired,
    SessionExpiredData,
    SessionExtended,
    SessionExtendedData,
    SessionUpdated,
    SessionUpdatedData,
)
from channels.publication import check_json
from channels.template import body_pieces

__all__ = ["MessageText", "SessionEvents"]

_encode = msgspec.json.Encoder().encode
#: The longest number that a script may put into a hole.
_LARGEST = b"9007199254740991"


class MessageText(NamedTuple):
    """The body of ``session.message`` around version and sequence.

    The message itself is ``pieces[1][start:]``, the sequence, ``pieces[2][:end]``.
    """

    pieces: list[bytes]
    start: int
    end: int


class SessionEvents:
    """The events of one session at one moment; each has the id that is given.

    Each method returns a body in pieces (see :func:`channels.template.body_pieces`), and
    raises ``LimitExceeded`` or ``BadRequest`` as that does.
    """

    __slots__ = ("_id", "_session", "_time", "_workspace")

    def __init__(self, workspace: str, session: str, id: str, time: datetime) -> None:
        self._workspace = workspace
        self._session = session
        self._id = id
        self._time = time

    def created(self, user: str, state: bytes) -> list[bytes]:
        """Tell that it began; ``state`` is its JSON."""
        data = SessionCreatedData(
            **self._which(1), user=user, state=cast("dict[str, Any]", msgspec.Raw(state))
        )
        return body_pieces(lambda: SessionCreated(data=data, **self._what()), 0)

    def updated(self, values: Mapping[str, bytes]) -> list[bytes]:
        """Tell which values were replaced, or cleared where empty; hole: version."""
        patch = {name: msgspec.Raw(text or b"null") for name, text in values.items()}
        return body_pieces(
            lambda version: SessionUpdated(
                data=SessionUpdatedData(**self._which(version), patch=patch), **self._what()
            ),
            1,
        )

    def extended(self) -> list[bytes]:
        """Tell that it lives longer; holes: version, and the time as a JSON string."""
        return body_pieces(
            lambda version, expires: SessionExtended(
                data=SessionExtendedData(**self._which(version), expires_at=expires),
                **self._what(),
            ),
            2,
        )

    def deleted(self) -> list[bytes]:
        """Tell that somebody ended it; hole: version."""
        return body_pieces(
            lambda version: SessionDeleted(
                data=SessionData(**self._which(version)), **self._what()
            ),
            1,
        )

    def expired(self, reason: Literal["idle", "absolute"]) -> list[bytes]:
        """Tell that its time was up; hole: version."""
        return body_pieces(
            lambda version: SessionExpired(
                data=SessionExpiredData(**self._which(version), reason=reason), **self._what()
            ),
            1,
        )

    def message(self, id: str, role: str, content: object) -> MessageText:
        """Tell that a message was added; holes: version, sequence.

        It is told far more often than all others, so the text is put together here instead of
        looked for in an encoded event; a test holds the two against each other.
        """
        try:
            role_text, content_text = _encode(role), _encode(content)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadRequest(f"the message cannot be told in JSON; {error}") from None
        time = _encode(self._time)
        session = self._session.encode("ascii")
        head = b'{"type":"session.message","data":{"workspace":"%b","session":"%b","version":' % (
            self._workspace.encode("ascii"),
            session,
        )
        middle = b',"message":{"id":"%b","seq":' % id.encode("ascii")
        message = b',"role":%b,"content":%b,"time":%b}' % (role_text, content_text, time)
        tail = b'},"id":"%b","source":"/fanwire","specversion":"1.0","time":%b,"subject":"%b"}' % (
            self._id.encode("ascii"),
            time,
            session,
        )
        check_json(b"".join((head, _LARGEST, middle, _LARGEST, message, tail)))
        pieces = [b'"data":' + head, middle, message + tail + b"}"]
        return MessageText(pieces, len(b',"message":'), len(message))

    def _which(self, version: int) -> dict[str, Any]:
        return {"workspace": self._workspace, "session": self._session, "version": version}

    def _what(self) -> dict[str, Any]:
        return {"id": self._id, "time": self._time, "subject": self._session}
