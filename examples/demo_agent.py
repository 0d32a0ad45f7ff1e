"""A demo agent: believable sessions, runs, jobs and approvals, endlessly, as a real one would.

A process of its own that knows nothing but the hub's address and uses nothing but the
clients. Every few seconds somebody asks something; the agent answers word by word, runs a
job, and asks a person before it does what cannot be undone. Sessions and approval gates are
real: the hub keeps them, and tells of every change. So are usage and budgets: each answer is paid
from what was set aside for it. The person is played here too, unless somebody is faster:

    fanwire approvals watch -w acme
    fanwire approvals reject GATE -w acme --actor ada
    fanwire usage ada

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
from channels.errors import Conflict, HubError, NotFound, OverBudget
from clients import (
    ApprovalWaits,
    AsyncPublisher,
    Backoff,
    Delivery,
    Patience,
    RestClient,
    Snapshot,
    Subscriber,
)
from examples.demo_tasks import TASKS

WORKSPACE = "acme"
APPROVER = "grace"
USERS = ("ada", "linus", "margaret", "alan")
#: Conversations that go on at the same time; two make about five events a second, in bursts.
CONVERSATIONS = 2
#: By how much a budget is raised when it is spent, in micro-USD; small, so that it happens.
RAISE_MICRO_USD = 400_000
#: What an answer is expected to cost at most.
ESTIMATE_MICRO_USD = 60_000
#: A thread that calls the hub cannot be cancelled, and the end must not wait for it.
_BRIEF = Patience(deadline_s=2.0, try_timeout_s=2.0)


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


class State:
    """What the hub keeps: sessions, gates and budgets, changed over REST."""

    def __init__(self, client: RestClient) -> None:
        self._client = client

    async def call(
        self, method: str, path: str, body: object = None, *, tenant: bool = True
    ) -> Any:  # noqa: ANN401 - any JSON
        """Call an operation, however long the hub is away; one key, so it is done once."""
        backoff, key = Backoff(cap_s=5.0), new_id()
        while True:
            try:
                return await asyncio.to_thread(
                    self._client.call,
                    method,
                    path,
                    body,
                    query={"workspace": WORKSPACE} if tenant else None,
                    idempotency_key=key,
                )
            except HubError as error:
                print(f"demo agent: waiting for the hub ({error})", file=sys.stderr)
                await asyncio.sleep(backoff.next_pause_s())


class Desk:
    """The person's desk: requests arrive over the hub, decisions leave over it."""

    CHANNEL = f"approvals:{WORKSPACE}"

    def __init__(self, voice: Voice, state: State) -> None:
        self._voice = voice
        self._state = state

    async def work(self, hub: Subscriber, people: asyncio.TaskGroup) -> None:
        """Decide what is asked, beginning with what waits already."""
        async with hub.subscribe(self.CHANNEL, snapshot=True) as approvals:
            async for item in approvals:
                match item:
                    case Snapshot(data={"gates": gates}):
                        for gate in gates:
                            people.create_task(self._decide(gate["gate"], gate["args"]))
                    case Delivery(event=e.ApprovalRequested() as request):
                        people.create_task(self._decide(request.data.gate, request.data.args))

    async def _decide(self, gate: str, args: dict[str, Any]) -> None:
        await self._voice.pause(4, 9)
        verdict, comment = self._voice.rng.choices(
            [
                ("approve", "Looks right, go ahead."),
                ("edit", "Fine, but in two batches."),
                ("reject", "Not this week, please."),
            ],
            weights=[6, 2, 2],
        )[0]
        decision = {"verdict": verdict, "id": new_id(), "actor": APPROVER, "comment": comment}
        if verdict == "edit":
            decision["payload"] = {**args, "batches": 2}
        # Somebody may have been faster, or the agent may have taken it back.
        with contextlib.suppress(Conflict, NotFound):
            await self._state.call("POST", f"/v1/approvals/{gate}/decision", decision)


