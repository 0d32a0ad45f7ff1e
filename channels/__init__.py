"""The vocabulary: events, channel declarations, positions, identity, wire structs, errors.

Everything here is data and decisions about data: no I/O, nothing but the standard library
and msgspec. The other three folders import it; it imports none of them.
"""

from .catalogue import Catalogue, Channel
from .declaration import ChannelDeclaration, History, check_channel
from .errors import FanwireError
from .event import Event, encode_event, event_type
from .identity import ANONYMOUS, Identity
from .ids import Id, check_id, new_id
from .position import Position
from .publication import Publication
from .rules import Rule

__all__ = [
    "ANONYMOUS",
    "Catalogue",
    "Channel",
    "ChannelDeclaration",
    "Event",
    "FanwireError",
    "History",
    "Id",
    "Identity",
    "Position",
    "Publication",
    "Rule",
    "check_channel",
    "check_id",
    "encode_event",
    "event_type",
    "new_id",
]
