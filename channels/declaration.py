"""A channel declaration: everything the hub knows about one kind of channel.

One declaration gives the pattern that recognises a channel's name and the formatter that
builds it, the events it carries, who may do what, and how much history is kept.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from .conflation import check_conflation_of
from .errors import BadRequest, SettingsError
from .event import Event, EventDecoder
from .ids import ID_PATTERN, check_id
from .rules import Rule

__all__ = ["MAX_CHANNEL_LENGTH", "ChannelDeclaration", "History", "check_channel"]

#: Longest channel name, in characters; the same limit as Centrifugo's.
MAX_CHANNEL_LENGTH = 255

# Printable ASCII without what has a meaning elsewhere: whitespace and commas (SSE frames of
# Redis subscriptions), braces (Cluster hash tags), quotes and backslash (JSON), globs.
_is_channel = re.compile(r"\A[A-Za-z0-9_.@:#$/&=+!~%-]{1,255}\Z").match

_PARAM = re.compile(r"\{([a-z_]+)\}")
_ID_BODY = ID_PATTERN.removeprefix(r"\A").removesuffix(r"\Z")
_OUTSIDE_IDS = re.compile(r"[^A-Za-z0-9_.@-]")


def check_channel(name: str) -> str:
    """Return ``name`` if any channel, declared or not, could be called so.

    Raises:
        BadRequest: it is not 1-255 of the characters that channel names are made of.
    """
    if not _is_channel(name):
        raise BadRequest(
            f"a channel name is 1-{MAX_CHANNEL_LENGTH} characters out of letters, digits and "
            f"_ . @ : # $ / & = + ! ~ % - ; got {name[:80]!r}"
            + (f" and {len(name) - 80} more" if len(name) > 80 else "")
        )
    return name


class History(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of a channel's past can be recovered.

    The log keeps the newest ``size`` publications, and is dropped as a whole ``ttl_s``
    seconds, or one more, after the last one. Size 0 keeps none: subscribers then cannot
    recover.
    """

    size: Annotated[int, Meta(ge=0, le=100_000)] = 2_000
    ttl_s: Annotated[int, Meta(ge=1, le=30 * 86_400)] = 300


class ChannelDeclaration:
    """One kind of channel.

    ``pattern`` is literal text with ``{parameters}``, such as ``session:{workspace}:{session}``;
    every parameter is an id, and between two of them stands something that no id contains, so
    that a name has one reading. The namespace is literal.

    ``root`` names the parameter of the aggregate the channel belongs to: its log lives in that
    aggregate's hash slot, so that one script can change the aggregate and append the event.
    Without ``events`` the channel carries any JSON.
    """

    __slots__ = (
        "_decoder",
        "_regex",
        "description",
        "events",
        "history",
        "join_leave",
        "params",
        "pattern",
        "presence",
        "publish",
        "root",
        "subscribe",
    )

    def __init__(
        self,
        pattern: str,
        *,
        root: str | None = None,
        events: tuple[type[Event], ...] = (),
        subscribe: str = "nobody",
        publish: str = "nobody",
        history: History | None = None,
        presence: bool = False,
        join_leave: bool = False,
        description: str = "",
    ) -> None:
        """Declare a channel.

        Raises:
            SettingsError: the pattern has no literal namespace or more than one reading,
                ``root`` or a rule names a parameter it does not have, a rule is unknown, or
                an event conflates by what it does not have.
        """
        self.pattern = pattern
        self.params = tuple(_PARAM.findall(pattern))
        self.root = root
        self.events = events
        self.subscribe = Rule(subscribe)
        self.publish = Rule(publish)
        self.history = history or History()
        self.presence = presence
        self.join_leave = join_leave
        self.description = description
        self._check()
        parts = _PARAM.split(pattern)
        self._regex = re.compile(
            "".join(
                f"(?P<{part}>{_ID_BODY})" if index % 2 else re.escape(part)
                for index, part in enumerate(parts)
            )
        )
        self._decoder = EventDecoder(events) if events else None

    def _check(self) -> None:
        namespace, _, rest = self.pattern.partition(":")
        if not (namespace and rest and _is_channel(f"{namespace}:{_PARAM.sub('x', rest)}")):
            raise SettingsError(
                f"channel pattern {self.pattern!r}: expected 'namespace:rest', where the rest "
                "is literal text and {parameters} in lower case"
            )
        between = _PARAM.split(self.pattern)[2:-1:2]
        if not all(map(_OUTSIDE_IDS.search, between)):
            raise SettingsError(
                f"channel pattern {self.pattern!r} has more than one reading: put a ':' or "
                "another character that no id contains between two parameters"
            )
        if len(set(self.params)) != len(self.params):
            raise SettingsError(f"channel pattern {self.pattern!r} names a parameter twice")
        needed = self.subscribe.needs | self.publish.needs | ({self.root} if self.root else set())
        if missing := sorted(needed.difference(self.params)):
            raise SettingsError(
                f"channel pattern {self.pattern!r} has no parameter {{{missing[0]}}}, "
                "which its root or one of its rules needs"
            )
        for kind in self.events:
            check_conflation_of(kind)

    def __repr__(self) -> str:
        return f"ChannelDeclaration({self.pattern!r})"

    @property
    def shape(self) -> str:
        """The pattern without the names of its parameters: what two declarations cannot share."""
        return _PARAM.sub("{}", self.pattern)

    @property
    def namespace(self) -> str:
        """The text before the first ``:``; declarations are found by it."""
        return self.pattern.split(":", 1)[0]

    def match(self, name: str) -> dict[str, str] | None:
        """Return the parameters in ``name``, or None when it is not such a channel."""
        found = self._regex.fullmatch(name) if len(name) <= MAX_CHANNEL_LENGTH else None
        return None if found is None else found.groupdict()

    def name(self, /, **params: str) -> str:
        """Return the channel's name for these parameters.

        Raises:
            BadRequest: a parameter is missing, unknown, or not an id, or the name is longer
                than 255 characters.
        """
        if set(params) != set(self.params):
            raise BadRequest(
                f"{self.pattern} takes {', '.join(self.params) or 'no parameters'}; "
                f"got {', '.join(params) or 'none'}"
            )
        for param, value in params.items():
            check_id(value, param)
        return check_channel(self.pattern.format_map(params))

    def check_data(self, data: bytes) -> Event | None:
        """Return the event in ``data``, or None when the channel carries any JSON.

        ``data`` has passed :func:`~channels.publication.check_json`, which sees more: what an
        event carries verbatim is looked at for its structure only.

        Raises:
            BadRequest: the channel does not carry such an event.
        """
        return None if self._decoder is None else self._decoder.decode(data)
