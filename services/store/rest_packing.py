"""Commands as JSON: text only."""

from __future__ import annotations

from collections.abc import Sequence

from channels.errors import UsageError

from .guard import check_shareable
from .port import Argument

__all__ = ["pack", "pack_arguments"]


def pack(command: Sequence[Argument]) -> list[str]:
    """Return one command, its name in lower case; ``UsageError`` if it cannot be sent."""
    check_shareable(command)
    name, *arguments = pack_arguments(_name(command[0]), command)
    return [name.lower(), *arguments]


def _name(command: Argument) -> str:
    return command.decode("latin-1") if isinstance(command, bytes) else str(command)


def pack_arguments(what: str, arguments: Sequence[Argument]) -> list[str]:
    """Return text only, for an argument of ``what`` each.

    ``UsageError`` for what is no UTF-8, ``TypeError`` for what is no argument. A number in JSON
    would lose digits beyond 2^53 on the way.
    """
    packed = []
    for place, argument in enumerate(arguments):
        match argument:
            case str():
                packed.append(argument)
            case bytes():
                try:
                    packed.append(argument.decode("utf-8"))
                except UnicodeDecodeError:
                    raise UsageError(
                        f"argument {place} of {what} is not UTF-8, and commands travel as JSON "
                        "over REST: encode it, or use the rediss:// address"
                    ) from None
            case int():
                packed.append(str(int(argument)))
            case _:
                raise TypeError(
                    f"expected text, bytes or an integer as argument {place} of {what}, got "
                    f"{type(argument).__name__}"
                )
    if not all(map(_is_sendable, packed)):
        raise UsageError(f"an argument of {what} holds a lone surrogate, which is no text")
    return packed


def _is_sendable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
