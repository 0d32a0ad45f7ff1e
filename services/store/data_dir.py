"""The embedded server's data directory: who holds it, its secrets and where its server is.

    owner.lock      flock held by the hub; its pid
    server.lock     flock held by the server process itself; its URL and pid
    redis.url       where the running server is, for other processes of this machine
    password        made once, kept for as long as the data
    valkey.conf, valkey.log, valkey.sock, appendonlydir/    the server's own

Both locks belong to open files, so the kernel drops them with the last process that holds
them, however it ended. Every file is readable by its owner alone.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

import msgspec

from channels.errors import SettingsError

__all__ = ["DataDir", "ServerRecord"]

_PASSWORD_BYTES = 32
#: Where the log is started anew: it holds starts, stops and rewrites, some lines a day.
_LOG_LIMIT_BYTES = 1 << 20


class ServerRecord(msgspec.Struct, frozen=True):
    """The server that runs, or ran last, on a data directory."""

    url: str
    #: 0 until it is known: the URL is written first, so that no server goes unrecorded.
    pid: int = 0


class DataDir:
    """One data directory, used by at most one hub and one server at a time."""

    __slots__ = ("_owner_fd", "path")

    def __init__(self, path: Path) -> None:
        #: Absolute: the server's working directory is this one, ours is not.
        self.path = path.absolute()
        self._owner_fd: int | None = None

    def claim(self) -> None:
        """Create the directory where it is missing and hold it until :meth:`release`.

        Raises:
            SettingsError: another live hub holds it, or it cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = self._open("owner.lock")
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise SettingsError(
                f"the data directory {self.path} is in use by the hub with process id {holder}:"
                " stop that one, or choose another directory with FANWIRE_DATA_DIR"
            ) from error
        except OSError as error:
            os.close(fd)
            raise self._unusable(error) from error
        self._owner_fd = fd
        try:
            _overwrite(fd, f"{os.getpid()}\n".encode())
        except OSError as error:
            self.release()
            raise self._unusable(error) from error

    def release(self) -> None:
        """Let go of the directory. The lock files stay: removing one would unlock nobody."""
        if self._owner_fd is not None:
            os.close(self._owner_fd)
            self._owner_fd = None

    def password(self) -> str:
        """Return the server's password, made at the first call ever and kept with the data."""
        path = self.path / "password"
        try:
            kept = path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            kept = ""
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(error) from error
        if kept:
            return kept
        made = secrets.token_urlsafe(_PASSWORD_BYTES)
        self.write("password", made)
        return made

    def write(self, name: str, text: str) -> None:
        """Replace a file at once and for its owner's eyes only."""
        beside = self.path / f"{name}.new"
        try:
            beside.unlink(missing_ok=True)
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
            beside.replace(self.path / name)
        except OSError as error:
            raise self._unusable(error) from error

    def publish_url(self, url: str) -> None:
        """Tell other processes of this machine and user where the server is."""
        self.write("redis.url", f"{url}\n")

    def withdraw_url(self) -> None:
        """Undo :meth:`publish_url`."""
        (self.path / "redis.url").unlink(missing_ok=True)

    def try_server_lock(self) -> int | None:
        """Return an open file with the server lock, or ``None`` while a server still lives.

        The caller gives the file to the server it starts and closes its own copy; the lock
        then tells whether that server lives, without trusting a process id.
        """
        try:
            fd = self._open("server.lock")
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def record_server(self, fd: int, record: ServerRecord) -> None:
        """Write down which server holds the lock ``fd``."""
        try:
            _overwrite(fd, msgspec.json.encode(record))
        except OSError as error:
            raise self._unusable(error) from error

    def recorded_server(self) -> ServerRecord | None:
        """Return what :meth:`record_server` wrote last, if anything readable."""
        try:
            return msgspec.json.decode((self.path / "server.lock").read_bytes(), type=ServerRecord)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def open_log(self) -> int:
        """Return an open file for the server's output, started anew when it has grown long."""
        path = self.path / "valkey.log"
        try:
            if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
                path.unlink()
            return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from error

    def log_tail(self, lines: int = 10) -> str:
        """Return the last lines of the server's log, for a message."""
        try:
            said = (self.path / "valkey.log").read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            return f"(no log: {error})"
        return "\n".join(said.splitlines()[-lines:])

    def _open(self, name: str) -> int:
        return os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o600)

    def _unusable(self, error: Exception) -> SettingsError:
        return SettingsError(
            f"the data directory {self.path} cannot be used: expected one that this user may"
            f" write, got {error}; choose another with FANWIRE_DATA_DIR"
        )


def _overwrite(fd: int, content: bytes) -> None:
    """Replace an open file's content; the file, and so its lock, stays the same."""
    os.ftruncate(fd, 0)
    os.pwrite(fd, content, 0)
