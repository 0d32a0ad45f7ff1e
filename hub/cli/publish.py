"""``fanwire publish``: one event from the command line, or one a line from standard input."""

from __future__ import annotations

import sys

import click
from msgspec import Raw

from channels import FanwireError
from channels.conflation import check_conflation_key
from channels.errors import BadRequest, LimitExceeded
from channels.publication import check_json
from clients import Publisher

from .interrupts import finish_first
from .lines import Line, read_batches
from .options import PATIENCE, api_key_option, url_option
from .progress import Progress

__all__ = ["command"]


@click.command("publish")
@click.argument("channel")
@click.argument("data", metavar="JSON|-")
@click.option("--key", metavar="ID", help="Idempotency key: the same key publishes once.")
@click.option(
    "--conflate",
    metavar="KEY",
    help="Readers that are behind get only the newest event with this key.",
)
@click.option("-q", "--quiet", is_flag=True, help="No position, no count, no summary.")
@url_option
@api_key_option
def command(
    channel: str,
    data: str,
    *,
    key: str | None,
    conflate: str | None,
    quiet: bool,
    url: str,
    api_key: str,
) -> None:
    """Publish JSON on CHANNEL, or with - every line of standard input.

    With JSON the position of the publication (epoch:offset) is printed.

    With - a line that is JSON is published as it is; any other line as {"line": "..."};
    blank lines are skipped; bytes that are not UTF-8 are replaced. Lines travel in batches
    of up to 100, none of which waits longer than 50 ms, and in order. The first line that
    is refused stops the command; of its batch the lines after it may have gone out. A hub
    that goes away in between is awaited for 15 s, one that was never there for 2 s.

    \b
    Examples:
      fanwire publish news:today '{"headline": "Hello"}'
      git log --oneline | fanwire publish log:git -
      vmstat 1 | fanwire publish host:load - --conflate vmstat
    """
    if conflate is not None:
        try:
            check_conflation_key(conflate)
        except BadRequest as error:
            raise click.BadParameter(error.message, param_hint="--conflate") from None
    with Publisher(url, api_key=api_key, patience=PATIENCE) as publisher:
        if data == "-":
            if key is not None:
                raise click.UsageError("--key names one publication; with - there are many")
            _publish_lines(publisher, channel, conflate, quiet=quiet)
        else:
            position = publisher.publish(
                channel, _json_argument(data), idempotency_key=key, conflate=conflate
            )
            if not quiet:
                click.echo(f"{position.epoch}:{position.offset}")


def _json_argument(text: str) -> Raw:
    try:
        return Raw(check_json(text.encode("utf-8", "surrogateescape")))
    except (BadRequest, LimitExceeded) as error:
        raise click.BadParameter(
            f"{error} (a text is JSON in double quotes: '\"hello\"')", param_hint="JSON"
        ) from None


def _publish_lines(
    publisher: Publisher, channel: str, conflate: str | None, *, quiet: bool
) -> None:
    progress = Progress(sys.stderr, quiet=quiet)
    try:
        for batch in read_batches(sys.stdin.fileno()):
            with finish_first():
                _publish_batch(publisher, channel, conflate, batch, progress)
    finally:
        progress.finish(channel)


def _publish_batch(
    publisher: Publisher,
    channel: str,
    conflate: str | None,
    batch: list[Line],
    progress: Progress,
) -> None:
    bad = next((place for place, line in enumerate(batch) if line.error is not None), len(batch))
    good = batch[:bad]
    outcomes = publisher.publish_many([(channel, line.data) for line in good], conflate=conflate)
    progress.replaced += sum(line.replaced for line in good)
    progress.add(sum(not isinstance(outcome, FanwireError) for outcome in outcomes))
    failures = [
        (line.number, outcome)
        for line, outcome in zip(good, outcomes, strict=True)
        if isinstance(outcome, FanwireError)
    ]
    failures += [(line.number, line.error) for line in batch[bad:] if line.error is not None]
    for number, error in failures:
        raise click.ClickException(
            f"line {number}: {error.message} ({progress.count:,} events went out)"
        )
