"""The live connections of a node."""

from __future__ import annotations

import pytest

from channels.errors import Disconnect, Disconnects, TooManyRequests
from hub.registry import Registry


class Guest:
    """A client that notes its end."""

    def __init__(self, user: str = "") -> None:
        self.user = user
        self.ended: list[Disconnect] = []

    def end(self, disconnect: Disconnect) -> None:
        """Note it."""
        self.ended.append(disconnect)


class Hasty(Guest):
    """A client that is gone as soon as it is ended."""

    def __init__(self, registry: Registry) -> None:
        super().__init__()
        self.registry = registry

    def end(self, disconnect: Disconnect) -> None:
        """Note it, and go."""
        super().end(disconnect)
        self.registry.remove(self)


def test_clients_are_counted() -> None:
    """In and out; going twice, or without having come, does nothing."""
    registry = Registry(10)
    guests = [Guest("ada"), Guest("ada"), Guest("eve"), Guest()]
    for guest in guests[:3]:
        registry.add(guest, "websocket")
    registry.add(guests[3], "sse")
    assert (len(registry), registry.count_users()) == (4, 2)
    registry.remove(guests[0])
    registry.remove(guests[0])
    registry.remove(Guest())
    assert (len(registry), registry.count_users()) == (3, 2)
    assert registry.connections == {"websocket": 2, "sse": 1}
    assert registry.accepted == {"websocket": 3, "sse": 1}


def test_there_is_a_limit() -> None:
    """One too many is refused and not counted; there is room when somebody goes."""
    registry = Registry(1)
    first, second = Guest(), Guest()
    registry.add(first, "websocket")
    with pytest.raises(TooManyRequests):
        registry.add(second, "websocket")
    assert len(registry) == registry.accepted["websocket"] == 1
    registry.remove(first)
    registry.add(second, "websocket")


def test_all_are_ended_and_so_is_who_still_comes() -> None:
    """Ended clients count until they are gone."""
    registry = Registry(10)
    guests = [Guest(), Guest()]
    for guest in guests:
        registry.add(guest, "websocket")
    registry.end_all()
    late = Guest()
    registry.add(late, "websocket")
    assert [guest.ended for guest in (*guests, late)] == [[Disconnects.SHUTDOWN]] * 3
    assert len(registry) == 3


def test_clients_may_go_while_all_are_ended() -> None:
    """Nobody is left out."""
    registry = Registry(10)
    guests = [Hasty(registry) for _ in range(5)]
    for guest in guests:
        registry.add(guest, "websocket")
    registry.end_all(Disconnects.SERVER_ERROR)
    assert [guest.ended for guest in guests] == [[Disconnects.SERVER_ERROR]] * 5
    assert len(registry) == 0
