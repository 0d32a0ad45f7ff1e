"""Sessions as the document that Fanwire began from has them: the baseline of ``bench_sessions``.

Written anew from its text, with the same calls in the same order: one JSON value a session,
read, changed and written back, the last ten messages kept. The client is redis-py's asyncio
client over TCP instead of an HTTP client, which can only make it faster.
"""

from __future__ import annotations

import json
from typing import Any

import redis.asyncio as redis_py

__all__ = ["SeedSessions"]

_TTL_S = 3600
_KEPT = 10


class SeedSessions:
    """Create, get, update and add a message, without anything between read and write."""

    def __init__(self, redis: redis_py.Redis, *, kept: int | None = _KEPT) -> None:
        """Make it; with ``kept`` None it keeps all, so that losses can be counted."""
        self._redis = redis
        self._kept = kept

    async def create_session(self, session_id: str, workspace_id: str, user_id: str) -> None:
        """Write an empty session over whatever is there."""
        await self._save(
            {
                "session_id": session_id,
                "workspace_id": workspace_id,
                "user_id": user_id,
                "current_agent": None,
                "current_task": None,
                "recent_messages": [],
                "foundation_summary": None,
                "active_icps": [],
                "pending_approvals": [],
                "last_output": None,
            }
        )

    async def get_session(self, session_id: str) -> dict[str, Any] | None:
        """Read a session."""
        text = await self._redis.get(f"wm:{session_id}")
        return json.loads(text) if text else None

    async def update_session(self, session_id: str, **updates: object) -> dict[str, Any] | None:
        """Read, set, write back."""
        state = await self.get_session(session_id)
        if state is None:
            return None
        state.update({name: value for name, value in updates.items() if name in state})
        await self._save(state)
        return state

    async def add_message(self, session_id: str, role: str, content: str) -> None:
        """Read, append, write back; nothing where there is no session."""
        state = await self.get_session(session_id)
        if state:
            state["recent_messages"].append({"role": role, "content": content})
            await self._save(state)

    async def _save(self, state: dict[str, Any]) -> None:
        if self._kept is not None:
            state["recent_messages"] = state["recent_messages"][-self._kept :]
        await self._redis.set(f"wm:{state['session_id']}", json.dumps(state), ex=_TTL_S)
