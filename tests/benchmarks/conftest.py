"""The compiled programs, once for all tests."""

from __future__ import annotations

import os
import shutil

import pytest

from benchmarks.harness.programs import program


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    """Compile; without gcc these tests are skipped, except on CI."""
    if shutil.which("gcc") is None:
        if os.environ.get("CI"):
            pytest.fail("CI runs every test, and the load client needs gcc", pytrace=False)
        pytest.skip("the load client needs gcc")
    program("load")
    program("limit")
