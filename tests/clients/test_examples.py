"""The examples run, and print what they say they print."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from clients import Delivery, Subscriber
from tests.hub.cli.process import ROOT, real_hub


async def start(*arguments: str, **environ: str) -> asyncio.subprocess.Process:
    """Run Python on an example."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_publish_and_subscribe(tmp_path: Path) -> None:
    """The first example prints the line in its docstring."""
    example = ROOT / "examples" / "01_publish_and_subscribe.py"
    promised = example.read_text().split("Prints:\n\n    ")[1].split("\n")[0]
    async with real_hub(tmp_path, "--insecure") as url:
        process = await start(str(example), FANWIRE_URL=url)
        out, errors = await process.communicate()
    assert (out.decode(), errors) == (promised + "\n", b"")


async def test_the_demonstration_lives_and_ends(tmp_path: Path) -> None:
    """It prints its address once, events flow, a signal ends both processes with status 0."""
    process = await start(
        "-m", "examples.demo", "--port", "0", "--data-dir", str(tmp_path / "data")
    )
    try:
        assert process.stdout is not None
        said = (await process.stdout.readline()).decode()
        assert said.startswith("Fanwire is live at http://127.0.0.1:")
        url = said.split(" ")[4].rstrip("/")
        async with Subscriber(url) as hub, hub.subscribe("jobs:acme") as jobs:
            item = await anext(jobs)
            assert isinstance(item, Delivery)
            assert item.event is not None
        process.send_signal(signal.SIGTERM)
        out, _ = await process.communicate()
        assert (process.returncode, out) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_control_c_while_the_demonstration_starts(tmp_path: Path) -> None:
    """Status 0, and no traceback of any of the processes that only begin."""
    data = tmp_path / "data"
    process = await start("-m", "examples.demo", "--port", "0", "--data-dir", str(data))
    while not data.exists():  # noqa: ASYNC110 - the first thing that is seen of the hub
        await asyncio.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in errors


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells them")
async def test_the_demonstration_leaves_nothing_behind_when_it_is_killed(tmp_path: Path) -> None:
    """The hub and the agent end too: they let go of the standard error they share with it."""
    process = await start(
        "-m", "examples.demo", "--port", "0", "--data-dir", str(tmp_path / "data")
    )
    assert process.stdout is not None
    said = (await process.stdout.readline()).decode()
    url = said.split(" ")[4].rstrip("/")
    async with Subscriber(url) as hub, hub.subscribe("jobs:acme") as jobs:
        await anext(jobs)
    process.kill()
    await process.communicate()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))


async def test_the_demonstration_refuses_a_port_in_use(tmp_path: Path) -> None:
    """The hub's own sentence and status, and nothing is left running."""
    async with real_hub(tmp_path / "one", "--insecure") as url:
        port = url.rpartition(":")[2]
        process = await start(
            "-m", "examples.demo", "--port", port, "--data-dir", str(tmp_path / "two")
        )
        out, errors = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert f"port {port} of 127.0.0.1 is in use" in errors.decode()
