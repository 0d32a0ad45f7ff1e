"""A process that does random things to everything services keep, until it is killed.

    python -m tests.services.everything_worker URL NAME

It prints the name of each workspace before it begins with it, and sweeps meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import sys

import uvloop

from channels.errors import FanwireError
from services import approvals, auth_sessions, onboarding
from services.approvals import Approvals
from services.auth_sessions import AuthSessions
from services.context import Context
from services.onboarding import Onboarding
from services.preferences import Preferences
from services.session_manager import SessionManager
from services.store.port import Store
from services.store.tcp import TcpStore, TcpStoreOptions

from .session_support import make_context

__all__ = ["SESSIONS", "Ground", "user_of"]

#: Sessions and gates of a workspace, and what is done to them and the rest, eight at a time.
SESSIONS, GATES, STEPS = 4, 40, 240
_QUICK = TcpStoreOptions(backoff_s=(0.001, 0.05))


def user_of(workspace: str) -> str:
    """Return who logs in and has preferences in a workspace."""
    return f"u-{workspace}"


class Ground:
    """The services of one workspace, and random things to do to them."""

    def __init__(self, context: Context, workspace: str) -> None:
        self.user = user_of(workspace)
        self.sessions = SessionManager(context, workspace)
        self.approvals = Approvals(context, workspace)
        self.logins = AuthSessions(context)
        self.onboarding = Onboarding(context, workspace)
        self.preferences = Preferences(context, workspace, shape=dict)
        self.chance = random.Random()
        self.tokens: list[str] = []

    @staticmethod
    def context(store: Store) -> Context:
        """Return what all of it is made with."""
        context = make_context(store)
        for service in (approvals, auth_sessions, onboarding):
            service.install(context)
        return context

    async def do(self, number: int) -> None:
        """Do something; that it is refused, or that Redis is away, is part of it."""
        of = [
            *(self._begin_session, self._write, self._write, self._end_session),
            *(self._ask, self._ask, self._decide, self._use),
            *(self._log_in, self._log_out, self._prefer, self._go_on),
        ]
        try:
            await self.chance.choice(of)(number)
        except FanwireError:
            return

    def _session(self) -> str:
        return f"s{self.chance.randrange(SESSIONS)}"

    def _gate(self) -> str:
        return f"g{self.chance.randrange(GATES)}"

    async def _begin_session(self, _number: int) -> None:
        idle = self.chance.choice([1, 2, 60])
        await self.sessions.create_session(self._session(), "ann", idle_ttl_s=idle)

    async def _write(self, number: int) -> None:
        session = self._session()
        await self.sessions.add_message(session, "user", {"n": number})
        await self.sessions.update_session(session, current_agent=f"a{number}")

    async def _end_session(self, _number: int) -> None:
        await self.sessions.extend_session(self._session(), 2)
        if self.chance.random() < 0.3:
            await self.sessions.delete_session(self._session())

    async def _ask(self, _number: int) -> None:
        gate = self._gate()
        await self.approvals.request(
            "pay",
            {"gate": gate},
            gate_id=gate,
            expires_in_s=self.chance.choice([0.5, 1, 2, None]),
            on_timeout=self.chance.choice(["reject", "approve"]),
            quorum=self.chance.choice([1, 2]),
        )

    async def _decide(self, number: int) -> None:
        verdict = self.chance.choice(["approve", "reject"])
        await self.approvals.decide(
            self._gate(), verdict, actor=f"p{number % 3}", decision_id=f"d{number}"
        )

    async def _use(self, _number: int) -> None:
        gate = await self.approvals.get(self._gate())
        await self.approvals.consume(gate.gate, run="r", args_sha256=gate.digest)

    async def _log_in(self, _number: int) -> None:
        idle = self.chance.choice([1, 2, 60])
        self.tokens.append((await self.logins.create(self.user, limit=3, idle_ttl_s=idle)).token)

    async def _log_out(self, number: int) -> None:
        if not self.tokens:
            return
        token = self.chance.choice(self.tokens)
        if number % 2:
            await self.logins.rotate(token)
        else:
            await self.logins.revoke(self.user, token.partition("~")[2].partition(".")[0])

    async def _prefer(self, number: int) -> None:
        await self.preferences.patch({f"k{number % 5}": number}, user=self.user)

    async def _go_on(self, number: int) -> None:
        await self.onboarding.start("ann", expires_in_s=self.chance.choice([1, 2]))
        await self.onboarding.advance(f"s{number}", patch={f"k{number % 5}": number})


async def _main(url: str, name: str) -> None:
    async with TcpStore(url, _QUICK) as store:
        context = Ground.context(store)
        running = {
            asyncio.create_task(context.clock.run()),
            asyncio.create_task(context.sweeper.run()),
        }
        number = 0
        while running:
            workspace = f"{name}-{number}"
            sys.stdout.write(workspace + "\n")
            sys.stdout.flush()
            ground = Ground(context, workspace)
            for first in range(0, STEPS, 8):
                await asyncio.gather(*(ground.do(step) for step in range(first, first + 8)))
            number += 1


if __name__ == "__main__":
    uvloop.run(_main(*sys.argv[1:]))
