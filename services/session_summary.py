"""Sessions as lists show them."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import msgspec

from services.context import Context
from services.page import Page
from services.session_list import newest
from services.store.script import load_script
from services.working_memory import from_ms

__all__ = ["SessionSummary", "list_summaries"]


class SessionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A session as lists show it."""

    session_id: str
    workspace_id: str
    user_id: str
    version: int
    created_at: datetime
    expires_at: datetime
    ends_at: datetime
    message_count: int


async def list_summaries(
    context: Context, workspace: str, user: str | None, *, limit: int, cursor: str
) -> Page[SessionSummary]:
    """Return a page of a workspace's sessions, or of one user's there, the newest first.

    Raises:
        BadRequest: ``limit`` or ``cursor`` cannot be.
        StoreError: Redis could not be asked.
    """
    keys = context.keys
    key = keys.sessions(workspace)
    if user is not None:
        key = keys.sessions_of(workspace, user)
    page = await newest(context.store, key, limit=limit, cursor=cursor)
    if not page.items:
        return Page([])
    hashes = [keys.session(workspace, id_) for id_ in page.items]
    replies = await context.store.pipeline(
        [("HMGET", name, "u", "v", "c", "x", "e", "q") for name in hashes]
    )
    now_ms = context.clock.now_ms()
    items: list[SessionSummary] = []
    for id_, name, reply in zip(page.items, hashes, replies, strict=True):
        if isinstance(reply, Exception):
            raise reply
        owner, *rest = cast("list[bytes | None]", reply)
        if owner is None:
            # Ended since, or its end was never told and its keys are gone.
            await context.store.run(load_script("session_forget"), [name, key], [id_])
            continue
        version, began, expires, ends, count = (int(cast(bytes, part)) for part in rest)
        # Its id may have begun anew meanwhile, as another user's.
        if expires > now_ms and user in (None, owner.decode()):
            items.append(
                SessionSummary(
                    session_id=id_,
                    workspace_id=workspace,
                    user_id=owner.decode(),
                    version=version,
                    created_at=from_ms(began),
                    expires_at=from_ms(expires),
                    ends_at=from_ms(ends),
                    message_count=count,
                )
            )
    return Page(items, page.next)
