"""Onboarding: what a new workspace is led through, step by step, and what it answered.

    onboarding = services.for_workspace("w1").onboarding.with_steps("profile", "voice", "icps")
    await onboarding.start("ann")
    await onboarding.advance("voice", patch={"profile": {"name": "Acme"}})
    await onboarding.complete()

A workspace has one, and its owner is who began it. Its data is a JSON object without a
schema, changed by merge patches. Every change is an event on ``workspace:{workspace}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, cast

import msgspec

from channels.catalogue import WORKSPACE, Channel
from channels.errors import (
    BadRequest,
    Conflict,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    VersionConflict,
)
from channels.event import Event
from channels.events import (
    OnboardingChangeData,
    OnboardingCompleted,
    OnboardingExpired,
    OnboardingReset,
    OnboardingStarted,
    OnboardingUpdated,
    WorkspaceChangeData,
)
from channels.ids import check_id, new_id
from services.auth_session import from_ms
from services.context import Context
from services.documents import (
    MAX_FIELDS,
    Document,
    check_patch,
    needs_reading,
    patch_terms,
    version_pieces,
)
from services.store.script import load_script

__all__ = ["Onboarding", "OnboardingState", "install"]

_FAMILY = "onboarding"
#: How long a change is known by its op id.
_OP_TTL_MS = 86_400_000
_ATTEMPTS = 32
_MAX_EXPIRES_S = 366 * 86_400


class OnboardingState(msgspec.Struct, frozen=True, kw_only=True):
    """An onboarding as of one ``version``, which rises by one with every change of any.

    ``expires_at`` is when it ends by itself unless it is changed before; None for never.
    """

    workspace: str
    user_id: str
    status: Literal["started", "completed"]
    step: str
    data: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None = None
    expires_at: datetime | None = None


class Onboarding:
    """The onboarding of one workspace."""

    __slots__ = ("_change", "_context", "_end", "_start", "_steps", "workspace")

    def __init__(self, context: Context, workspace: str, *, steps: tuple[str, ...] = ()) -> None:
        """Make a view; ``steps`` are the steps there are, in order, or empty for any.

        Raises:
            BadRequest: ``workspace`` or a step is not an id, or a step is named twice.
        """
        self.workspace = check_id(workspace, "workspace")
        for step in steps:
            check_id(step, "step")
        if len(set(steps)) != len(steps):
            raise BadRequest(f"each step is named once; got {', '.join(steps)}")
        self._context = context
        self._steps = steps
        self._start = load_script("onboarding_start")
        self._change = load_script("onboarding_change")
        self._end = load_script("onboarding_end")

    def with_steps(self, *steps: str) -> Onboarding:
        """Return the same onboarding, led through ``steps`` in this order.

        It then begins at the first, goes back to any and on to the next, and is completed
        from the last; anything else is refused.
        """
        return Onboarding(self._context, self.workspace, steps=steps)

    async def start(
        self,
        user_id: str,
        *,
        step: str = "",
        data: Mapping[str, object] | None = None,
        expires_in_s: float | None = None,
    ) -> OnboardingState:
        """Begin the onboarding, or return the one there is, completed or not, whoever's it is.

        With ``expires_in_s`` it ends by itself when nobody changed it for so long, unless it
        was completed. May be repeated.

        Raises:
            BadRequest: an id, the step, the data or the time is out of range.
            LimitExceeded: the data is too large.
            StoreError: it may have begun.
        """
        check_id(user_id, "user")
        step = self._check_step(step) if step else "".join(self._steps[:1])
        if self._steps and step != self._steps[0]:
            raise BadRequest(f"an onboarding begins at {self._steps[0]!r}; got {step!r}")
        if expires_in_s is not None and not 1 <= expires_in_s <= _MAX_EXPIRES_S:
            raise BadRequest(f"expires_in_s is 1 to {_MAX_EXPIRES_S}; got {expires_in_s}")
        patch = check_patch(data or {})
        terms = patch_terms(patch, Document({}, {}))
        template = OnboardingStarted(
            data=OnboardingChangeData(workspace=self.workspace, step=step, patch=patch)
        )
        before, after = version_pieces(template)
        idle_ms = 0 if expires_in_s is None else round(expires_in_s * 1000)
        context, keys = self._context, self._context.keys
        for _ in range(_ATTEMPTS):
            now_ms = context.clock.now_ms()
            if idle_ms:
                await context.sweeper.register(self.workspace, now_ms + idle_ms)
            outcome = await context.changes.run(
                self._start,
                self._channel,
                [keys.onboarding(self.workspace), keys.due(self.workspace)],
                [before, after, now_ms, step, user_id, idle_ms, self._member, *terms],
                event=template.id,
                now_ms=now_ms,
            )
            match outcome.code:
                case 0 | 1:
                    return self._state(Document.read(outcome.values[0]))
                case 2:
                    await self.expire()  # which is told before the new one
                case _:
                    raise LimitExceeded(f"an onboarding has {MAX_FIELDS} fields of data at most")
        raise Conflict("the onboarding ended again and again while it was begun")

    async def get(self, *, user_id: str | None = None) -> OnboardingState | None:
        """Return the onboarding, None where there is none, or where it is another user's.

        Raises:
            StoreError: it could not be read.
        """
        document = await self._read()
        meta = document.meta
        if "z" not in meta or (user_id is not None and user_id != meta["u"]):
            return None
        ends = int(meta["x"])
        if ends and self._context.clock.now_ms() >= ends:
            return None
        return self._state(document)

    async def advance(
        self,
        step: str,
        *,
        patch: Mapping[str, object] | None = None,
        user_id: str | None = None,
        expected_version: int | None = None,
        op_id: str | None = None,
    ) -> OnboardingState:
        """Go to ``step``, with what was answered; return the onboarding as it is then.

        ``patch`` is a JSON merge patch of the data. With an ``op_id`` the call may be repeated
        for a day: it is done once. With a ``user_id`` only the owner's onboarding is changed.

        Raises:
            NotFound: there is none.
            PermissionDenied: it is another user's.
            VersionConflict: it is not at ``expected_version``.
            Conflict: it is completed, or the step is not the next one of those declared.
            BadRequest, LimitExceeded: the step, an id or the patch is out of range.
            StoreUnavailable, StoreRefused: nothing was changed.
            OutcomeUnknown: it may have been changed.
        """
        self._check_step(step)
        sources: tuple[str, ...] = ()
        if self._steps:
            sources = self._steps[max(0, self._steps.index(step) - 1) :]
        return await self._change_to(
            "started", step, sources, patch, user_id, expected_version, op_id
        )

    async def update(
        self,
        patch: Mapping[str, object],
        *,
        user_id: str | None = None,
        expected_version: int | None = None,
        op_id: str | None = None,
    ) -> OnboardingState:
        """Change the data and stay at the step; raises like :meth:`advance`."""
        return await self._change_to("started", "", (), patch, user_id, expected_version, op_id)

    async def complete(
        self,
        *,
        patch: Mapping[str, object] | None = None,
        user_id: str | None = None,
        expected_version: int | None = None,
        op_id: str | None = None,
    ) -> OnboardingState:
        """Say that it is done; from now on it does not change, nor end by itself.

        Raises like :meth:`advance`; ``Conflict`` also from another step than the last one of
        those declared.
        """
        return await self._change_to(
            "completed", "", self._steps[-1:], patch, user_id, expected_version, op_id
        )

    async def reset(
        self, *, user_id: str | None = None, expected_version: int | None = None
    ) -> bool:
        """Forget the onboarding, so that it can begin anew; return whether there was one.

        Raises:
            PermissionDenied: it is another user's.
            VersionConflict: it is not at ``expected_version``.
            StoreError: it may be forgotten; call it again.
        """
        event = OnboardingReset(data=WorkspaceChangeData(workspace=self.workspace))
        code, version = await self._end_by(event, user_id, expected_version, only_due=False)
        match code:
            case 3:
                raise _moved(expected_version, version)
            case 6:
                raise self._anothers(user_id)
        return code == 1

    async def expire(self) -> None:
        """End it if its time is up; the sweeper's work.

        Raises:
            StoreError: it may not have ended.
        """
        event = OnboardingExpired(data=WorkspaceChangeData(workspace=self.workspace))
        await self._end_by(event, None, None, only_due=True)

    # -- within ----------------------------------------------------------------------------

    async def _change_to(
        self,
        status: str,
        step: str,
        sources: tuple[str, ...],
        patch: Mapping[str, object] | None,
        user_id: str | None,
        expected_version: int | None,
        op_id: str | None,
    ) -> OnboardingState:
        plain = check_patch(patch or {})
        if user_id is not None:
            check_id(user_id, "user")
        context = self._context
        keys = [context.keys.onboarding(self.workspace), context.keys.due(self.workspace)]
        if op_id is not None:
            op = f"onboarding:{check_id(op_id, 'op id')}"
            keys.append(context.keys.request_op(self.workspace, op))
        mark = new_id()  # stands for the step, which only the script may know
        data = OnboardingChangeData(workspace=self.workspace, step=mark, patch=plain)
        kind = OnboardingCompleted if status == "completed" else OnboardingUpdated
        template = kind(data=data)
        before, rest = version_pieces(template)
        between, _, after = rest.partition(mark.encode())
        document = await self._read() if needs_reading(plain) else Document({}, {})
        for _ in range(_ATTEMPTS):
            now_ms = context.clock.now_ms()
            outcome = await context.changes.run(
                self._change,
                self._channel,
                keys,
                [
                    *(before, between, after, now_ms),
                    "" if expected_version is None else expected_version,
                    *(_OP_TTL_MS, user_id or "", step, status, self._member),
                    f",{','.join(sources)}," if sources else "",
                    *patch_terms(plain, document),
                ],
                event=template.id,
                now_ms=now_ms,
            )
            document = Document.read(outcome.values[0])
            match outcome.code:
                case 1:
                    return self._state(document)
                case 2 if "z" in document.meta:
                    return self._state(document)
                case 0:
                    continue
                case code:
                    raise self._refusal(code, document, step, user_id, expected_version)
        raise Conflict("others changed the same fields again and again; try again later")

    def _refusal(
        self,
        code: int,
        document: Document,
        step: str,
        user_id: str | None,
        expected_version: int | None,
    ) -> Exception:
        """Return what a code of ``onboarding_change.lua`` means."""
        match code:
            case 3:
                return _moved(expected_version, document.version)
            case 4:
                return LimitExceeded(f"an onboarding has {MAX_FIELDS} fields of data at most")
            case 6:
                return self._anothers(user_id)
            case 7:
                return Conflict(f"the onboarding of {self.workspace!r} is completed")
            case 8:
                at, steps = document.meta["s"], ", ".join(self._steps)
                what = f"go to {step!r}" if step else "be completed"
                return Conflict(f"it is at {at!r} of {steps} and cannot {what} from there")
        return NotFound(f"there is no onboarding of {self.workspace!r}: start one")

    async def _end_by(
        self,
        event: Event,
        user_id: str | None,
        expected_version: int | None,
        *,
        only_due: bool,
    ) -> tuple[int, int]:
        """End it; return the code and the version of ``onboarding_end.lua``."""
        if user_id is not None:
            check_id(user_id, "user")
        context = self._context
        before, after = version_pieces(event)
        now_ms = context.clock.now_ms()
        outcome = await context.changes.run(
            self._end,
            self._channel,
            [context.keys.onboarding(self.workspace), context.keys.due(self.workspace)],
            [
                *(before, after, now_ms, "1" if only_due else "0", self._member),
                user_id or "",
                "" if expected_version is None else expected_version,
            ],
            event=event.id,
            now_ms=now_ms,
        )
        return outcome.code, int(cast(bytes, outcome.values[0]))

    async def _read(self) -> Document:
        key = self._context.keys.onboarding(self.workspace)
        return Document.read(await self._context.store.execute("HGETALL", key))

    def _state(self, document: Document) -> OnboardingState:
        meta = document.meta
        ends = int(meta["x"])
        return OnboardingState(
            workspace=self.workspace,
            user_id=meta["u"],
            status="completed" if meta["z"] == "completed" else "started",
            step=meta["s"],
            data=document.values,
            version=document.version,
            created_at=from_ms(int(meta["c"])),
            updated_at=from_ms(int(meta["t"])),
            completed_at=from_ms(int(meta["d"])) if "d" in meta else None,
            expires_at=from_ms(ends) if ends else None,
        )

    def _check_step(self, step: str) -> str:
        check_id(step, "step")
        if self._steps and step not in self._steps:
            raise BadRequest(f"expected one of the steps {', '.join(self._steps)}; got {step!r}")
        return step

    def _anothers(self, user_id: str | None) -> PermissionDenied:
        return PermissionDenied(
            f"the onboarding of {self.workspace!r} was begun by another than {user_id!r}"
        )

    @property
    def _channel(self) -> Channel:
        return self._context.catalogue.find(WORKSPACE.name(workspace=self.workspace))

    @property
    def _member(self) -> str:
        return self._context.sweeper.member(_FAMILY, self.workspace)


def install(context: Context) -> None:
    """Have an onboarding end that nobody goes on with; once for each context."""

    async def expire(root: str, _id: str) -> None:
        await Onboarding(context, root).expire()

    context.sweeper.handle(_FAMILY, expire)


def _moved(expected: int | None, current: int) -> VersionConflict:
    return VersionConflict(
        f"expected the onboarding at version {expected}; it is at {current}", current
    )
