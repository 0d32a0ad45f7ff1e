"""A demo agent: believable sessions, runs, jobs and approvals, endlessly, as a real one would.

A process of its own that knows nothing but the hub's address and uses nothing but the
clients. Every few seconds somebody asks something; the agent answers word by word, runs a
job, and asks a person before it does what cannot be undone. The person is played here too:
the request reaches her, and her decision reaches the agent, through the hub.

    python -m examples.demo_agent [--url http://127.0.0.1:8000] [--seed 7]

Ends with status 0 on SIGTERM and SIGINT. A hub that goes away is waited for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from channels import Event, FanwireError, new_id
from channels import events as e
from channels.errors import HubError
from clients import AsyncPublisher, Backoff, Delivery, Subscriber
from examples.demo_tasks import TASKS

WORKSPACE = "acme"
APPROVER = "grace"
USERS = ("ada", "linus", "margaret", "alan")
#: Conversations that go on at the same time; two make about five events a second, in bursts.
CONVERSATIONS = 2
#: What a user may spend before the agent stops to ask, in micro-USD; small, so that it happens.
BUDGET_MICRO_USD = 400_000


class Voice:
    """Tells the hub what happens, in order, however long the hub is away."""

    def __init__(self, publisher: AsyncPublisher, rng: random.Random) -> None:
        self._publisher = publisher
        self.rng = rng

    async def tell(self, channel: str, event: Event) -> None:
        """Publish ``event``; trying again is safe, its id is the idempotency key."""
        await self._insist(lambda: self._publisher.publish(channel, event))

    async def tell_all(self, channels: list[str], event: Event) -> None:
        """Publish ``event`` on several channels."""

        async def broadcast() -> None:
            for outcome in await self._publisher.broadcast(channels, event):
                if isinstance(outcome, FanwireError):
                    raise outcome

        await self._insist(broadcast)

    async def pause(self, least_s: float, most_s: float) -> None:
        """Take the time that such things take."""
        await asyncio.sleep(self.rng.uniform(least_s, most_s))

    @staticmethod
    async def _insist(publish: Callable[[], Awaitable[object]]) -> None:
        backoff = Backoff(cap_s=5.0)
        while True:
            try:
                await publish()
            except HubError as error:
                print(f"demo agent: waiting for the hub ({error})", file=sys.stderr)
                await asyncio.sleep(backoff.next_pause_s())
            else:
                return


class Desk:
    """The person's desk: requests arrive over the hub, decisions leave over it."""

    CHANNEL = f"approvals:{WORKSPACE}"

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._waiting: dict[str, asyncio.Future[bool]] = {}

    def expect(self, gate: str) -> asyncio.Future[bool]:
        """Return a future that tells whether ``gate`` was opened."""
        future = self._waiting[gate] = asyncio.get_running_loop().create_future()
        return future

    async def work(self, hub: Subscriber, people: asyncio.TaskGroup) -> None:
        """Read the approvals channel: decide what is asked, pass on what was decided."""
        async with hub.subscribe(self.CHANNEL) as approvals:
            async for item in approvals:
                match item:
                    case Delivery(event=e.ApprovalRequested() as request):
                        people.create_task(self._decide(request.data))
                    case Delivery(event=e.ApprovalApproved() as decision):
                        self._settle(decision.data.gate, opened=True)
                    case Delivery(event=e.ApprovalEdited() as edited):
                        self._settle(edited.data.gate, opened=True)
                    case Delivery(event=e.ApprovalRejected() as rejected):
                        self._settle(rejected.data.gate, opened=False)

    def _settle(self, gate: str, *, opened: bool) -> None:
        future = self._waiting.pop(gate, None)
        if future is not None and not future.done():
            future.set_result(opened)

    async def _decide(self, request: e.ApprovalRequestedData) -> None:
        await self._voice.pause(2, 7)
        kind, comment = self._voice.rng.choices(
            [
                (e.ApprovalApproved, "Looks right, go ahead."),
                (e.ApprovalEdited, "Fine, but in two batches."),
                (e.ApprovalRejected, "Not this week, please."),
            ],
            weights=[6, 2, 2],
        )[0]
        payload = {**request.args, "batches": 2} if kind is e.ApprovalEdited else None
        decision = e.ApprovalDecisionData(
            workspace=request.workspace,
            gate=request.gate,
            decision=new_id(),
            actor=APPROVER,
            comment=comment,
            payload=payload,
        )
        await self._voice.tell(self.CHANNEL, kind(data=decision, subject=request.gate))


