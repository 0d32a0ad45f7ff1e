"""Functions whose results are cached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from channels.canonical import digest

from .settings import CachePolicy

if TYPE_CHECKING:
    from .cache_manager import CacheManager

__all__ = ["Cached", "KeyOf"]

T = TypeVar("T")

#: Makes the key of a call out of its arguments.
KeyOf: TypeAlias = Callable[..., str]


class Cached(Generic[T]):
    """A coroutine function with a cache before it; called as the function is."""

    def __init__(
        self,
        cache: CacheManager,
        function: Callable[..., Awaitable[T]],
        *,
        key: KeyOf | None,
        type: Any,  # noqa: A002, ANN401 - any type that msgspec reads
        tags: tuple[str, ...],
        policy: CachePolicy,
    ) -> None:
        self._cache = cache
        self._function = function
        self._key = key
        self._type = type
        self._tags = tags
        self._policy = policy
        update_wrapper(self, function)

    async def __call__(self, *args: Any, **kwargs: Any) -> T:  # noqa: ANN401
        """Return the function's result, from the cache where it is there."""
        found: T = await self._cache.get_or_set(
            self.key(*args, **kwargs),
            lambda: self._function(*args, **kwargs),
            type=self._type,
            tags=self._tags,
            policy=self._policy,
        )
        return found

    def key(self, *args: Any, **kwargs: Any) -> str:  # noqa: ANN401
        """Return the key of a call with these arguments.

        Raises:
            BadRequest: JSON cannot hold them, and no ``key`` was given.
        """
        if self._key is not None:
            return self._key(*args, **kwargs)
        name = f"{self._function.__module__}.{self._function.__qualname__}"
        return f"fn:{digest([name, args, kwargs])}"

    async def invalidate(self, *args: Any, **kwargs: Any) -> int:  # noqa: ANN401
        """Forget the result of a call with these arguments; see ``CacheManager.invalidate``."""
        return await self._cache.delete(self.key(*args, **kwargs))
