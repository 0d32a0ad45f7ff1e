"""The example of the semantic cache prints what it says it prints."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_prints_what_it_says(valkey):
    """Twice: what one run kept does not change the next."""
    text = (ROOT / "examples" / "semantic_cache.py").read_text(encoding="utf-8")
    told = (ast.get_docstring(ast.parse(text), clean=True) or "").split("It prints:\n\n")[1]
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "examples.semantic_cache"],
            check=False,
            cwd=ROOT,
            env={**os.environ, "FANWIRE_REDIS_URL": valkey.url},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == textwrap.dedent(told).strip() + "\n"
