"""Whether a server is set up so that our promises hold on it; for start-up and readiness."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from channels.errors import StoreRefused

from .port import Store

__all__ = ["Finding", "inspect_server", "read_info", "weaknesses"]

#: The first Redis with all that the scripts and the connection use (Valkey began with 7.2).
_OLDEST = (6, 2)


class Finding(msgspec.Struct, frozen=True):
    """One setting of the server under which a promise does not hold."""

    setting: str
    expected: str
    found: str
    why: str

    def __str__(self) -> str:
        return f"expected {self.setting} {self.expected}, got {self.found}: {self.why}"


async def inspect_server(store: Store) -> list[Finding]:
    """Return what is wrong with the server behind ``store``; nothing if all is well.

    A server that does not tell (managed ones hide INFO's sections) is taken to be right.
    Raises ``StoreError`` when it cannot be asked.
    """
    return weaknesses(await read_info(store))


async def read_info(store: Store) -> dict[str, str]:
    """Return what the server tells in INFO; nothing where it does not allow to ask.

    Raises ``StoreError`` when it cannot be asked.
    """
    try:
        return _fields(await store.execute("INFO"))
    except StoreRefused:
        return {}


def weaknesses(told: Mapping[str, str]) -> list[Finding]:
    """Return what is wrong with a server that told ``told`` in INFO."""
    findings = []
    version = told.get("redis_version", "")
    if version and _version(version) < _OLDEST:
        findings.append(
            Finding("version", "6.2 or newer", version, "scripts need commands it lacks")
        )
    policy = told.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        findings.append(
            Finding(
                "maxmemory-policy",
                "noeviction",
                policy,
                "it would delete event logs and sessions without a word",
            )
        )
    if told.get("aof_enabled") == "0":
        findings.append(
            Finding("appendonly", "yes", "no", "a crash of the server loses what it acknowledged")
        )
    return findings


def _fields(info: object) -> dict[str, str]:
    """Read INFO's lines."""
    if not isinstance(info, bytes):
        return {}
    lines = info.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and line[0] != "#")


def _version(text: str) -> tuple[int, ...]:
    """Read the numbers of a version; what is no number counts as the newest."""
    parts = text.split(".")[:2]
    return tuple(int(part) if part.isdecimal() else 2**31 for part in parts)
