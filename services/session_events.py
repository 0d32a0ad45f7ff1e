"""The events of sessions, as scripts take them: text around what only the script knows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast

import msgspec

from channels.events import (
    Message,
    SessionCreated,
    SessionCreatedData,
    SessionData,
    SessionDeleted,
    SessionExpired,
    SessionExpiredData,
    SessionExtended,
    SessionExtendedData,
    SessionMessage,
    SessionMessageData,
    SessionUpdated,
    SessionUpdatedData,
)
from channels.template import body_pieces

__all__ = ["MessageText", "SessionEvents"]


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
        """Tell that a message was added; holes: version, sequence."""
        pieces = body_pieces(
            lambda version, seq: SessionMessage(
                data=SessionMessageData(
                    **self._which(version),
                    message=Message(id=id, seq=seq, role=role, content=content, time=self._time),
                ),
                **self._what(),
            ),
            2,
        )
        # Neither text holds anything of the caller's but ids, so both are found for certain.
        start = pieces[1].index(b'{"id":')
        return MessageText(pieces, start, pieces[2].rindex(b'},"id":'))

    def _which(self, version: int) -> dict[str, Any]:
        return {"workspace": self._workspace, "session": self._session, "version": version}

    def _what(self) -> dict[str, Any]:
        return {"id": self._id, "time": self._time, "subject": self._session}
