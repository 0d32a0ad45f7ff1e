"""Charging what was used, and settling the hold that was made for it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import cast

from channels.errors import Conflict, LimitExceeded, NotFound, StoreUnavailable
from channels.event import encode_event
from channels.events import UsageRecorded, UsageRecordedData
from channels.ids import new_id
from channels.publication import encode_body
from services.budgets import bodies
from services.budgets.ground import KEPT_MS, Ground, surely
from services.budgets.hold import Committed, Hold
from services.store.port import Argument
from services.store.script import load_script
from services.usage.entry import UsageEntry

__all__ = ["Charging"]

_COMMIT = load_script("budget_commit")
_RUNS = 6


class Charging:
    """Commits holds."""

    __slots__ = ("_ground",)

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def commit(
        self,
        hold: Hold,
        *,
        given: bool,
        amount: int | None,
        tokens_input: int,
        tokens_output: int,
        agent: str,
        model: str,
        event_id: str | None,
        occurred_at: datetime | None,
        requests: int,
    ) -> Committed:
        """Charge ``amount``, or what can be known of it, in the accounts of when it was used.

        With ``given`` the hold is the caller's own and is charged although Redis lost it.
        """
        ground, context = self._ground, self._ground.context
        if amount is None and (tokens_input or tokens_output):
            amount = ground.priced(model, tokens_input, tokens_output)
        if amount is None:
            # What nobody can price costs what was set aside for it, never nothing.
            amount = hold.amount_micro_usd
        entry = await ground.usage.entry(
            hold.user,
            hold.workspace,
            tokens_input,
            tokens_output,
            amount,
            agent,
            event_id=event_id or _event_of(hold),
            model=model,
            organisation=hold.organisation,
            occurred_at=occurred_at,
            requests=requests,
        )
        channel, keys = ground.channel(hold.user), context.keys
        now_ms, event = context.clock.now_ms(), new_id()
        charged = {"charged": amount, "tokens": tokens_input + tokens_output}
        released = bodies.released(hold, "committed", event, _time(now_ms), **charged)
        for _ in range(_RUNS):
            charge = await ground.usage.counting.charge(entry)
            at_other_time = charge.month != hold.month
            rules = ground.rules(hold.scopes, {})
            args: list[Argument] = [
                _recorded(entry),
                *context.log.terms(channel, event, now_ms=now_ms),
                *released,
                *(hold.id, hold.day[-2:], KEPT_MS, "".join(hold.pieces()) if given else ""),
                # After nine terms of the contract, and all that stands here before them.
                33 + len(charge.terms),
                *charge.terms,
                *rules,
            ]
            script_keys = [
                keys.hold(hold.user, hold.id),
                *charge.keys,
                *(ground.account_keys(hold.scopes, hold.month) if at_other_time else ()),
            ]
            outcome = await surely(
                lambda keys=script_keys, args=args: context.changes.run(  # type: ignore[misc]
                    _COMMIT, channel, keys, args, event=entry.id, now_ms=now_ms
                )
            )
            if outcome.code == -1:
                await ground.usage.counting.seed(charge, cast("list[int]", outcome.values[0]))
                continue
            if outcome.code == -2:
                raise LimitExceeded("the sums of an account would be larger than 2^53 - 1")
            if outcome.code == -4:
                raise Conflict(
                    f"the event id {entry.id!r} was used for other amounts; nothing was charged,"
                    f" and the hold {hold.id!r} is as it was"
                )
            if outcome.code == 4:
                raise NotFound(f"user {hold.user!r} has no hold {hold.id!r}, or it ended days ago")
            after = Hold.parse(cast(bytes, outcome.values[0]), hold.user, hold.id)
            places = cast("list[int]", outcome.values[1])
            duplicate = bool(outcome.values[2])
            self._count(after, first=outcome.code == 1)
            ground.usage.stats.recorded += not duplicate
            ground.usage.stats.duplicates += duplicate
            if places:
                await ground.usage.tell_thresholds(charge, entry, places)
            return _committed(after, entry.id, duplicate=duplicate)
        raise StoreUnavailable("the accounts are lost as fast as they are made; try again later")

    def _count(self, hold: Hold, *, first: bool) -> None:
        stats = self._ground.stats
        stats.committed += first
        stats.late += first and hold.late
        stats.overage += first and hold.overage_micro_usd > 0


def _committed(hold: Hold, event_id: str, *, duplicate: bool) -> Committed:
    aside = 0 if hold.late else hold.amount_micro_usd
    return Committed(
        hold=hold.name,
        event_id=event_id,
        charged_micro_usd=hold.charged_micro_usd,
        charged_tokens=hold.charged_tokens,
        overage_micro_usd=hold.overage_micro_usd,
        returned_micro_usd=max(0, aside - hold.charged_micro_usd),
        late=hold.late,
        duplicate=duplicate,
    )


def _event_of(hold: Hold) -> str:
    """Return the id of the one event that a hold is charged by, whoever commits it."""
    created = round(hold.created_at.timestamp() * 1000)
    name = f"{hold.name}:{created}".encode("ascii")
    return "hold-" + hashlib.blake2b(name, digest_size=16).hexdigest()


def _recorded(entry: UsageEntry) -> bytes:
    event = UsageRecorded(
        id=entry.id,
        subject=entry.user,
        time=_time(entry.occurred_ms),
        data=UsageRecordedData(
            user=entry.user,
            workspace=entry.workspace,
            tokens_input=entry.tokens_input,
            tokens_output=entry.tokens_output,
            cost_micro_usd=entry.cost_micro_usd,
            agent=entry.agent,
            model=entry.model,
        ),
    )
    return encode_body(encode_event(event))


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
