"""`fabric status`: all sessions and who serves them; or one session, agent by agent."""

from __future__ import annotations

import time
from typing import Any

import click

from fabric.cli.connect import Connection, Target, connected, json_option, on_target
from fabric.cli.output import print_json, print_lines
from fabric.ops.overview import GROUPS, Holder, PartitionSummary, partition, sessions
from fabric.view.status import session_lines, todo
from fabric.view.text import ago, table

#: Sessions listed by default: a screenful.
SESSIONS_SHOWN = 40


@click.command()
@click.argument("name", metavar="[SESSION]", required=False)
@on_target("session")
@click.option("--sessions", "every", is_flag=True, help="List sessions even if one is set.")
@click.option(
    "--count", type=click.IntRange(min=1), default=SESSIONS_SHOWN, help="Sessions to list at most."
)
@click.option("--todo", "as_todo", is_flag=True, help="Print the tasks as a todo list, in JSON.")
@json_option
async def status(
    target: Target, name: str | None, every: bool, count: int, as_todo: bool, as_json: bool
) -> None:
    """Show the state of a session: agents by stream, what each one waits for, tasks.

    \b
      fabric status demo          one session
      fabric status --sessions    all sessions, the workers, and how many signals wait

    Without a session (argument, -s or FABRIC_SESSION), all sessions are listed.
    """
    session = None if every else name or target.session
    if as_todo:
        session = target.need("session", session)
    async with connected(target) as connection:
        if not session:
            await _print_overview(connection, count, as_json=as_json)
            return
        reader = connection.session(session)
        await reader.must_exist()
        if as_todo:
            print_json([todo(task) for task in (await reader.tasks()).values()])
            return
        found: dict[str, Any] = {
            "agents": await reader.agents(),
            "dependencies": await reader.dependencies(),
            "tasks": await reader.tasks(),
            "claims": await reader.claims(),
            "barriers": await reader.barriers(),
            "escalations": await reader.escalations(),
        }
    if as_json:
        print_json({"session": session, **found})
    else:
        print_lines(session_lines(session, *found.values()))


async def _print_overview(connection: Connection, count: int, *, as_json: bool) -> None:
    store, partitions = connection.store, connection.partitions
    found = await sessions(store, partitions)
    summaries = [await partition(store, number) for number in range(partitions)]
    if as_json:
        shown = [session._asdict() for session in found[:count]]
        served = [_document(summary) for summary in summaries]
        print_json({"sessions": shown, "sessions_total": len(found), "partitions": served})
        return
    if found:
        listed = found[:count]
        rows = [[one.name, f"{ago(one.active_ms)} ago", str(one.partition)] for one in listed]
        print_lines([*table(("SESSION", "LAST ACTIVE", "PARTITION"), rows), ""])
    else:
        click.echo("no sessions yet", err=True)
    if len(found) > count:
        click.echo(f"{len(found) - count} more sessions (--count)", err=True)
    header = ["PARTITION", "SIGNALS", "RESULTS", "DEAD", *(group.upper() for group in GROUPS)]
    print_lines(table(header, [_row(summary) for summary in summaries]))


def _row(summary: PartitionSummary) -> list[str]:
    held = {holder.group: holder.owner for holder in summary.holders if _is_held(holder)}
    counts = (summary.number, summary.backlog, summary.results, summary.dead)
    return [*map(str, counts), *(held.get(group, "nobody") for group in GROUPS)]


def _document(summary: PartitionSummary) -> dict[str, Any]:
    holders = [{**holder._asdict(), "held": _is_held(holder)} for holder in summary.holders]
    return {**summary._asdict(), "holders": holders}


def _is_held(holder: Holder) -> bool:
    return bool(holder.owner) and holder.expires_ms > time.time() * 1000
