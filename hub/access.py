"""Who may do what on which channel."""

from __future__ import annotations

from channels.catalogue import Catalogue, Channel
from channels.errors import PermissionDenied
from channels.identity import Identity
from channels.rules import Rule

__all__ = ["Access"]


class Access:
    """The rules of the catalogue, or none of them when the hub is insecure."""

    __slots__ = ("_catalogue", "insecure")

    def __init__(self, catalogue: Catalogue, *, insecure: bool = False) -> None:
        self._catalogue = catalogue
        self.insecure = insecure

    def to_subscribe(self, identity: Identity, name: str) -> Channel:
        """Return the channel if ``identity`` may subscribe to it and read its history.

        Raises:
            BadRequest, UnknownChannel: there is no such channel.
            PermissionDenied: the channel's rule does not allow it.
        """
        channel = self._catalogue.find(name)
        self._check(channel.declaration.subscribe, identity, channel, "subscribe to")
        return channel

    def to_publish(self, identity: Identity, name: str) -> Channel:
        """Return the channel if ``identity`` may publish to it; raises like to_subscribe."""
        channel = self._catalogue.find(name)
        self._check(channel.declaration.publish, identity, channel, "publish to")
        return channel

    def _check(self, rule: Rule, identity: Identity, channel: Channel, verb: str) -> None:
        if self.insecure or rule.allows(identity, channel.params):
            return
        who = f"user {identity.user!r}" if identity.user else "an anonymous caller"
        raise PermissionDenied(f"{who} may not {verb} {channel.name!r}: the rule is {rule.text!r}")
