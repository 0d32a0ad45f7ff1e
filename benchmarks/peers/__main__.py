"""``python -m benchmarks.peers``: build the peers, and say of each whether it can run here."""

from __future__ import annotations

from . import Peer, all_peers
from ._peer import ServedPeer
from ._preparation import PreparationError


def prepare(peer: Peer) -> str | None:
    """Build a peer as far as that is possible here; return why it cannot run, None if it can."""
    try:
        if isinstance(peer, ServedPeer):
            peer.prepare()
    except PreparationError as error:
        return f"could not be built: {error}"
    return peer.missing()


def main() -> None:
    """Prepare all and print a table."""
    for peer in all_peers():
        print(f"{peer.name:<24} ", end="", flush=True)
        reason = prepare(peer)
        versions = ", ".join(f"{name} {version}" for name, version in peer.versions().items())
        print(f"ready    {versions}" if reason is None else f"missing  {reason}")


if __name__ == "__main__":
    main()
