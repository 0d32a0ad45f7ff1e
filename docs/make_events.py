"""Makes ``docs/events.md`` from the declarations and the event classes.

Run it from the root of the repository: ``python -m docs.make_events``.
"""
# ruff: noqa: INP001 - docs is a folder of texts with a script, not a package

from __future__ import annotations

import inspect
import json
import textwrap
from pathlib import Path
from typing import get_type_hints

import msgspec
from msgspec import inspect as shapes

from channels import ChannelDeclaration, Event, event_type, rules
from channels.catalogue import BUILT_IN
from channels.ids import ID_PATTERN

TARGET = Path(__file__).parent / "events.md"

INTRODUCTION = """\
# Channels and events

Made from the classes in `channels/` by `python -m docs.make_events`.

An event is a CloudEvents 1.0 object in JSON: `specversion` "1.0", `id`, `source`, `type`,
`time`, `data`, and `subject` where it helps. The tables say what `data` holds. A field with
`=` may be absent and then has that value; readers ignore fields they do not know. An *id* is
1-64 characters out of `A-Z a-z 0-9 _ . @ -` (but not `.` or `..`), a *time* is RFC 3339 with a
time zone, money is integer micro-USD.

Where a type *conflates by* a field, a reader that is behind may get only its newest event for
each value of the field, and is told how many it did not get
([protocol.md](protocol.md#slow-readers)). Every other event is delivered, or the reader is
disconnected and comes back from where it was.

Who may subscribe and publish is a rule over the caller's token (`&` and, `|` or):

```text
{rules}
```
"""


def make() -> str:
    """Return the text of ``docs/events.md``."""
    nested: dict[str, shapes.StructType] = {}
    told: dict[tuple[type[Event], ...], str] = {}
    sections = [INTRODUCTION.format(rules=_rules())]
    for declaration in BUILT_IN:
        sections.append(_heading(declaration))
        if declaration.events in told:
            sections.append(f"The same events as `{told[declaration.events]}`.\n")
        else:
            told[declaration.events] = declaration.pattern
            rows = [_event(kind, nested) for kind in declaration.events]
            sections.append(_table(("type", "fields of `data`", "what"), rows))
            if notes := _notes(declaration.events):
                sections.append(notes)
    if nested:
        rows = [
            f"| `{name}` | {_fields(kind, nested)} | {_line(kind.cls)} |"
            for name, kind in sorted(nested.items())
        ]
        sections.append("## Structures inside\n")
        sections.append(_table(("structure", "fields", "what"), rows))
    return "\n".join(sections)


def _rules() -> str:
    paragraphs = inspect.cleandoc(rules.__doc__ or "").split("\n\n")
    return textwrap.dedent(paragraphs[2]).replace("``", "")


def _heading(declaration: ChannelDeclaration) -> str:
    history = declaration.history
    return (
        f"## `{declaration.pattern}`\n\n"
        f"{declaration.description} "
        f"Subscribe: `{declaration.subscribe.text}`. Publish: `{declaration.publish.text}`. "
        f"History: {history.size:,} publications, {_duration(history.ttl_s)} after the last.\n"
    )


def _event(kind: type[Event], nested: dict[str, shapes.StructType]) -> str:
    data = shapes.type_info(_data_class(kind))
    fields = _fields(data, nested) if isinstance(data, shapes.StructType) else _type(data, nested)
    conflates = f" Conflates by `{kind.conflate_by}`." if kind.conflate_by else ""
    return f"| `{event_type(kind)}` | {fields} | {_line(kind)}{conflates} |"


def _data_class(kind: type[Event]) -> type:
    found: type = get_type_hints(kind)["data"]
    return found


def _notes(kinds: tuple[type[Event], ...]) -> str:
    """Return what the data classes say of their fields, each said once."""
    types: dict[type, list[str]] = {}
    for kind in kinds:
        for cls in reversed(_data_class(kind).__mro__):
            if issubclass(cls, msgspec.Struct) and cls is not msgspec.Struct:
                types.setdefault(cls, []).append(f"`{event_type(kind)}`")
    lines = []
    for cls, names in types.items():
        label = "All" if len(names) == len(kinds) > 1 else ", ".join(names)
        lines.append(f"- {label}: {_line(cls)}\n")
    return "".join(lines)


def _fields(kind: shapes.StructType, nested: dict[str, shapes.StructType]) -> str:
    return ", ".join(_field(field, nested) for field in kind.fields)


def _field(field: shapes.Field, nested: dict[str, shapes.StructType]) -> str:
    text = f"`{field.encode_name}` {_type(field.type, nested)}"
    if field.required:
        return text
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"{text} = `{json.dumps(default)}`"


_WORDS: dict[type[shapes.Type], str] = {
    shapes.AnyType: "any JSON",
    shapes.BoolType: "true or false",
    shapes.DateTimeType: "time",
    shapes.FloatType: "number",
    shapes.IntType: "integer",
    shapes.NoneType: "null",
    shapes.RawType: "any JSON",
    shapes.StrType: "text",
}


def _type(kind: shapes.Type, nested: dict[str, shapes.StructType]) -> str:  # noqa: PLR0911 - one return a kind
    match kind:
        case shapes.StrType(pattern=pattern) if pattern == ID_PATTERN:
            return "id"
        case shapes.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case shapes.UnionType(types=types):
            return " or ".join(_type(one, nested) for one in types)
        case shapes.ListType(item_type=item):
            return f"list of {_type(item, nested)}"
        case shapes.DictType(value_type=shapes.AnyType()):
            return "object"
        case shapes.DictType(value_type=value):
            return f"object of {_type(value, nested)}"
        case shapes.StructType(cls=cls):
            nested[cls.__name__] = kind
            return f"`{cls.__name__}`"
        case _:
            return _WORDS[type(kind)]


def _line(kind: type) -> str:
    """Return what the docstring of ``kind`` says, on one line of Markdown."""
    return " ".join((kind.__doc__ or "").split()).replace("``", "`").replace("|", "\\|")


def _table(columns: tuple[str, ...], rows: list[str]) -> str:
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    return "\n".join([head, *rows, ""])


def _duration(seconds: int) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        count, rest = divmod(seconds, length)
        if count and not rest:
            return f"{count} {unit if count > 1 else unit.removesuffix('s')}"
    return f"{seconds} seconds"


if __name__ == "__main__":
    TARGET.write_text(make(), encoding="utf-8")
