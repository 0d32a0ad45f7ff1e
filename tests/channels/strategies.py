"""Strategies for what travels: ids, JSON, and any event, made from the annotations."""

from __future__ import annotations

from datetime import UTC

import msgspec
from hypothesis import strategies as st
from msgspec import inspect as shapes

from channels import events
from channels.event import Event
from channels.ids import ID_PATTERN

ID_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.@-"
EVENT_CLASSES = tuple(
    kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
)

ids = st.text(ID_CHARACTERS, min_size=1, max_size=64).filter(lambda id: id not in {".", ".."})
characters = st.characters(codec="utf-8")  # no lone surrogates
texts = st.text(characters, max_size=20)
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
times = st.datetimes(timezones=st.just(UTC))


def of(kind: shapes.Type) -> st.SearchStrategy:
    """Return a strategy for what an annotation allows."""
    match kind:
        case shapes.StrType(pattern=pattern) if pattern == ID_PATTERN:
            return ids
        case shapes.StrType(pattern=None):
            return texts
        case shapes.StrType(pattern=str(pattern)):
            return st.from_regex(pattern, alphabet=characters)
        case shapes.IntType(ge=least, le=most):
            return st.integers(-(2**31) if least is None else least, most or 2**53 - 1)
        case shapes.FloatType(ge=least):
            return st.floats(least, allow_nan=False, allow_infinity=False)
        case shapes.DateTimeType():
            return times
        case shapes.BoolType():
            return st.booleans()
        case shapes.NoneType():
            return st.none()
        case shapes.LiteralType(values=values):
            return st.sampled_from(values)
        case shapes.UnionType(types=types):
            return st.one_of([of(one) for one in types])
        case shapes.ListType(item_type=item):
            return st.lists(of(item), max_size=3)
        case shapes.DictType(value_type=value):
            return st.dictionaries(texts, of(value), max_size=3)
        case shapes.AnyType():
            return json_values
        case shapes.RawType():
            return json_values.map(lambda value: msgspec.Raw(msgspec.json.encode(value)))
        case shapes.StructType(cls=cls, fields=fields):
            given = {one.name: of(one.type) for one in fields if one.required}
            optional = {one.name: of(one.type) for one in fields if not one.required}
            return st.fixed_dictionaries(given, optional=optional).map(lambda all_: cls(**all_))
        case _:
            raise TypeError(f"no strategy for {kind}")


def events_of(kind: type[Event]) -> st.SearchStrategy[Event]:
    """Return a strategy for events of one class, with every field that it may have."""
    return of(shapes.type_info(kind))
