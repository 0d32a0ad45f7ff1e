"""The browser module, tested in Node by its own test runner."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_browser_module() -> None:
    """Every test in ``tests/js`` passes; its report is shown when one does not."""
    files = sorted(str(path) for path in (ROOT / "tests" / "js").glob("*.test.mjs"))
    assert files
    done = subprocess.run(
        ["node", "--test", *files], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
