"""The services of one workspace: a view that names the tenant once.

    sessions = services.for_workspace("w1").sessions
    await sessions.get_session("s1")

The workspace is part of every key, so that a call cannot reach another tenant by accident.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.approvals import Approvals
from services.caching.cache_manager import CacheManager
from services.caching.llm_cache import LlmCache
from services.context import Context
from services.onboarding import Onboarding
from services.preferences import Preferences
from services.session_manager import SessionManager

if TYPE_CHECKING:
    from services.semantic.cache import Embed, SemanticCache

__all__ = ["Workspace"]


class Workspace:
    """What belongs to the workspace called ``id``."""

    __slots__ = ("context", "id")

    def __init__(self, context: Context, id: str) -> None:
        self.context = context
        self.id = id

    @property
    def approvals(self) -> Approvals:
        """Actions that wait for a person's word."""
        return Approvals(self.context, self.id)

    @property
    def cache(self) -> CacheManager:
        """What is dear to load, kept near: the foundation, the profiles, anything by a key."""
        return self.context.caches.of_workspace(self.id)

    @property
    def llm_cache(self) -> LlmCache:
        """Answers of language models to requests that are the very same."""
        return self.context.caches.llm(self.id)

    @property
    def sessions(self) -> SessionManager:
        """Working memory of agent conversations."""
        return SessionManager(self.context, self.id)

    @property
    def onboarding(self) -> Onboarding:
        """The onboarding of the workspace."""
        return Onboarding(self.context, self.id)

    @property
    def preferences(self) -> Preferences[dict[str, Any]]:
        """Preferences of the workspace and of its users."""
        return Preferences(self.context, self.id, shape=dict)

    def semantic_cache(self, *, embed: Embed, **options: Any) -> SemanticCache:  # noqa: ANN401
        """Answers to prompts that mean the same; the options are those of ``SemanticCache``."""
        # NumPy takes memory and a moment: only processes that use it load it.
        from services.semantic.cache import SemanticCache  # noqa: PLC0415

        return SemanticCache(self.context, self.id, embed=embed, **options)
