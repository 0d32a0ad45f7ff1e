"""The README's program: complete, and it prints what stands below it."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from .processes import HubProcess

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


async def test_the_program_prints_what_the_readme_says(hub: HubProcess, tmp_path: Path) -> None:
    """The first Python block, run as it stands but for the address, against a fresh hub."""
    program, output = re.findall(r"```python\n(.*?)```\n+```console\n(.*?)```", README, re.DOTALL)[
        0
    ]
    file = tmp_path / "program.py"
    file.write_text(program.replace("http://127.0.0.1:8000", hub.url), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, file, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, stdout=PIPE, stderr=PIPE
    )
    printed, complaints = await process.communicate()
    assert complaints.decode() == ""
    assert printed.decode() == output
