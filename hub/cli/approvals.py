"""``fanwire approvals``: see what waits for a person's word, and give it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import click

from channels.errors import Conflict
from channels.ids import new_id
from clients import Gap, RestClient, Snapshot, Subscriber

from .interrupts import finish_first
from .options import (
    PATIENCE,
    api_key_option,
    json_option,
    token_option,
    url_option,
    workspace_option,
)
from .printing import EventPrinter, HumanPrinter, JsonPrinter, harmless

__all__ = ["command"]

_F = TypeVar("_F", bound=Callable[..., Any])

_MAX_ARGS = 60
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400

_actor = click.option(
    "--actor", default="", help="Whose word it is; with a token it is its user's."
)
_comment = click.option("--comment", "-m", default="", help="What to say about it.")
_decision = click.option(
    "--id", "decision_id", default="", help="Id of the decision; the same one counts once."
)


def _hub_options(command: _F) -> _F:
    """Say of which workspace, where the hub is, and who asks."""
    return workspace_option(token_option(api_key_option(url_option(command))))


def _decision_options(command: _F) -> _F:
    """Say whose word it is, and what about it."""
    return _comment(_decision(_actor(_hub_options(command))))


class _Gates:
    """The gates of a workspace, over REST."""

    def __init__(self, client: RestClient, workspace: str) -> None:
        self._client = client
        self._query = {"workspace": workspace} if workspace else {}

    def newest(self, status: str, limit: int) -> list[dict[str, Any]]:
        """Return gates, newest first."""
        gates: list[dict[str, Any]] = []
        cursor = ""
        while len(gates) < limit:
            page = self._client.call(
                "GET",
                "/v1/approvals",
                query={
                    **self._query,
                    "status": status,
                    "limit": min(limit - len(gates), 100),
                    "cursor": cursor,
                },
            )
            gates += page["items"]
            cursor = page["next"]
            if not cursor:
                break
        return gates

    def get(self, gate: str) -> dict[str, Any]:
        """Return one gate."""
        found: dict[str, Any] = self._client.call("GET", _path(gate), query=self._query)
        return found

    def audit(self, gate: str) -> list[dict[str, Any]]:
        """Return what was done to it."""
        page = self._client.call("GET", _path(gate) + "/audit", query=self._query)
        entries: list[dict[str, Any]] = page["items"]
        return entries

    def decide(self, gate: str, decision: dict[str, Any]) -> dict[str, Any]:
        """Decide it."""
        path = _path(gate) + "/decision"
        decided: dict[str, Any] = self._client.call("POST", path, decision, query=self._query)
        return decided


def _path(gate: str) -> str:
    return "/v1/approvals/" + quote(gate, safe="")


@click.group("approvals")
def command() -> None:
    """See what waits for a person's word, and give it.

    \b
    Examples:
      fanwire approvals list -w w1
      fanwire approvals approve g1 -w w1 -m "go ahead"
      fanwire approvals watch -w w1
    """


@command.command("list")
@click.option(
    "--status",
    type=click.Choice(["open", "dispatchable", "all"]),
    default="open",
    show_default=True,
    help="Those that wait, those approved and not used, or all.",
)
@click.option("-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True)
@json_option
@_hub_options
def list_(
    *,
    status: str,
    limit: int,
    as_json: bool,
    workspace: str,
    token: str,
    api_key: str,
    url: str,
) -> None:
    """List approval gates, newest first."""
    with _client(url, token, api_key) as client:
        gates = _Gates(client, workspace).newest(status, limit)
    for gate in gates:
        click.echo(_dump(gate) if as_json else _line(gate))
    if not gates and not as_json:
        click.echo("Nothing waits." if status == "open" else "There are none.", err=True)


@command.command("show")
@click.argument("gate")
@json_option
@_hub_options
def show(gate: str, *, as_json: bool, workspace: str, token: str, api_key: str, url: str) -> None:
    """Show one gate: what is asked, by whom, and what was done to it."""
    with _client(url, token, api_key) as client:
        gates = _Gates(client, workspace)
        found, audit = gates.get(gate), gates.audit(gate)
    if as_json:
        click.echo(_dump({**found, "audit": audit}))
        return
    for name, value in found.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        click.echo(f"{name:<16} {harmless(text)}")
    click.echo()
    for entry in audit:
        who = f" by {entry['actor']}" if entry.get("actor") else ""
        click.echo(harmless(f"{entry['at']}  {entry['what']}{who}"))


@command.command("approve")
@click.argument("gate")
@click.option(
    "--args", "edited", metavar="JSON", help="Approve with these arguments instead (an edit)."
)
@click.option("--answer", metavar="JSON", help="An answer that goes with the approval.")
@click.option(
    "--digest",
    default="",
    metavar="SHA256",
    help="Approve these arguments only, as 'show' names them; needed once others edited them.",
)
@_decision_options
def approve(
    gate: str,
    *,
    edited: str | None,
    answer: str | None,
    digest: str,
    comment: str,
    decision_id: str,
    actor: str,
    workspace: str,
    token: str,
    api_key: str,
    url: str,
) -> None:
    """Approve GATE, as asked or with other arguments."""
    if edited is not None and answer is not None:
        raise click.UsageError("an edit is the answer: expected --args or --answer, not both")
    decision: dict[str, Any] = {"verdict": "approve" if edited is None else "edit"}
    if edited is not None:
        decision["payload"] = _parse(edited, "--args")
    if answer is not None:
        decision["payload"] = _parse(answer, "--answer")
    if digest:
        decision["args_sha256"] = digest
    with _client(url, token, api_key) as client:
        _decide(_Gates(client, workspace), gate, decision, comment, decision_id, actor)


@command.command("reject")
@click.argument("gate")
@_decision_options
def reject(
    gate: str,
    *,
    comment: str,
    decision_id: str,
    actor: str,
    workspace: str,
    token: str,
    api_key: str,
    url: str,
) -> None:
    """Reject GATE."""
    with _client(url, token, api_key) as client:
        gates = _Gates(client, workspace)
        _decide(gates, gate, {"verdict": "reject"}, comment, decision_id, actor)


def _decide(
    gates: _Gates, gate: str, decision: dict[str, Any], comment: str, id_: str, actor: str
) -> None:
    """Decide, and say what stands: our word, or whose was first."""
    decision |= {"id": id_ or new_id(), "comment": comment, "actor": actor}
    with finish_first():
        try:
            decided = gates.decide(gate, decision)
        except Conflict as error:
            raise click.ClickException(harmless(_with_winner(error, gates.get(gate)))) from None
    click.echo(_line(decided))


def _with_winner(error: Conflict, gate: dict[str, Any]) -> str:
    won = gate.get("decision")
    if won is None:
        return error.message
    said = f"{error.message}\n{won['actor']} at {won['at']}: {won['verdict']}"
    return f"{said}, {won['comment']!r}" if won.get("comment") else said


@command.command("watch")
@json_option
@click.option("-n", "--count", type=click.IntRange(min=1), help="Stop after this many events.")
@click.option(
    "--workspace",
    "-w",
    envvar="FANWIRE_WORKSPACE",
    show_envvar=True,
    required=True,
    help="The workspace.",
)
@token_option
@url_option
def watch(*, as_json: bool, count: int | None, workspace: str, token: str, url: str) -> None:
    """Show the gates that wait, then what becomes of them, as it happens."""
    asyncio.run(_watch(Subscriber(url, token=token, open_timeout_s=5.0), workspace, count, as_json))


async def _watch(hub: Subscriber, workspace: str, count: int | None, as_json: bool) -> None:  # noqa: FBT001 - one of ours
    printer = (
        JsonPrinter(sys.stdout) if as_json else HumanPrinter(sys.stdout, colour=sys.stdout.isatty())
    )
    left = count if count is not None else sys.maxsize
    async with hub:
        async for item in hub.subscribe(f"approvals:{workspace}", snapshot=True):
            if isinstance(item, Gap):
                printer.gap(item)
            elif isinstance(item, Snapshot):
                _print_open(item, printer, as_json=as_json)
            else:
                printer.event(item)
                left -= 1
                if left == 0:
                    return


def _print_open(snapshot: Snapshot, printer: EventPrinter, *, as_json: bool) -> None:
    """Print the gates that wait now: at the beginning, and after events were missed."""
    if as_json:
        printer.snapshot(snapshot)
        return
    for gate in snapshot.data["gates"]:
        click.echo(_line(gate))
    for gate in snapshot.data.get("brief", []):
        click.echo(_line(gate | {"args": "..."}))
    if more := snapshot.data.get("more", 0):
        click.echo(f"and {more} older ones; see: fanwire approvals list")


def _client(url: str, token: str, api_key: str) -> RestClient:
    return RestClient(url, token=token, api_key=api_key, patience=PATIENCE)


def _parse(text: str, option: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"expected JSON; {error}", param_hint=option) from None


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _line(gate: dict[str, Any]) -> str:
    """Return a gate as one line: id, status, what is asked, by whom, and how long it waits."""
    args = json.dumps(gate.get("proposed") or gate.get("args", {}), ensure_ascii=False)
    if len(args) > _MAX_ARGS:
        args = args[: _MAX_ARGS - 3] + "..."
    status = gate.get("status", "pending")
    parts = [gate["gate"], status, f"{gate['tool']} {args}"]
    if gate.get("requested_by"):
        parts.append(f"by {gate['requested_by']}")
    if status == "pending" and gate.get("expires_at"):
        parts.append(f"ends in {_left(gate['expires_at'])}")
    if gate.get("decision"):
        parts.append(f"decided by {gate['decision']['actor']}")
    return harmless("  ".join(parts))


def _left(time: str) -> str:
    left_s = max(0, int((datetime.fromisoformat(time) - datetime.now(UTC)).total_seconds()))
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "m")):
        if left_s >= 2 * unit_s:
            return f"{left_s // unit_s}{unit}"
    return f"{left_s}s"
