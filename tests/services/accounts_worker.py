"""One of several processes that change the same state: ``python -m ... URL WHAT ARGUMENTS``.

Says ``ready``, waits for a line, works, and prints what it has to say as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

import uvloop

from channels.errors import Unauthorized
from services.door import Services


def say(line: str) -> None:
    """Tell the test."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def patch(services: Services, number: str, rounds: str) -> object:
    """Patch fields that nobody else patches, and one object that everybody does."""
    preferences = services.for_workspace("w1").preferences
    for turn in range(int(rounds)):
        await preferences.patch({f"p{number}_{turn}": turn}, user="ann")
        await preferences.patch({"shared": {f"p{number}_{turn}": turn}}, user="ann")
    return int(rounds) * 2


async def verify(services: Services, token: str) -> object:
    """Verify until refused; then say that no later try succeeded."""
    good = refused = 0
    while refused < 20:
        try:
            await services.auth_sessions.verify(token)
            good += 1
            if refused:
                return "a revoked session was good again"
        except Unauthorized:
            refused += 1
    return good


async def rotate(services: Services, token: str) -> object:
    """Rotate; return the new token, or nothing if somebody else was faster."""
    try:
        return (await services.auth_sessions.rotate(token)).token
    except Unauthorized:
        return None


WORK: dict[str, Callable[..., Awaitable[object]]] = {
    "patch": patch,
    "verify": verify,
    "rotate": rotate,
}


async def main(url: str, what: str, *arguments: str) -> None:
    """Connect, wait for the word, work."""
    async with Services.connect(url) as services:
        say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        say(json.dumps(await WORK[what](services, *arguments)))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
