"""State on Redis, where every change of state is an event."""

from .door import Services

__all__ = ["Services"]
