"""``/v1/sessions``: the working memory of agent conversations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from channels.errors import BadRequest, NotFound
from channels.events import Message
from channels.ids import Id, new_id
from hub.api.rest.operation import Answer, Call, Operation, PageQuery
from services.page import Page
from services.session_summary import SessionSummary
from services.working_memory import WorkingMemoryState

__all__ = [
    "SESSIONS",
    "Extension",
    "NewMessage",
    "NewSession",
    "SessionEnd",
    "SessionQuery",
    "SessionReading",
    "add_message",
    "create_session",
    "delete_session",
    "extend_session",
    "get_session",
    "list_sessions",
    "update_session",
]

#: Scope of whoever changes sessions; their own only, without the second one.
_WRITE = "sessions:write"
_ADMIN = "sessions:admin"

#: Names of arguments beside the values of a session; no value is called so.
_ARGUMENTS = frozenset({"self", "session_id", "user_id", "expected_version", "op_id"})

_Seconds = Annotated[int, Meta(ge=1)]


class SessionQuery(PageQuery, frozen=True):
    """Which sessions: those of ``user`` only, where one is given."""

    user: str = ""


class SessionReading(msgspec.Struct, frozen=True):
    """How a session is read: with ``touch``, by whoever may change it, it lives longer."""

    touch: bool = False


class NewSession(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A session to begin. ``user`` is the caller unless the application says otherwise."""

    id: Id | None = None
    user: str = ""
    fields: dict[str, Any] = {}
    idle_ttl_s: _Seconds = 3_600
    max_age_s: _Seconds = 86_400


class NewMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message to add; with an ``id`` it is added once, however often it is sent."""

    role: str
    content: Any
    id: Id | None = None


class Extension(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much later a session is to end."""

    extra_seconds: _Seconds = 3_600


class SessionEnd(msgspec.Struct, frozen=True):
    """When a session ends unless it is used again."""

    expires_at: datetime


def _session(state: WorkingMemoryState, *, location: str = "") -> Answer:
    return Answer(state, version=state.version, location=location)


async def list_sessions(call: Call) -> Answer:
    """Return a page of sessions."""
    query: SessionQuery = call.query
    page = await call.workspace.sessions.list_sessions(
        user_id=query.user or None, limit=query.limit, cursor=query.cursor
    )
    return Answer(page, next=page.next)


async def create_session(call: Call) -> Answer:
    """Begin a session, or return the one that is there."""
    body: NewSession = call.body
    session = body.id or call.operation or new_id()
    state = await call.workspace.sessions.create_session(
        session,
        call.caller.actor(body.user),
        fields=body.fields,
        idle_ttl_s=body.idle_ttl_s,
        max_age_s=body.max_age_s,
    )
    return _session(state, location=f"/v1/sessions/{session}?workspace={call.workspace_id}")


async def get_session(call: Call) -> Answer:
    """Return a session."""
    session, owner = call.path["session"], None
    if call.query.touch:
        call.caller.need(_WRITE)
        owner = call.caller.owner(_ADMIN)
    state = await call.workspace.sessions.get_session(
        session, user_id=owner, touch=call.query.touch
    )
    if state is None:
        raise NotFound(f"there is no session {session!r}, or no longer")
    return _session(state)


async def update_session(call: Call) -> Answer:
    """Change values of a session."""
    if taken := sorted(_ARGUMENTS.intersection(call.body)):
        raise BadRequest(f"a session's {taken[0]!r} cannot be changed")
    state = await call.workspace.sessions.update_session(
        call.path["session"],
        user_id=call.caller.owner(_ADMIN),
        expected_version=call.expected_version,
        op_id=call.operation,
        **call.body,
    )
    return _session(state)


async def delete_session(call: Call) -> Answer:
    """End a session."""
    session = call.path["session"]
    if not await call.workspace.sessions.delete_session(session, user_id=call.caller.owner(_ADMIN)):
        raise NotFound(f"there is no session {session!r}, or no longer")
    return Answer()


async def add_message(call: Call) -> Answer:
    """Add a message to a session."""
    body: NewMessage = call.body
    message = await call.workspace.sessions.add_message(
        call.path["session"],
        body.role,
        body.content,
        message_id=body.id or call.operation,
        user_id=call.caller.owner(_ADMIN),
    )
    return Answer(message, 201)


async def extend_session(call: Call) -> Answer:
    """Let a session end later."""
    body: Extension = call.body
    expires_at = await call.workspace.sessions.extend_session(
        call.path["session"],
        body.extra_seconds,
        user_id=call.caller.owner(_ADMIN),
        op_id=call.operation,
    )
    return Answer(SessionEnd(expires_at))


_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_EXAMPLE_MESSAGE = Message(id="m1", seq=1, role="user", content="Write to Ada.", time=_NOW)
_EXAMPLE = WorkingMemoryState(
    session_id="s1",
    workspace_id="w1",
    user_id="ada",
    version=3,
    created_at=_NOW,
    expires_at=_NOW.replace(hour=13),
    ends_at=_NOW.replace(day=2),
    idle_ttl_s=3_600,
    window=50,
    message_count=1,
    recent_messages=[_EXAMPLE_MESSAGE],
    current_agent="writer",
)
_ONE = "/v1/sessions/{session}"

SESSIONS = (
    Operation(
        method="GET",
        path="/v1/sessions",
        run=list_sessions,
        summary="List sessions, the latest first",
        query=SessionQuery,
        result=Page[SessionSummary],
    ),
    Operation(
        method="POST",
        path="/v1/sessions",
        run=create_session,
        summary="Begin a session",
        description="A session that is there stays as it is and is returned.",
        scope=_WRITE,
        body=NewSession,
        result=WorkingMemoryState,
        example=NewSession(id="s1", fields={"current_agent": "writer"}),
        answer_example=_EXAMPLE,
    ),
    Operation(
        method="GET",
        path=_ONE,
        run=get_session,
        summary="Read a session",
        description="With `touch` reading is use, which needs the right to change the session.",
        query=SessionReading,
        result=WorkingMemoryState,
        versioned=True,
        errors=(404,),
        answer_example=_EXAMPLE,
    ),
    Operation(
        method="PATCH",
        path=_ONE,
        run=update_session,
        summary="Change values of a session",
        description=(
            "Each value is replaced as a whole, `null` clears one, and values that are not "
            "named stay, whoever writes them meanwhile. With `If-Match` nothing at all may "
            "have changed since that version."
        ),
        scope=_WRITE,
        body=dict[str, Any],
        result=WorkingMemoryState,
        versioned=True,
        errors=(404,),
        example={"current_task": "Write to Ada", "current_agent": None},
        answer_example=_EXAMPLE,
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        run=delete_session,
        summary="End a session",
        scope=_WRITE,
        status=204,
        errors=(404,),
    ),
    Operation(
        method="POST",
        path=_ONE + "/messages",
        run=add_message,
        summary="Add a message",
        scope=_WRITE,
        body=NewMessage,
        result=Message,
        status=201,
        errors=(404,),
        example=NewMessage(role="user", content="Write to Ada.", id="m1"),
        answer_example=_EXAMPLE_MESSAGE,
    ),
    Operation(
        method="POST",
        path=_ONE + "/extend",
        run=extend_session,
        summary="Let a session end later",
        description="Never later than its longest life allows.",
        scope=_WRITE,
        body=Extension,
        result=SessionEnd,
        errors=(404,),
        example=Extension(),
        answer_example=SessionEnd(_NOW.replace(hour=14)),
    ),
)
