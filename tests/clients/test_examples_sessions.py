"""The example of sessions runs, and prints what it says it prints."""

from __future__ import annotations

from tests.clients.test_examples import start
from tests.hub.cli.process import ROOT
from tests.servers import ValkeyServer


async def test_sessions(valkey: ValkeyServer) -> None:
    """Twice: it begins with what the first run left behind."""
    example = ROOT / "examples" / "sessions.py"
    block = example.read_text().split("Prints:\n\n")[1].split('"""')[0]
    promised = "".join(f"{line.strip()}\n" for line in block.splitlines() if line)
    for _ in range(2):
        process = await start(str(example), FANWIRE_REDIS_URL=valkey.url)
        out, errors = await process.communicate()
        assert (out.decode(), errors) == (promised, b"")
