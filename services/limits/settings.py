"""What an operator says about rate limits: the table ``[limits]`` of ``fanwire.toml``."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from channels.errors import SettingsError
from services.limits.policy import DEFAULT_POLICIES, Policies, Policy

__all__ = ["CONNECTS", "DOORS", "Door", "LimitSettings"]

Door: TypeAlias = Literal["api", "rest", "login", "ticket", "connect"]
#: The hub's doors: ``POST /api/...``, ``/v1/...``, ``POST /v1/auth/sessions`` (log-ins),
#: ``POST /connection/ticket``, and the handshakes of WebSockets and event streams.
DOORS: tuple[Door, ...] = ("api", "rest", "login", "ticket", "connect")

#: Name of the built-in policy of the doors ``ticket`` and ``connect``.
CONNECTS = "connects"
#: How often everybody behind one address may come in a minute. A reverse proxy or the gateway of
#: a large office is one address, and after a restart all its clients come at once, each perhaps
#: for a ticket and again after a failure. So it is three times what a node of the default size
#: holds (``max_connections`` 10,000), all of it at once, and more where a node holds more. What
#: it stops is a client that reconnects without a pause.
_CONNECTS = 30_000
_COMES_A_CLIENT = 3


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Policies, and which of them guard the hub's own doors.

    ``policies`` come beside the built-in ones; one of the same name replaces it. A door without
    policies asks nobody anything. ``trusted_proxies`` (addresses, networks or ``*``) are whose
    ``X-Forwarded-For`` is believed; without them the peer's address counts.
    """

    #: Whether the doors are guarded at all; the service works without.
    on: bool = True
    policies: tuple[Policy, ...] = ()
    api: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()
    login: tuple[str, ...] = ()
    #: Counted by each node for itself: it is the node that is guarded, and Redis is not asked.
    ticket: tuple[str, ...] = (CONNECTS,)
    connect: tuple[str, ...] = (CONNECTS,)
    trusted_proxies: tuple[str, ...] = ()
    #: Whether answers carry ``X-RateLimit-*`` too.
    legacy_fields: bool = False
    #: Subjects whose denial a process remembers, so that Redis is not asked again.
    remembered: int = 10_000

    def __post_init__(self) -> None:
        """Check names and networks; raises ``SettingsError``."""
        policies = Policies(self.all_policies())
        for door in DOORS:
            for name in self.of(door):
                policy = policies[name]
                if policy.algorithm == "slots" or policy.subject in {"workspace", "agent"}:
                    raise SettingsError(
                        f"limits.{door}: expected policies without slots, of users, endpoints, "
                        f"addresses or everybody; got {name!r}"
                    )
        if self.remembered < 0:
            raise SettingsError(f"limits.remembered: expected 0 or more; got {self.remembered}")
        for proxy in self.trusted_proxies:
            if proxy == "*":
                continue
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError as error:
                raise SettingsError(f"limits.trusted_proxies: {error}") from None

    def of(self, door: Door) -> tuple[str, ...]:
        """Return the policies of a door; none when limits are off."""
        names: dict[Door, tuple[str, ...]] = {
            "api": self.api,
            "rest": self.rest,
            "login": self.login,
            "ticket": self.ticket,
            "connect": self.connect,
        }
        return names[door] if self.on else ()

    def for_node(self, max_connections: int) -> LimitSettings:
        """Return the same settings, with room at the doors for so many clients."""
        if any(policy.name == CONNECTS for policy in self.policies):
            return self
        limit = max(_CONNECTS, _COMES_A_CLIENT * max_connections)
        return msgspec.structs.replace(self, policies=(*self.policies, _connects(limit)))

    def all_policies(self) -> Iterable[Policy]:
        """Return the built-in policies and the declared ones."""
        declared = {policy.name for policy in self.policies}
        if len(declared) != len(self.policies):
            return self.policies  # whoever collects them says which
        built_in = [
            one for one in (*DEFAULT_POLICIES, _connects(_CONNECTS)) if one.name not in declared
        ]
        return (*built_in, *self.policies)


def _connects(limit: int) -> Policy:
    return Policy(name=CONNECTS, limit=limit, window_s=60, subject="address", shared=False)
