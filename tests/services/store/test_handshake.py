"""The first words, to servers of every kind."""

from __future__ import annotations

import pytest

from channels.errors import OutcomeUnknown, StoreRefused, StoreUnavailable
from services.store.endpoint import Endpoint
from services.store.handshake import greet, unfit
from services.store.port import Argument, Reply

MASTER = {b"server": b"valkey", b"role": b"master"}


class Server:
    """Answers each command with what was prepared for its name, else with OK."""

    def __init__(self, **answers: Reply | Exception) -> None:
        self.answers = answers
        self.heard: list[tuple[Argument, ...]] = []

    async def ask(self, *command: Argument) -> Reply:
        """Answer one command."""
        self.heard.append(command)
        answer = self.answers.get(str(command[0]), b"OK")
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_hello_says_it_all() -> None:
    """Protocol, credentials and name go in one command."""
    server = Server(HELLO=MASTER)
    await greet(server.ask, Endpoint(username="u", password="p", client_name="n", db=2))
    assert server.heard == [
        ("HELLO", 3, "AUTH", "u", "p", "SETNAME", "n"),
        ("SELECT", 2),
        ("PING",),
    ]


async def test_a_server_without_hello() -> None:
    """It gets AUTH and the rest one by one, and RESP2 is spoken."""
    server = Server(HELLO=StoreRefused("ERR unknown command 'HELLO'"))
    await greet(server.ask, Endpoint(password="p", client_name="n"))
    assert server.heard[1:] == [("AUTH", "p"), ("CLIENT", "SETNAME", "n"), ("PING",)]


@pytest.mark.parametrize(
    "hello", [{b"role": b"replica"}, [b"server", b"redis", b"role", b"replica"]]
)
async def test_a_replica_is_as_good_as_away(hello: Reply) -> None:
    """Writes would be refused, so the connection is not taken."""
    with pytest.raises(StoreUnavailable, match="replica"):
        await greet(Server(HELLO=hello).ask, Endpoint())


async def test_a_loading_server_is_as_good_as_away() -> None:
    """HELLO is answered while loading, PING is not."""
    server = Server(HELLO=MASTER, PING=StoreRefused("LOADING Redis is loading"))
    with pytest.raises(StoreUnavailable, match="LOADING"):
        await greet(server.ask, Endpoint())


async def test_credentials_refused() -> None:
    """The server's words reach the caller."""
    with pytest.raises(StoreRefused, match="WRONGPASS"):
        await greet(Server(HELLO=StoreRefused("WRONGPASS no")).ask, Endpoint(password="p"))


async def test_silence_is_no_unknown_outcome() -> None:
    """Nothing but greetings was said, so nothing can have happened."""
    with pytest.raises(StoreUnavailable):
        await greet(Server(HELLO=OutcomeUnknown("silence")).ask, Endpoint())


def test_unfit() -> None:
    """A server that cannot serve is told from a command that cannot succeed."""
    assert unfit(StoreRefused("READONLY You can't write against a read only replica."))
    assert unfit(StoreRefused("MASTERDOWN Link with MASTER is down"))
    assert unfit(StoreRefused("ERR Error running script (call to f_1): -READONLY You can't"))
    assert not unfit(StoreRefused("OOM command not allowed"))
    assert not unfit(StoreRefused("ERR value is not an integer"))
