"""What outlives Redis: people, workspaces, foundations, and what was used. SQL."""

from .database import Database

__all__ = ["Database"]
