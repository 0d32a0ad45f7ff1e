"""Preparing checks: which rules apply to a caller, kept ready for the next time."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from channels.errors import BadRequest, SettingsError
from services.limits.check import Check
from services.limits.plans import Plans
from services.limits.policy import MAX_SLOTS, Policies, Policy
from services.limits.rule import Rule, rule_of
from services.limits.subjects import Caller, Place, place_of
from services.store.keys import Keys

__all__ = ["Asked", "Checks"]

#: Callers whose checks are kept ready; beyond it the oldest are prepared again.
_MAX_CHECKS: Final = 20_000
_FOREVER: Final = float("inf")
#: Bits of a script's verdict.
_MAX_POLICIES: Final = 16


class Asked(NamedTuple):
    """What a caller said."""

    user: str
    limit_type: str
    endpoint: str
    workspace: str
    address: str
    plan: str
    also: tuple[str, ...]
    agent: str


class Checks:
    """Checks by what was asked."""

    __slots__ = ("_deadline_s", "_forgotten", "_keys", "_plans", "_ready", "_rules", "policies")

    def __init__(
        self, policies: Policies, keys: Keys, plans: Plans | None, deadline_s: float
    ) -> None:
        self.policies = policies
        self._keys = keys
        self._plans = plans
        self._deadline_s = deadline_s
        self._rules: dict[tuple[str, str], Rule | None] = {}
        self._ready: dict[Asked, Check] = {}
        #: How often plans were forgotten: a check that was made meanwhile may be of an old one.
        self._forgotten = 0

    def ready(self, asked: Asked) -> Check | None:
        """Return the check if it is there, and the caller still on the same plan."""
        check = self._ready.get(asked)
        if check is not None and check.until < _FOREVER and check.until <= time.monotonic():
            return None
        return check

    async def prepare(self, asked: Asked) -> Check:
        """Return the check, and have it ready.

        Raises:
            SettingsError: there is no such policy, or one has slots.
            BadRequest: an id is none, or it is not known whom a policy limits.
        """
        policies = [self.policies[name] for name in dict.fromkeys((asked.limit_type, *asked.also))]
        if len(policies) > _MAX_POLICIES:
            raise BadRequest(f"at most {_MAX_POLICIES} policies at once; got {len(policies)}")
        caller = Caller(asked.user, asked.endpoint, asked.workspace, asked.address, asked.agent)
        for policy in policies:
            if policy.algorithm == "slots":
                raise SettingsError(f"policy {policy.name!r} has slots: use slot()")
            place_of(policy, caller, self._keys)  # raises before anybody asks for plans
        plan, until, forgotten = asked.plan, _FOREVER, self._forgotten
        if not plan and self._plans is not None and any(policy.plans for policy in policies):
            plan, until = await self._plans.find(asked.user, asked.workspace)
        found = [
            (rule, place_of(policy, caller, self._keys, rule.family))
            for policy in policies
            if (rule := self._rule(policy, plan)) is not None
        ]
        check = Check(found, deadline_s=self._deadline_s, until=until)
        if forgotten != self._forgotten:
            return check
        if len(self._ready) >= _MAX_CHECKS:
            for old in list(self._ready)[: _MAX_CHECKS // 4]:
                del self._ready[old]
        self._ready[asked] = check
        return check

    async def slot_of(self, name: str, caller: Caller, plan: str) -> tuple[Rule, Place, float]:
        """Return the rule of a policy with slots, where it counts, and its deadline (s).

        Raises:
            SettingsError: there is no such policy, or it has none.
            BadRequest: as :meth:`prepare`.
        """
        policy = self.policies[name]
        if policy.algorithm != "slots":
            raise SettingsError(
                f"policy {name!r} has no slots ({policy.algorithm}): use check_limit"
            )
        place = place_of(policy, caller, self._keys)
        if not plan and self._plans is not None and policy.plans:
            plan, _ = await self._plans.find(caller.user, caller.workspace)
        # A plan without a limit has as many as there can be.
        rule = self._rule(policy, plan) or Rule(policy, MAX_SLOTS, policy.window_s, None)
        ms = policy.deadline_ms
        return rule, place, self._deadline_s if ms is None else ms / 1000

    def forget_plan(self, user: str, workspace: str | None) -> None:
        """Ask again which plan somebody is on."""
        if self._plans is not None:
            self._plans.forget(user, workspace)
            self._ready.clear()
            self._forgotten += 1

    def _rule(self, policy: Policy, plan: str) -> Rule | None:
        """Return the rule on a plan, always the same object: it is compared by identity."""
        plan = plan if plan in policy.plans else ""
        which = policy.name, plan
        if which not in self._rules:
            self._rules[which] = rule_of(policy, plan)
        return self._rules[which]
