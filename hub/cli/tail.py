"""``fanwire tail``: print events as they come."""

from __future__ import annotations

import asyncio
import io
import sys
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeAlias

import click

from channels import Position
from clients import Delivery, Gap, Snapshot, Subscriber

from .options import parse_duration, url_option
from .printing import EventPrinter, HumanPrinter, JsonPrinter, event_time

__all__ = ["command"]

#: Publications that one page of history holds.
_PAGE = 500


class _Past(NamedTuple):
    """What the log still has: all of it, or what happened since ``oldest``."""

    oldest: datetime | None


_Since: TypeAlias = _Past | Position | None


def _parse_since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> _Since:
    if value is None:
        return None
    if value in {"0", "all"}:
        return _Past(None)
    epoch, colon, offset = value.rpartition(":")
    if colon and epoch and offset.isascii() and offset.isdigit() and len(offset) <= 15:
        return Position(epoch, int(offset))
    try:
        age = timedelta(seconds=parse_duration(value))
        return _Past(datetime.now(UTC) - age)
    except (click.BadParameter, OverflowError):
        raise click.BadParameter(
            f"expected epoch:offset, 'all' (or 0), or a duration such as 5m; got {value!r}"
        ) from None


@click.command("tail")
@click.argument("channels", metavar="CHANNEL...", nargs=-1, required=True)
@click.option(
    "--since",
    callback=_parse_since,
    metavar="WHERE",
    help="Begin in the past: after epoch:offset, with 'all' (or 0) that the log still has, "
    "or with what happened in the last 30s, 5m, 2h, 1d.",
)
@click.option(
    "--snapshot",
    is_flag=True,
    help="Begin with the state behind each channel, and print it again after each gap.",
)
@click.option("--json", "as_json", is_flag=True, help="One compact JSON object a line.")
@click.option("-n", "--count", type=click.IntRange(min=1), help="Stop after this many events.")
@click.option(
    "--token", envvar="FANWIRE_TOKEN", show_envvar=True, default="", help="Connection token."
)
@url_option
def command(
    channels: tuple[str, ...],
    *,
    since: _Since,
    snapshot: bool,
    as_json: bool,
    count: int | None,
    token: str,
    url: str,
) -> None:
    """Print the events of CHANNELs as they come, until interrupted.

    The connection is made anew when it is lost, without losing events; where some are lost
    all the same, a line says so. With --since and several channels, the past of each comes
    in turn. A duration goes by the time that an event carries; what carries none is shown.

    \b
    Examples:
      fanwire tail session:w1:s1 approvals:w1
      fanwire tail approvals:w1 --snapshot
      fanwire tail log:git --since all --json -n 10 | jq .data
    """
    names = tuple(dict.fromkeys(channels))
    if isinstance(since, Position) and len(names) > 1:
        raise click.UsageError("a position belongs to one channel; --since all or 5m fits several")
    if snapshot and since is not None:
        raise click.UsageError(
            "--snapshot begins with the present, --since in the past: choose one"
        )
    if as_json and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON is, whatever the locale
    printer = (
        JsonPrinter(sys.stdout) if as_json else HumanPrinter(sys.stdout, colour=_wants_colour())
    )
    hub = Subscriber(url, token=token, open_timeout_s=5.0)
    asyncio.run(_tail(hub, names, since, printer, count, snapshot=snapshot))


def _wants_colour() -> bool:
    context = click.get_current_context()
    return sys.stdout.isatty() if context.color is None else context.color


async def _tail(
    hub: Subscriber,
    channels: tuple[str, ...],
    since: _Since,
    printer: EventPrinter,
    count: int | None,
    *,
    snapshot: bool,
) -> None:
    left = count if count is not None else sys.maxsize
    positions: dict[str, Position] = {}
    if isinstance(since, Position):
        positions[channels[0]] = since
    async with hub:
        if isinstance(since, _Past):
            for channel in channels:
                left, positions[channel] = await _print_past(hub, channel, since, printer, left)
                if left == 0:
                    return
        async for item in hub.subscribe(*channels, since=positions, snapshot=snapshot):
            if isinstance(item, Gap):
                printer.gap(item)
                continue
            if isinstance(item, Snapshot):
                printer.snapshot(item)
                continue
            printer.event(item)
            left -= 1
            if left == 0:
                return


async def _print_past(
    hub: Subscriber, channel: str, past: _Past, printer: EventPrinter, left: int
) -> tuple[int, Position]:
    """Print what the log holds; return how many may still be printed, and where it ends."""
    since: Position | None = None
    while True:
        page, top = await hub.history(channel, limit=_PAGE, since=since)
        for delivery in page:
            if _is_wanted(delivery, past.oldest):
                printer.event(delivery)
                left -= 1
                if left == 0:
                    return 0, delivery.position
        if not page:
            return left, top
        since = page[-1].position
        if since == top:
            return left, top


def _is_wanted(delivery: Delivery, oldest: datetime | None) -> bool:
    if oldest is None:
        return True
    time = event_time(delivery)
    return time is None or time >= oldest
