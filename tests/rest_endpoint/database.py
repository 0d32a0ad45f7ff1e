"""The database behind the endpoint: which commands there are, what Lua may do, what is billed."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from .backend import Backend, ServerError
from .scripts import Wrapped, wrap

__all__ = ["READ_ONLY", "Answer", "Database"]

#: Not to be had over REST: they need a connection of their own, or the service keeps them.
_REFUSED = {
    "AUTH",
    "ASKING",
    "BGREWRITEAOF",
    "BGSAVE",
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "CLUSTER",
    "COMMAND",
    "CONFIG",
    "DEBUG",
    "DISCARD",
    "EXEC",
    "FAILOVER",
    "HELLO",
    "LATENCY",
    "LOLWUT",
    "MIGRATE",
    "MODULE",
    "MONITOR",
    "MOVE",
    "MULTI",
    "OBJECT",
    "PSUBSCRIBE",
    "PSYNC",
    "PUNSUBSCRIBE",
    "QUIT",
    "READONLY",
    "READWRITE",
    "REPLCONF",
    "REPLICAOF",
    "RESET",
    "SAVE",
    "SELECT",
    "SHUTDOWN",
    "SLAVEOF",
    "SLOWLOG",
    "SPUBLISH",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "SUNSUBSCRIBE",
    "SWAPDB",
    "SYNC",
    "UNSUBSCRIBE",
    "UNWATCH",
    "WAIT",
    "WAITAOF",
    "WATCH",
}
#: What the read-only token may do, of what the tests use.
READ_ONLY = {
    "EXISTS",
    "GET",
    "HGET",
    "HGETALL",
    "HMGET",
    "LRANGE",
    "MGET",
    "PING",
    "STRLEN",
    "TTL",
    "TYPE",
    "ZRANGE",
}


class Answer(Exception):
    """An answer that ends the request where it is raised."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class Database:
    """Commands as Upstash runs them. Counters may be read and set from another thread."""

    def __init__(self, url: str) -> None:
        self._backend = Backend(url)
        #: Commands billed, those inside scripts included.
        self.billed = 0
        #: Commands by name, without those inside scripts.
        self.commands: Counter[str] = Counter()
        #: Scripts that ran under the lock of the whole database.
        self.global_locks = 0
        self._scripts: dict[str, Wrapped] = {}
        self._positions: dict[str, tuple[int, int, int]] = {}

    async def close(self) -> None:
        """End its connections."""
        await self._backend.close()

    async def multi(self, commands: list[list[Any]]) -> list[Any]:
        """Run a transaction; errors are in their places, ``Answer`` if it is discarded."""
        self.billed += len(commands)
        *queued, result = await self._backend.run(["MULTI"], *commands, ["EXEC"])
        if isinstance(result, ServerError):
            first = next(reply for reply in queued if isinstance(reply, ServerError))
            raise Answer(400, str(first))
        return [_failed(one) if isinstance(one, ServerError) else one for one in result]

    def check(self, command: list[Any], allowed: set[str] | None) -> str:
        """Return the command's name in capitals; ``Answer`` if it cannot be had."""
        name = _name(command)
        if name in _REFUSED:
            raise Answer(400, f"ERR Command is not available: '{name}'. See the documentation")
        if "BLOCK" in map(_word, command[1:]) and name in {"XREAD", "XREADGROUP"}:
            raise Answer(400, f"ERR {name} with BLOCK is not available")
        if allowed is not None and name not in allowed:
            raise Answer(400, f"NOPERM this user has no permissions to run the '{name}' command")
        return name

    async def run(self, command: list[Any], allowed: set[str] | None) -> Any:
        """Run one command; an error reply is returned or raised as ``Answer``."""
        name = self.check(command, allowed)
        self.commands[name] += 1
        if name in {"EVAL", "EVALSHA"}:
            return await self._run_script(name, command)
        if name == "SCRIPT":
            return await self._script(command)
        self.billed += 1
        (result,) = await self._backend.run(command)
        return _failed(result) if isinstance(result, ServerError) else result

    # -- Lua -------------------------------------------------------------------------------

    async def _run_script(self, name: str, command: list[Any]) -> Any:
        self.billed += 1
        if len(command) < 3:
            raise Answer(400, f"ERR wrong number of arguments for '{name.lower()}' command")
        script = await self._known(command[1]) if name == "EVALSHA" else await self._add(command[1])
        if not script.locking:
            self.global_locks += 1
        rest = command[2:]
        (result,) = await self._backend.run(["EVALSHA", script.sha, *rest])
        if isinstance(result, ServerError) and str(result).startswith("NOSCRIPT"):
            (result,) = await self._backend.run(["EVAL", script.text, *rest])
        if isinstance(result, ServerError):
            raise Answer(400, str(result))
        calls, *values = result
        self.billed += calls
        value = values[0] if values else None
        if isinstance(value, ServerError):
            raise Answer(400, str(value))
        return value

    async def _known(self, sha: Any) -> Wrapped:
        script = self._scripts.get(_word(sha).lower())
        if script is None:
            raise Answer(400, "NOSCRIPT No matching script.")
        return script

    async def _add(self, text: Any) -> Wrapped:
        given = text if isinstance(text, str) else bytes(text).decode()
        try:
            script = wrap(given, await self._key_positions())
        except ValueError as error:
            raise Answer(400, str(error)) from None
        self._scripts[hashlib.sha1(given.encode()).hexdigest()] = script
        return script

    async def _script(self, command: list[Any]) -> Any:
        self.billed += 1
        match [_word(part) for part in command[1:2]]:
            case ["LOAD"]:
                await self._add(command[2])
                return hashlib.sha1(str(command[2]).encode()).hexdigest().encode()
            case ["EXISTS"]:
                return [int(_word(sha).lower() in self._scripts) for sha in command[2:]]
            case ["FLUSH"]:
                self.forget_scripts()
                return b"OK"
        raise Answer(400, "ERR unknown subcommand of SCRIPT")

    def forget_scripts(self) -> None:
        """Have no script cached."""
        self._scripts.clear()

    async def _key_positions(self) -> dict[str, tuple[int, int, int]]:
        if not self._positions:
            (table,) = await self._backend.run(["COMMAND"])
            for name, _arity, flags, first, last, step, *_ in table:
                if b"movablekeys" not in flags:
                    self._positions[name.decode().upper()] = (first, last, step)
        return self._positions


def _word(part: Any) -> str:
    return (part.decode("latin-1") if isinstance(part, bytes) else str(part)).upper()


def _name(command: list[Any]) -> str:
    return _word(command[0])


def _failed(error: ServerError) -> Answer:
    return Answer(400, str(error))
