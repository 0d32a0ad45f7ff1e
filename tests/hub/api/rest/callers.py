"""Who calls the REST operations of a test."""

from __future__ import annotations

import httpx

from tests.hub.serving import API_KEY, Served, token

__all__ = ["application", "caller"]


def caller(
    hub: Served,
    user: str = "ann",
    *,
    workspaces: tuple[str, ...] = ("w1",),
    scopes: tuple[str, ...] = (),
) -> httpx.AsyncClient:
    """Return a client with a token; close it."""
    proof = token(user, workspaces=list(workspaces), scopes=list(scopes))
    return hub.client(headers={"Authorization": f"Bearer {proof}"})


def application(hub: Served) -> httpx.AsyncClient:
    """Return a client with the API key, in workspace w1; close it."""
    return hub.client(headers={"X-API-Key": API_KEY}, params={"workspace": "w1"})
