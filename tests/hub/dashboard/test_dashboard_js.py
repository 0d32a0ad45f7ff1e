"""The page's decisions, tested where JavaScript runs: `node --test` over `tests/js/dashboard`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_TESTS = sorted((_ROOT / "tests" / "js" / "dashboard").glob("*.test.mjs"))
_PAGE = _ROOT / "hub" / "dashboard"
#: Modules that draw, and those that put the page together: the browser tests are for them.
_DRAWING = {"dom.js", "main.js"}


@pytest.fixture
def node() -> str:
    """Skip without Node; on CI that is a failure."""
    found = shutil.which("node")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI runs every test, and this one needs Node", pytrace=False)
        pytest.skip("there is no `node` here; the page's modules were not tested")
    return found


def test_the_modules_pass_their_tests_in_node(node: str) -> None:
    """Every test in `tests/js/dashboard` passes, and none was skipped."""
    command = [node, "--test", "--test-reporter=tap", *map(str, _TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    counts = dict(re.findall(r"^# (tests|pass|skipped|todo) (\d+)$", done.stdout, re.MULTILINE))
    assert int(counts["tests"]) == int(counts["pass"]) > len(_TESTS)


def test_every_module_that_decides_has_tests() -> None:
    """A module without a DOM has a test file of its name."""
    deciding = {
        path.stem
        for path in _PAGE.glob("*.js")
        if path.name not in _DRAWING and not path.stem.endswith("_view")
    }
    assert {path.name.removesuffix(".test.mjs") for path in _TESTS} == deciding


@pytest.mark.parametrize("path", sorted(_PAGE.iterdir()), ids=lambda path: path.name)
def test_the_page_has_nothing_inline_and_nothing_foreign(path: Path) -> None:
    """No markup is made from text, no code or style is inline, nothing is loaded from elsewhere."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
    assert not re.search(r"(?:src|href|from|import|url)\s*[=(]?\s*[\"'(](?:https?:)?//", text)
    if path.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