class Session:
    """One conversation: its messages, its run, its job, and what they cost."""

    def __init__(self, voice: Voice, desk: Desk, spent: dict[str, int]) -> None:
        self._voice = voice
        self._desk = desk
        self._spent = spent
        self._user = voice.rng.choice(USERS)
        self._task = voice.rng.choice(TASKS)
        self._id = new_id()
        self._run = new_id()
        self._version = 1
        self._seq = 0

    @property
    def _channel(self) -> str:
        return f"session:{WORKSPACE}:{self._id}"

    async def play(self) -> None:
        """Play it from the first question to the end."""
        await self._begin()
        await self._say("user", self._task.question)
        await self._voice.pause(0.5, 1.5)
        await self._ag_ui({"type": "RUN_STARTED", "threadId": self._id, "runId": self._run})
        await self._use_tool()
        await self._work()
        await self._answer()
        await self._record_usage()
        opened = not self._task.needs_approval or await self._ask()
        await self._ag_ui({"type": "RUN_FINISHED", "threadId": self._id, "runId": self._run})
        await self._say("assistant", "Done." if opened else "Understood, I leave it.")
        await self._end()

    async def _begin(self) -> None:
        data = e.SessionCreatedData(
            workspace=WORKSPACE,
            session=self._id,
            version=1,
            user=self._user,
            state={"goal": self._task.question, "agent": "demo"},
        )
        await self._voice.tell(self._channel, e.SessionCreated(data=data, subject=self._id))

    async def _say(self, role: str, content: str) -> None:
        self._version += 1
        self._seq += 1
        message = e.Message(
            id=new_id(), seq=self._seq, role=role, content=content, time=datetime.now(UTC)
        )
        data = e.SessionMessageData(
            workspace=WORKSPACE, session=self._id, version=self._version, message=message
        )
        await self._voice.tell(self._channel, e.SessionMessage(data=data, subject=self._id))

    async def _ag_ui(self, event: dict[str, object]) -> None:
        data = msgspec.Raw(msgspec.json.encode(event))
        await self._voice.tell(
            f"run:{WORKSPACE}:{self._run}", e.RunEvent(data=data, subject=self._run)
        )

    async def _use_tool(self) -> None:
        call = new_id()
        await self._ag_ui(
            {"type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": self._task.tool}
        )
        arguments = msgspec.json.encode(self._task.args).decode()
        await self._ag_ui({"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": arguments})
        await self._ag_ui({"type": "TOOL_CALL_END", "toolCallId": call})
        await self._voice.pause(0.5, 1.5)

    async def _work(self) -> None:
        """Run a job; now and then the first attempt fails."""
        base: dict[str, Any] = {
            "queue": "agent_tasks",
            "workspace": WORKSPACE,
            "job": new_id(),
            "kind": self._task.tool,
        }
        await self._job(e.JobEnqueued(data=e.JobEnqueuedData(**base)))
        await self._voice.pause(0.3, 1.0)
        attempt = 1
        if self._voice.rng.random() < 0.15:
            await self._job(e.JobStarted(data=e.JobData(**base, attempt=1)))
            await self._voice.pause(0.5, 1.5)
            soon = datetime.now(UTC) + timedelta(seconds=2)
            failed = e.JobRetryingData(
                **base, attempt=1, error="upstream answered with status 503", run_at=soon
            )
            await self._job(e.JobRetrying(data=failed))
            await asyncio.sleep(2)
            attempt = 2
        await self._job(e.JobStarted(data=e.JobData(**base, attempt=attempt)))
        total = len(self._task.steps)
        for done, note in enumerate(self._task.steps, 1):
            await self._voice.pause(0.6, 1.8)
            step = e.JobProgressData(**base, attempt=attempt, done=done, total=total, note=note)
            await self._job(e.JobProgress(data=step))
        result = e.JobCompletedData(**base, attempt=attempt, result={"ok": True})
        await self._job(e.JobCompleted(data=result))

    async def _job(self, event: Event) -> None:
        await self._voice.tell_all(["queue:agent_tasks", f"jobs:{WORKSPACE}"], event)

    async def _answer(self) -> None:
        """Stream the answer in pieces, the way a model does: a burst."""
        message = new_id()
        await self._ag_ui({"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"})
        words = self._task.answer.split(" ")
        for start in range(0, len(words), 4):
            piece = " ".join(words[start : start + 4]) + " "
            await self._ag_ui(
                {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": piece}
            )
            await self._voice.pause(0.05, 0.25)
        await self._ag_ui({"type": "TEXT_MESSAGE_END", "messageId": message})
        await self._say("assistant", self._task.answer)

    async def _record_usage(self) -> None:
        tokens = self._voice.rng.randint(900, 4_000)
        cost = tokens * 12
        data = e.UsageRecordedData(
            user=self._user,
            workspace=WORKSPACE,
            tokens_input=tokens * 3,
            tokens_output=tokens,
            cost_micro_usd=cost,
            agent="demo",
            model="demo-large",
        )
        channel = f"usage:{self._user}"
        await self._voice.tell(channel, e.UsageRecorded(data=data))
        before = self._spent.get(self._user, 0)
        spent = self._spent[self._user] = before + cost
        for percent in (50, 80, 100):
            line = BUDGET_MICRO_USD * percent // 100
            if before < line <= spent:
                await self._warn(channel, percent, spent)
        if spent >= BUDGET_MICRO_USD:
            self._spent[self._user] = 0

    async def _warn(self, channel: str, percent: int, spent: int) -> None:
        data = e.BudgetThresholdData(
            scope=f"user:{self._user}",
            period=datetime.now(UTC).strftime("%Y-%m-%d"),
            limit_micro_usd=BUDGET_MICRO_USD,
            spent_micro_usd=spent,
            percent=percent,
        )
        await self._voice.tell(channel, e.BudgetThreshold(data=data))

    async def _ask(self) -> bool:
        """Ask a person, wait for her word, and tell what came of it."""
        gate = new_id()
        decided = self._desk.expect(gate)
        request = e.ApprovalRequestedData(
            workspace=WORKSPACE,
            gate=gate,
            tool=self._task.tool,
            args=self._task.args,
            requested_by="demo",
            run=self._run,
            approvers=[APPROVER],
            reason=self._task.needs_approval,
            expires_at=datetime.now(UTC) + timedelta(seconds=60),
        )
        await self._voice.tell(Desk.CHANNEL, e.ApprovalRequested(data=request, subject=gate))
        notification = new_id()
        created = e.NotificationCreatedData(
            user=APPROVER,
            notification=notification,
            title=f"{self._task.tool} waits for you",
            body=self._task.needs_approval,
            level="action",
            ref=Desk.CHANNEL,
            subject=gate,
        )
        feed = f"notifications:{APPROVER}"
        await self._voice.tell(feed, e.NotificationCreated(data=created))
        opened = False
        with contextlib.suppress(TimeoutError):
            opened = await asyncio.wait_for(decided, 60)
        if opened:
            used = e.ApprovalConsumedData(workspace=WORKSPACE, gate=gate, run=self._run)
            await self._voice.tell(Desk.CHANNEL, e.ApprovalConsumed(data=used, subject=gate))
        resolved = e.NotificationData(user=APPROVER, notification=notification)
        await self._voice.tell(feed, e.NotificationResolved(data=resolved))
        return opened

    async def _end(self) -> None:
        self._version += 1
        patch = e.SessionUpdatedData(
            workspace=WORKSPACE,
            session=self._id,
            version=self._version,
            patch={"state": "done"},
        )
        await self._voice.tell(self._channel, e.SessionUpdated(data=patch, subject=self._id))


async def _converse(voice: Voice, desk: Desk, spent: dict[str, int]) -> None:
    while True:
        await Session(voice, desk, spent).play()
        await voice.pause(0.5, 3)


async def _connect(url: str, token: str) -> Subscriber:
    """Open a subscriber, however long the hub takes to come up."""
    while True:
        hub = Subscriber(url, token=token)
        try:
            return await hub.__aenter__()
        except HubError as error:
            print(f"demo agent: waiting for the hub ({error})", file=sys.stderr)


async def play(url: str, *, api_key: str = "", token: str = "", seed: int | None = None) -> None:
    """Play until cancelled."""
    async with contextlib.AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(AsyncPublisher(url, api_key=api_key))
        hub = await _connect(url, token)
        stack.push_async_callback(hub.aclose)
        voice = Voice(publisher, random.Random(seed))
        desk = Desk(voice)
        spent: dict[str, int] = {}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(desk.work(hub, tasks))
            for _ in range(CONVERSATIONS):
                tasks.create_task(_converse(voice, desk, spent))
                await voice.pause(0.5, 2)


async def _until_told_to_end(arguments: argparse.Namespace) -> None:
    playing = asyncio.ensure_future(
        play(
            arguments.url,
            api_key=os.environ.get("FANWIRE_API_KEY", ""),
            token=os.environ.get("FANWIRE_TOKEN", ""),
            seed=arguments.seed,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await playing


def main() -> int:
    """Run the agent and return its exit status."""
    parser = argparse.ArgumentParser(description="A demo agent that keeps a hub busy.")
    parser.add_argument("--url", default=os.environ.get("FANWIRE_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--seed", type=int, help="the same seed makes the same choices")
    status = 0
    try:
        asyncio.run(_until_told_to_end(parser.parse_args()))
    except* FanwireError as group:
        print(f"demo agent: {group.exceptions[0]}", file=sys.stderr)
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
