"""The embedded server: it keeps its data, its address and its secrets, and leaves no orphan."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from channels.errors import SettingsError, StoreUnavailable, UsageError
from services.store import embedded
from services.store.binary import ServerBinary
from services.store.data_dir import DataDir
from services.store.embedded import EmbeddedServer
from services.store.tcp import TcpStore
from tests.servers import PATIENCE_S, ValkeyServer, connect, gone

pytestmark = pytest.mark.usefixtures("server_binary")

#: An owner in a process of its own: starts the server, says where it is, and waits.
OWNER = """
import sys
from pathlib import Path
from services.store.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
server.start()
print(server.pid, server.url, flush=True)
sys.stdin.read()
server.stop()
"""


class Owner:
    """A hub's stand-in: a process that owns an embedded server until it is told or killed."""

    def __init__(self, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, data_dir],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        assert ready, "the owner did not start its server in time"
        pid, self.url = self.process.stdout.readline().split()
        self.server_pid = int(pid)

    def kill(self) -> None:
        """Kill the owner (-9), not its server, and wait for its end."""
        self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that does not exist yet, its path short enough for a socket."""
    return tmp_path_factory.mktemp("e") / "data"


@pytest.fixture
def owner(data_dir: Path) -> Iterator[Owner]:
    """A process that owns a server on ``data_dir``."""
    owner = Owner(data_dir)
    yield owner
    owner.kill()


def test_data_and_address_outlive_a_restart(data_dir: Path) -> None:
    """What was written before a stop is there after the next start, at the same URL."""
    server = EmbeddedServer(data_dir)
    with server, connect(server.url) as client:
        first_url = server.url
        client.set("kept", "yes")
    with server, connect(server.url) as client:
        assert (b"yes", first_url) == (client.get("kept"), server.url)


def test_stop_leaves_no_process_and_no_address(data_dir: Path) -> None:
    """After a stop the process is gone, and nobody is told of an address any more."""
    with EmbeddedServer(data_dir) as server:
        pid = server.pid
        assert f"{server.url}\n" == (data_dir / "redis.url").read_text()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not (data_dir / "redis.url").exists()
    assert not (data_dir / "valkey.sock").exists()


def test_the_server_is_durable_and_never_evicts(data_dir: Path) -> None:
    """Writes reach the disk within a second, and memory pressure is an error, not a loss."""
    with EmbeddedServer(data_dir) as server, connect(server.url) as client:
        settings = client.config_get(
            "appendonly", "appendfsync", "maxmemory-policy", "save", "protected-mode"
        )
    assert settings == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
        "protected-mode": "yes",
    }


def test_nobody_else_can_read_anything(data_dir: Path) -> None:
    """The directory, the socket, the secrets and the data are open to their owner alone."""
    with EmbeddedServer(data_dir):
        paths = [data_dir, *data_dir.rglob("*")]
        names = {path.name for path in paths}
        assert {"valkey.sock", "password", "redis.url", "valkey.conf", "valkey.log"} <= names
        open_to_others = {p.name for p in paths if stat.S_IMODE(p.stat().st_mode) & 0o077}
    assert set() == open_to_others


def test_secrets_are_on_no_command_line(data_dir: Path) -> None:
    """The password, and our own environment, cannot be read from the list of processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FANWIRE_API_KEY", "a-secret-of-the-hub")
        with EmbeddedServer(data_dir) as server:
            password = (data_dir / "password").read_text()
            proc = Path(f"/proc/{server.pid}")
            if not proc.exists():
                shown = subprocess.check_output(["ps", "eww", str(server.pid)])
            else:
                shown = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
    assert password.encode() not in shown
    assert b"a-secret-of-the-hub" not in shown


def test_a_password_is_required(data_dir: Path) -> None:
    """A client without the password is refused, over the socket too."""
    with EmbeddedServer(data_dir), socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(data_dir / "valkey.sock"))
        stranger.sendall(b"PING\r\n")
        assert stranger.recv(64).startswith(b"-NOAUTH")


