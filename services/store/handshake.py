"""The first words on a connection: who we are, which protocol, which database.

Ends well only on a server that can serve: one that is loading, or that is a replica (a
failover has just made it one, or the address is wrong), is as good as away.
"""

from __future__ import annotations

from typing import Protocol

from channels.errors import StoreError, StoreRefused, StoreUnavailable

from .endpoint import Endpoint
from .port import Argument, Reply

__all__ = ["UNFIT", "Ask", "greet", "unfit"]

#: The server stands and cannot serve: look again where the master is.
UNFIT = frozenset({"LOADING", "MASTERDOWN", "READONLY"})


class Ask(Protocol):
    """Sends one command and returns its reply."""

    async def __call__(self, *command: Argument) -> Reply:
        """Raise ``StoreRefused`` for an error reply, another ``StoreError`` for none."""


def unfit(refused: StoreRefused) -> bool:
    """Whether the refusal says that this server is not the one to talk to."""
    return refused.prefix in UNFIT or (
        # Redis 6.2 wraps what a script ran into: "ERR Error running script ...: -READONLY ..."
        refused.prefix == "ERR" and "-READONLY " in str(refused)
    )


async def greet(ask: Ask, endpoint: Endpoint) -> None:
    """Do the handshake; on return the connection is ready for commands.

    HELLO first; a server (or proxy) without it gets AUTH and RESP2. Raises
    ``StoreRefused`` with the server's words when it does not let us in.
    """
    try:
        role = await _enter(ask, endpoint)
        if endpoint.db:
            await ask("SELECT", endpoint.db)
        # HELLO is answered while loading; PING is not.
        await ask("PING")
    except StoreRefused as refused:
        if unfit(refused):
            raise StoreUnavailable(f"Redis at {endpoint.where}: {refused}") from refused
        raise
    except StoreError as error:
        # Nothing but greetings was sent, so the outcome is known: nothing happened.
        raise StoreUnavailable(f"Redis at {endpoint.where}: no greeting ({error})") from error
    if role not in {None, b"master"}:
        raise StoreUnavailable(
            f"Redis at {endpoint.where}: expected a master, got a {role.decode()}"
            if isinstance(role, bytes)
            else f"Redis at {endpoint.where}: expected a master, got {role!r}"
        )


async def _enter(ask: Ask, endpoint: Endpoint) -> Reply:
    """Say who we are; return the server's role if it tells."""
    user = endpoint.username or "default"
    hello: list[Argument] = ["HELLO", endpoint.protocol]
    if endpoint.password is not None:
        hello += ["AUTH", user, endpoint.password]
    if endpoint.client_name is not None:
        hello += ["SETNAME", endpoint.client_name]
    try:
        return _role(await ask(*hello))
    except StoreRefused as refused:
        unknown = refused.prefix == "ERR" and "unknown command" in str(refused).lower()
        if not unknown and refused.prefix != "NOPROTO":
            raise
    if endpoint.password is not None:
        named = () if endpoint.username is None else (endpoint.username,)
        await ask("AUTH", *named, endpoint.password)
    if endpoint.client_name is not None:
        await ask("CLIENT", "SETNAME", endpoint.client_name)
    return None


def _role(hello: Reply) -> Reply:
    """Find ``role`` in HELLO's answer: a map in RESP3, a flat list in RESP2."""
    if isinstance(hello, dict):
        return hello.get(b"role")
    if isinstance(hello, list) and b"role" in hello[::2]:
        return hello[hello.index(b"role") + 1]
    return None
