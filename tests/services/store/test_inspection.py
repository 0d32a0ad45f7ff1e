"""What is said about a server that is not set up for our promises."""

from __future__ import annotations

import pytest

from channels.errors import StoreRefused
from services.store.inspection import inspect_server
from services.store.tcp import TcpStore

from .conftest import QUICK


class Server:
    """A store of which only INFO is asked."""

    def __init__(self, info: bytes | Exception) -> None:
        self.info = info

    async def execute(self, *command: object, timeout_s: float | None = None) -> bytes:
        """Answer INFO."""
        assert command == ("INFO",)
        if isinstance(self.info, Exception):
            raise self.info
        return self.info


@pytest.mark.parametrize(
    ("info", "settings"),
    [
        (b"redis_version:7.2.4\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n", []),
        (b"# Server\r\nredis_version:6.2.0\r\n", []),
        (b"redis_version:6.0.16\r\n", ["version"]),
        (b"redis_version:10.0.0\r\n", []),
        (b"redis_version:unstable\r\n", []),
        (b"maxmemory_policy:allkeys-lru\r\n", ["maxmemory-policy"]),
        (b"aof_enabled:0\r\n", ["appendonly"]),
        (b"", []),
        (StoreRefused("NOPERM no INFO for you"), []),
    ],
)
async def test_findings(info: bytes | Exception, settings: list[str]) -> None:
    """Each wrong setting is one finding; what the server does not tell is none."""
    findings = await inspect_server(Server(info))
    assert [finding.setting for finding in findings] == settings


async def test_a_real_server(start_server) -> None:
    """A server with eviction and without a log is found out, one without faults is not."""
    bad = await start_server("--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb")
    async with TcpStore(bad.url, QUICK) as store:
        texts = [str(finding) for finding in await inspect_server(store)]
        assert "maxmemory-policy noeviction, got allkeys-lru" in texts[0]
        assert "appendonly yes, got no" in texts[1]
    good = await start_server("--appendonly", "yes")
    async with TcpStore(good.url, QUICK) as store:
        assert await inspect_server(store) == []