def test_a_long_path_falls_back_to_a_loopback_port(data_dir: Path) -> None:
    """Where no socket fits, the server listens on 127.0.0.1 alone, behind its password."""
    deep = data_dir / ("d" * 60) / ("e" * 60)
    with EmbeddedServer(deep) as server, connect(server.url) as client:
        assert server.url.startswith("redis://:")
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
        address, _, port = server.url.rpartition("@")[2].removesuffix("/0").partition(":")
        with socket.create_connection((address, int(port))) as stranger:
            stranger.sendall(b"PING\r\n")
            assert stranger.recv(64).startswith(b"-NOAUTH")
        with socket.socket() as other:
            # Another loopback address stands for every other address of the machine.
            assert other.connect_ex(("127.0.0.2", int(port))) != 0


def test_a_port_taken_meanwhile_is_replaced(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another program takes the free port first, the start goes on with the next one."""
    monkeypatch.setattr(embedded, "_ANSWER_TIMEOUT_S", 0.2)  # the thief never answers
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()
        taken = thief.getsockname()[1]
        ports = iter([taken, embedded._free_port()])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
        deep = data_dir / ("d" * 100)
        with EmbeddedServer(deep) as server, connect(server.url) as client:
            assert f":{taken}/" not in server.url
            assert client.ping()


def test_a_path_with_odd_characters_works(data_dir: Path) -> None:
    """Spaces, quotes, percent and hash signs in the path need no care from anybody."""
    odd = data_dir / "a b\"c'd%20#é"
    with EmbeddedServer(odd) as server, connect(server.url) as client:
        assert client.ping()


def test_a_killed_server_comes_back_with_its_data(
    valkey_server: Callable[[], ValkeyServer],
) -> None:
    """After kill -9 the server is there again, at the same URL, another process, data kept."""
    server = valkey_server()
    pids = set()
    for round_number in range(3):
        with server.client() as client:
            client.rpush("rounds", round_number)
        pids.add(server.pid)
        server.crash()
    with server.client() as client:
        assert client.lrange("rounds", 0, -1) == [b"0", b"1", b"2"]
    assert len(pids) == 3
    assert server.pid not in pids


async def test_an_open_store_finds_the_restarted_server(
    valkey_server: Callable[[], ValkeyServer],
) -> None:
    """A store that was connected before kill -9 works on afterwards, at the URL it has."""
    server = await asyncio.to_thread(valkey_server)
    async with TcpStore(server.url) as store:
        await store.execute("SET", "kept", "yes")
        back = asyncio.Event()
        store.on_state(lambda ready: back.set() if ready and server.restarts else None)
        server.kill()
        async with asyncio.timeout(PATIENCE_S):
            await back.wait()
        assert await store.execute("GET", "kept") == b"yes"


def test_stop_ends_a_server_that_was_just_killed(data_dir: Path) -> None:
    """A stop in the middle of a restart leaves nothing running and the directory free."""
    for _ in range(5):
        server = EmbeddedServer(data_dir)
        server.start()
        os.kill(server.pid, signal.SIGKILL)
        server.stop()
        directory = DataDir(data_dir)
        fd = directory.try_server_lock()
        assert fd is not None, "a server still holds the directory"
        os.close(fd)


def test_a_server_that_ignores_the_request_is_killed(data_dir: Path) -> None:
    """A server that hangs delays a stop by the time-out, and no longer."""
    server = EmbeddedServer(data_dir, stop_timeout_s=0.2)
    server.start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_server_ends_with_its_owner(data_dir: Path, owner: Owner) -> None:
    """After kill -9 of the owner the server is gone, and the next owner finds the data."""
    with connect(owner.url) as client:
        client.set("kept", "yes")
    owner.kill()
    if sys.platform == "linux":  # elsewhere the next start ends it
        assert gone(owner.server_pid)
    with EmbeddedServer(data_dir) as server, connect(server.url) as client:
        assert client.get("kept") == b"yes"
        assert owner.url == server.url


@pytest.mark.parametrize("state", ["answers", "hangs"])
def test_a_left_over_server_is_ended(
    data_dir: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose owner vanished is stopped before another begins, even if it hangs."""
    monkeypatch.setattr(embedded, "_ANSWER_TIMEOUT_S", 0.2)
    vanished = EmbeddedServer(data_dir)
    vanished.start()
    with connect(vanished.url) as client:
        client.set("kept", "yes")
    left_over = vanished.pid
    supervisor = vanished._supervisor
    supervisor._stopping.set()  # the thread does as the owner's death would have it: nothing
    vanished._dir.release()
    if state == "hangs":
        os.kill(left_over, signal.SIGSTOP)
    with EmbeddedServer(data_dir, stop_timeout_s=1.0) as server, connect(server.url) as client:
        assert client.get("kept") == b"yes"
        assert left_over != server.pid
    supervisor._thread.join(PATIENCE_S)
    assert not supervisor._thread.is_alive()


def test_a_second_owner_is_refused(data_dir: Path, owner: Owner) -> None:
    """A directory in use is refused by name, with the process that holds it, unharmed."""
    with pytest.raises(SettingsError) as refused:
        EmbeddedServer(data_dir).start()
    assert str(data_dir) in refused.value.message
    assert f"process id {owner.process.pid}:" in refused.value.message
    with connect(owner.url) as client:
        assert client.ping()


def test_an_unusable_directory_is_refused(tmp_path: Path) -> None:
    """A directory that cannot be made or written is a setting to correct, named as such."""
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(SettingsError, match=r"file/data cannot be used: expected one that"):
        EmbeddedServer(tmp_path / "file" / "data").start()


def test_a_directory_without_write_permission_is_refused(tmp_path: Path) -> None:
    """An existing directory that takes no new files is refused by name."""
    tmp_path.chmod(0o500)
    # Root may write anywhere but where the kernel itself says no.
    closed = Path("/proc/self/task") if os.geteuid() == 0 else tmp_path
    with pytest.raises(SettingsError, match=f"{closed} cannot be used"):
        EmbeddedServer(closed).start()


def test_a_failed_start_shows_the_log_and_lets_go(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own last words are in the error, and the directory can be used again."""
    good = embedded._CONFIGURATION
    monkeypatch.setattr(embedded, "_CONFIGURATION", good + "no-such-directive yes\n")
    with pytest.raises(StoreUnavailable, match="no-such-directive"):
        EmbeddedServer(data_dir).start()
    monkeypatch.setattr(embedded, "_CONFIGURATION", good)
    with EmbeddedServer(data_dir) as server, connect(server.url) as client:
        assert client.ping()


def test_a_start_that_takes_too_long_is_given_up(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that never answers is ended within the time-outs, and said so."""
    mute = data_dir.parent / "mute"
    mute.write_text(f"#!{sys.executable}\nimport signal\nsignal.pause()\n")
    mute.chmod(0o755)
    monkeypatch.setattr(embedded, "find_server_binary", lambda: ServerBinary(mute, (9, 9, 9)))
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.2 s"):
        EmbeddedServer(data_dir, start_timeout_s=0.2).start()
    assert time.monotonic() - began < 5.0


def test_a_program_that_cannot_be_run_is_an_error(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server program that vanished after it was found is told as what it is."""
    vanished = ServerBinary(data_dir / "vanished", (9, 9, 9))
    monkeypatch.setattr(embedded, "find_server_binary", lambda: vanished)
    with pytest.raises(StoreUnavailable, match="No such file"):
        EmbeddedServer(data_dir, start_timeout_s=5.0).start()


def test_misuse_is_told(data_dir: Path) -> None:
    """A second start, and a look before the first one, are errors of the caller."""
    server = EmbeddedServer(data_dir)
    with pytest.raises(UsageError):
        _ = server.url
    with pytest.raises(UsageError):
        _ = server.pid
    with server, pytest.raises(UsageError):
        server.start()
    server.stop()  # a second stop is nothing
