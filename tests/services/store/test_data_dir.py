"""The data directory: one holder at a time, secrets kept, locks that end with their holder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from channels.errors import SettingsError
from services.store import data_dir as data_dir_module
from services.store.data_dir import DataDir, ServerRecord


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDir]:
    """A directory that is made and held."""
    directory = DataDir(tmp_path / "data")
    directory.claim()
    yield directory
    directory.release()


def test_it_is_made_for_its_owner_alone(directory: DataDir) -> None:
    """A directory that was missing is made with mode 0700."""
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700


def test_it_is_held_until_it_is_released(directory: DataDir) -> None:
    """A second holder is refused while the first one holds it, and taken afterwards."""
    second = DataDir(directory.path)
    with pytest.raises(SettingsError, match=f"process id {os.getpid()}:"):
        second.claim()
    directory.release()
    second.claim()
    second.release()


def test_the_password_is_made_once(directory: DataDir) -> None:
    """Every start uses the same password, so that a left-over server can be reached."""
    first = directory.password()
    assert len(first) >= 40
    assert first == DataDir(directory.path).password()
    assert stat.S_IMODE((directory.path / "password").stat().st_mode) == 0o600


def test_two_directories_have_two_passwords(directory: DataDir, tmp_path: Path) -> None:
    """A password is worth nothing elsewhere."""
    other = DataDir(tmp_path / "other")
    other.claim()
    assert directory.password() != other.password()
    other.release()


def test_an_unreadable_password_is_told(directory: DataDir) -> None:
    """A password file that is none is not silently replaced: a server may be using it."""
    (directory.path / "password").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be used"):
        directory.password()


def test_a_file_is_replaced_at_once(directory: DataDir) -> None:
    """A reader sees the old or the new text, and a half-written one of a crash is no hindrance."""
    (directory.path / "redis.url.new").write_text("half")
    directory.publish_url("unix://one")
    directory.publish_url("unix://two")
    assert (directory.path / "redis.url").read_text() == "unix://two\n"
    directory.withdraw_url()
    directory.withdraw_url()
    assert not (directory.path / "redis.url").exists()


def test_the_server_lock_lasts_as_long_as_any_process_holds_it(directory: DataDir) -> None:
    """The lock lives in the open file: a copy of it keeps it when the first one is closed."""
    held = directory.try_server_lock()
    inherited = os.dup(held)
    os.close(held)
    assert directory.try_server_lock() is None
    os.close(inherited)
    free = directory.try_server_lock()
    assert free is not None
    os.close(free)


def test_the_server_is_recorded_beside_its_lock(directory: DataDir) -> None:
    """Who holds the server lock can be read without holding it; garbage is nothing."""
    assert directory.recorded_server() is None
    fd = directory.try_server_lock()
    directory.record_server(fd, ServerRecord("unix:///a/much/longer/address", 12345))
    directory.record_server(fd, ServerRecord("unix:///a", 7))
    assert ServerRecord("unix:///a", 7) == directory.recorded_server()
    os.close(fd)
    (directory.path / "server.lock").write_bytes(b"{")
    assert directory.recorded_server() is None


def test_the_log_is_bounded(directory: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long log is started anew; a short one is continued."""
    monkeypatch.setattr(data_dir_module, "_LOG_LIMIT_BYTES", 8)
    for said in (b"one\n", b"two, and more\n", b"three\n"):
        fd = directory.open_log()
        os.write(fd, said)
        os.close(fd)
    assert directory.log_tail() == "three"
    assert "(no log" in DataDir(directory.path / "none").log_tail()