class Session:
    """One conversation: its messages, its run, its job, and what they cost."""

    def __init__(self, voice: Voice, state: State, waits: ApprovalWaits) -> None:
        self._voice = voice
        self._state = state
        self._waits = waits
        self._user = voice.rng.choice(USERS)
        self._task = voice.rng.choice(TASKS)
        self._id = new_id()
        self._run = new_id()

    async def play(self) -> None:
        """Play it from the first question to the end."""
        await self._begin()
        await self._say("user", self._task.question)
        await self._voice.pause(0.5, 1.5)
        await self._ag_ui({"type": "RUN_STARTED", "threadId": self._id, "runId": self._run})
        await self._use_tool()
        await self._work()
        hold = await self._reserve()
        await self._answer()
        await self._pay(hold)
        opened = not self._task.needs_approval or await self._ask()
        await self._ag_ui({"type": "RUN_FINISHED", "threadId": self._id, "runId": self._run})
        await self._say("assistant", "Done." if opened else "Understood, I leave it.")
        await self._end()

    async def _begin(self) -> None:
        await self._state.call(
            "POST",
            "/v1/sessions",
            {
                "id": self._id,
                "user": self._user,
                "fields": {"current_agent": "demo", "current_task": self._task.question},
                "idle_ttl_s": 300,
            },
        )

    async def _say(self, role: str, content: str) -> None:
        message = {"id": new_id(), "role": role, "content": content}
        await self._state.call("POST", f"/v1/sessions/{self._id}/messages", message)

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

    async def _reserve(self) -> str:
        """Set the price of an answer aside; a budget that is spent is raised, as people do."""
        asked = {
            "user": self._user,
            "workspace": WORKSPACE,
            "estimated_micro_usd": ESTIMATE_MICRO_USD,
            "hold": self._run,
        }
        budget = f"/v1/budgets/user/{self._user}"
        while True:
            try:
                await self._state.call("POST", "/v1/budgets/holds", asked, tenant=False)
            except OverBudget:
                left = await self._state.call("GET", budget, tenant=False)
                raised = {"monthly_micro_usd": (left["month"]["limit"] or 0) + RAISE_MICRO_USD}
                await self._state.call("PATCH", budget, raised, tenant=False)
            else:
                return f"/v1/budgets/holds/{self._user}/{self._run}"

    async def _pay(self, hold: str) -> None:
        tokens = self._voice.rng.randint(900, 4_000)
        used = {
            "actual_micro_usd": tokens * 12,
            "tokens_input": tokens * 3,
            "tokens_output": tokens,
            "agent": "demo",
            "model": "demo-large",
            "event_id": self._run,
        }
        await self._state.call("POST", f"{hold}/commit", used, tenant=False)

    async def _ask(self) -> bool:
        """Ask a person, wait for the word, and use an approval."""
        gate = new_id()
        await self._state.call(
            "POST",
            "/v1/approvals",
            {
                "id": gate,
                "tool": self._task.tool,
                "args": self._task.args,
                "requested_by": "demo",
                "run": self._run,
                "reason": self._task.needs_approval,
                "expires_in_s": 60,
            },
        )
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
        decision = await self._waits.wait(WORKSPACE, gate)
        if decision.approved:
            used = {"run": self._run, "args_sha256": decision.args_sha256}
            await self._state.call("POST", f"/v1/approvals/{gate}/consume", used)
        resolved = e.NotificationData(user=APPROVER, notification=notification)
        await self._voice.tell(feed, e.NotificationResolved(data=resolved))
        return decision.approved

    async def _end(self) -> None:
        await self._state.call(
            "PATCH", f"/v1/sessions/{self._id}", {"current_task": None, "last_output": {"ok": True}}
        )


async def _converse(voice: Voice, state: State, waits: ApprovalWaits) -> None:
    while True:
        await Session(voice, state, waits).play()
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
        client = stack.enter_context(RestClient(url, api_key=api_key, patience=_BRIEF))
        waits = await stack.enter_async_context(ApprovalWaits(url, token=token))
        voice, state = Voice(publisher, random.Random(seed)), State(client)
        desk = Desk(voice, state)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(desk.work(hub, tasks))
            for _ in range(CONVERSATIONS):
                tasks.create_task(_converse(voice, state, waits))
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
