"""Ids that follow from what a framework knows, so that whoever asks again finds its gate."""

from __future__ import annotations

import hashlib

from channels.canonical import canonical_json

__all__ = ["derived_id"]


def derived_id(kind: str, *parts: str) -> str:
    """Return an id that is the same for the same ``parts`` and for no others."""
    return f"{kind}-{hashlib.sha256(canonical_json([kind, *parts])).hexdigest()[:48]}"
