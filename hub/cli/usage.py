"""``fanwire usage``: what was used, day by day, and what may still be."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any
from urllib.parse import quote

import click

from channels.errors import UsageError
from channels.scope import Scope
from clients import RestClient

from .chart import Row, bars, count, usd
from .options import PATIENCE, api_key_option, json_option, token_option, url_option
from .printing import harmless

__all__ = ["command"]

_BREAKDOWNS = ("agent", "model", "workspace")
_MAX_WIDTH = 100


@click.command("usage")
@click.argument("scope", metavar="SCOPE")
@click.option("--since", default="", metavar="DAY", help="First day, YYYY-MM-DD (30 days before).")
@click.option("--until", default="", metavar="DAY", help="Last day, YYYY-MM-DD (today).")
@click.option(
    "--by",
    type=click.Choice(["day", *_BREAKDOWNS, "user"]),
    default="day",
    show_default=True,
    help="What a bar is. Agents, models and workspaces are those of a user; users those of others.",
)
@click.option("--tokens", is_flag=True, help="Bars are tokens, not money.")
@click.option("-n", "--limit", type=click.IntRange(1, 1_000), default=20, show_default=True)
@click.option("--budget/--no-budget", default=True, help="Show what may still be used.")
@json_option
@token_option
@api_key_option
@url_option
def command(
    scope: str,
    *,
    since: str,
    until: str,
    by: str,
    tokens: bool,
    limit: int,
    budget: bool,
    as_json: bool,
    token: str,
    api_key: str,
    url: str,
) -> None:
    """Show what SCOPE used: user:ID, workspace:ID or org:ID (an ID alone is a user's).

    \b
    Examples:
      fanwire usage ann
      fanwire usage ann --by model --since 2026-11-01
      fanwire usage workspace:w1 --by user --tokens
    """
    whose = Scope.parse(scope if ":" in scope else f"user:{scope}")
    if by == "user" and whose.kind == "user":
        raise UsageError("a user is one user: --by user is for workspaces and organisations")
    if by in _BREAKDOWNS and whose.kind != "user":
        raise UsageError(f"--by {by} is for users; of {whose} there are days and users")
    asked = {"since": since, "until": until}
    with RestClient(url, token=token, api_key=api_key, patience=PATIENCE) as client:
        base = f"/v1/usage/{whose.kind}/{quote(whose.id, safe='')}"
        usage = client.call("GET", base, query=_named(asked))
        users: list[dict[str, Any]] = []
        if by == "user":
            query = _named({**asked, "limit": limit})
            users = client.call("GET", f"{base}/users", query=query)
        left: dict[str, Any] = {}
        if budget:
            left = client.call("GET", f"/v1/budgets/{whose.kind}/{quote(whose.id, safe='')}")
    if as_json:
        whole = {**usage, **({"users": users} if by == "user" else {})}
        if budget:
            whole["budget"] = left
        click.echo(json.dumps(whole, ensure_ascii=False, separators=(",", ":")))
        return
    _show(whose, usage, _rows(usage, users, by, tokens=tokens)[:limit], left)


def _named(query: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items() if value != ""}


def _rows(
    usage: dict[str, Any], users: list[dict[str, Any]], by: str, *, tokens: bool
) -> list[Row]:
    """Return a row for each bar: days in their order (the latest first), others by size."""
    if by == "day":
        return [_row(day["date"], day, tokens=tokens) for day in reversed(usage["days"])]
    if by == "user":
        return [_row(user["user"], user, tokens=tokens) for user in users]
    sums: dict[str, dict[str, int]] = {}
    for day in usage["days"]:
        for name, amounts in day.get(f"{by}s", {}).items():
            known = sums.setdefault(name, {})
            for field in ("cost_micro_usd", "tokens_input", "tokens_output", "requests"):
                known[field] = known.get(field, 0) + amounts.get(field, 0)
    rows = [_row(name, amounts, tokens=tokens) for name, amounts in sums.items()]
    return sorted(rows, key=lambda row: row.value, reverse=True)


def _row(label: str, amounts: dict[str, Any], *, tokens: bool) -> Row:
    used = _tokens(amounts)
    value = used if tokens else amounts.get("cost_micro_usd", 0)
    return Row(harmless(label), value, _text(amounts))


def _text(amounts: dict[str, Any]) -> str:
    money = usd(amounts.get("cost_micro_usd", 0))
    return (
        f"{money:>10} {count(_tokens(amounts)):>6} tokens {count(amounts.get('requests', 0)):>5}x"
    )


def _tokens(amounts: dict[str, Any]) -> int:
    used: int = amounts.get("tokens_input", 0) + amounts.get("tokens_output", 0)
    return used


def _show(whose: Scope, usage: dict[str, Any], rows: list[Row], left: dict[str, Any]) -> None:
    width = min(shutil.get_terminal_size((80, 24)).columns, _MAX_WIDTH)
    plain = not _speaks_unicode()
    click.echo(f"{whose}, {usage['since']} to {usage['until']}")
    for line in bars(rows, width=width, plain=plain):
        click.echo(line)
    if not rows:
        click.echo("nothing was used")
    click.echo(f"in all {_text(usage).strip()}")
    if not usage.get("complete", True):
        click.echo("the database is away: older days may be missing", err=True)
    for name, unit in (("month", "micro_usd"), ("day", "tokens")) if left else ():
        if line := _budget(left[name], unit):
            click.echo(line)


def _budget(line: dict[str, Any], unit: str) -> str:
    """Return what is left of a limit; nothing where there is none."""
    limit = line["limit"]
    if limit is None:
        return ""
    text = usd if unit == "micro_usd" else count
    share = f", {line['spent'] * 100 // limit} % used" if limit else ""
    reserved = f", {text(line['reserved'])} reserved" if line["reserved"] else ""
    what = "" if unit == "micro_usd" else " tokens"
    return (
        f"budget {line['period']}: {text(line['remaining'])} of {text(limit)}{what} left"
        f"{share}{reserved}"
    )


def _speaks_unicode() -> bool:
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        "█▏".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
