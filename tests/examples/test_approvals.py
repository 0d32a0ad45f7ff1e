"""The examples of approval gates run, and print what they say they print."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("approvals_ag_ui", "approvals_langgraph", "approvals_openai_agents")


@pytest.mark.parametrize("name", NAMES)
def test_an_example_prints_what_it_says(valkey, name):
    """On a server of its own, twice: ids of one run are none of the next."""
    text = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    told = (ast.get_docstring(ast.parse(text), clean=True) or "").split(":\n\n")[1]
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", f"examples.{name}"],
            check=False,
            cwd=ROOT,
            env={**os.environ, "FANWIRE_REDIS_URL": valkey.url},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stderr == ""
        assert done.returncode == 0
        assert done.stdout == textwrap.dedent(told).strip() + "\n"
