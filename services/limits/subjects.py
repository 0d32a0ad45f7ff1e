"""Who is limited: the key of a policy for one caller."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import NamedTuple

from channels.errors import BadRequest
from channels.ids import check_id
from services.limits.policy import Policy
from services.store.keys import Keys

__all__ = ["Caller", "Place", "network_of", "place_of"]

#: What a provider gives one customer at least; its owner has all addresses in it.
_IPV6_PREFIX = 64
#: Root of what belongs to everybody. No id begins so.
_ALL = "~all"
_MAX_NAME = 4_096


class Caller(NamedTuple):
    """Who asks for what; what is empty is not known."""

    user: str = ""
    endpoint: str = "default"
    workspace: str = ""
    address: str = ""
    agent: str = ""


class Place(NamedTuple):
    """Where a policy counts a caller; ``user`` hears when the limit is reached, if anybody."""

    key: str
    user: str = ""


def place_of(policy: Policy, caller: Caller, keys: Keys, family: str = "") -> Place:
    """Return where ``policy`` counts ``caller``; ``family`` is the rule's, its name unless given.

    Raises:
        BadRequest: it is not known whom the policy limits, or an id is none.
    """
    name, subject = family or policy.name, policy.subject
    if subject == "global":
        return Place(keys.rate_limit(_ALL, name))
    if subject == "workspace":
        workspace = _known(caller.workspace, policy, "workspace=")
        return Place(keys.rate_limit(check_id(workspace, "workspace"), name))
    if subject == "address":
        address = _known(caller.address, policy, "address=")
        return Place(keys.rate_limit(_root_of_address(address), name))
    detail = ""
    if subject == "endpoint":
        detail = _detail(caller.endpoint, "endpoint")
    elif subject == "agent":
        detail = _detail(_known(caller.agent, policy, "agent="), "agent")
    if caller.user:
        return Place(keys.rate_limit(check_id(caller.user, "user"), name, detail), caller.user)
    address = _known(caller.address, policy, "user_id, or address= of a caller without one")
    return Place(keys.rate_limit(_root_of_address(address), name, detail))


def _known(value: str, policy: Policy, expected: str) -> str:
    if not value:
        raise BadRequest(
            f"policy {policy.name!r} is one for each {policy.subject}: expected {expected}"
        )
    return value


def network_of(address: str) -> str:
    """Return what stands for everybody at ``address``: itself, or its /64 for IPv6.

    What is no address stands for itself.
    """
    try:
        found = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    mapped = found.ipv4_mapped
    if mapped is not None:
        return str(mapped)
    return str(ipaddress.ip_network((found, _IPV6_PREFIX), strict=False))


def _root_of_address(address: str) -> str:
    return "~" + _digest(network_of(address[:_MAX_NAME]))


def _detail(text: str, what: str) -> str:
    """Return ``text`` if it is an id, else what stands for it: a path may hold anything."""
    try:
        return check_id(text, what)
    except BadRequest:
        if len(text) > _MAX_NAME:
            raise BadRequest(f"{what} has {len(text)} characters; at most {_MAX_NAME}") from None
        return "~" + _digest(text)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
