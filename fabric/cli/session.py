"""`fabric status`: a session now; or all sessions, and who serves them."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import asdict
from shutil import get_terminal_size
from typing import Any

import click
import msgspec

from fabric.cli.connect import Connection, Target, connected, json_option, on_session
from fabric.cli.output import json_line, note, print_either, print_json, print_lines
from fabric.config import rulebook
from fabric.core.rules import Rules
from fabric.errors import ConfigError
from fabric.ops.overview import GROUPS, PartitionSummary, partition, sessions
from fabric.ops.unread import unread
from fabric.view.progress import Stand
from fabric.view.status import session_lines, todo
from fabric.view.text import plain, span, table
from fabric.watch.display import NO_RICH, has_rich, live_display
from fabric.watch.follow import TaskFollower
from fabric.watch.frame import text_of
from fabric.watch.tasks import LINE_CHARS_MAX, PlainTasks, TaskBoard, TaskNews, snapshot, task_frame

#: Sessions listed by default: a screenful.
SESSIONS_SHOWN = 40


@click.command()
@on_session
@click.option("--sessions", "every", is_flag=True, help="List sessions even if one is set.")
@click.option(
    "--count", type=click.IntRange(min=1), default=SESSIONS_SHOWN, help="Sessions to list at most."
)
@click.option("--todo", "as_todo", is_flag=True, help="Print the tasks as a todo list, in JSON.")
@click.option("-f", "--follow", is_flag=True, help="Show the tasks live, until all are done.")
@json_option
async def status(
    target: Target, every: bool, count: int, as_todo: bool, follow: bool, as_json: bool
) -> None:
    """Show the state of a session: agents by stream, what each one waits for, tasks.

    \b
      fabric status demo            one session
      fabric status demo --follow   its tasks: bars, waits, time to go, the balancer's last moves
      fabric status --sessions      all sessions, the workers, and how many signals wait

    Without a session (argument, -s or FABRIC_SESSION), all sessions are listed.

    --follow draws on a terminal, which needs the extra `tui`. Elsewhere it prints all tasks once,
    and then a line for each one that changes and for each move; with --json a document a line: the
    sums, the tasks that have changed, the new moves. It ends when every task is completed or
    failed, or the run is closed. Exit code 1: a task has failed.
    """
    if follow and (every or as_todo):
        raise click.UsageError("--follow shows the tasks of one session: no --sessions, no --todo")
    session = None if every else target.session
    if as_todo or follow:
        session = target.need("session", session)
    if follow:
        await _follow_tasks(target, target.need("session"), as_json=as_json)
        return
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
            "roster": await reader.roster(),
            "written": await reader.written(),
        }
        mail = await unread(connection.store, reader.keys, found["agents"])
        now_ms = await connection.store.now_ms(reader.keys.log)
        board = TaskBoard(session)
        if found["tasks"]:
            await TaskFollower(connection.store, reader.keys, board, _own_rules()).read()
    document = {"session": session, **found}
    document["agents"] = {
        name: {**msgspec.to_builtins(agent), "status": agent.shown_status}
        for name, agent in found["agents"].items()
    }
    document["unread"] = [asdict(one) for one in mail]
    if found["tasks"]:
        document["board"] = board.document()
        found["tasks"] = map(text_of, snapshot(board, _width()))
    found["unread"] = [(one.agent, one.counted, one.oldest, one.since_ms) for one in mail]
    print_either(as_json, document, session_lines(session, now_ms, *found.values()))


def _own_rules() -> Rules:
    """Return the rules of this folder; a faulty file is for others to name."""
    with suppress(ConfigError):
        return rulebook.in_force().rules
    return Rules()


def _width() -> int:
    """Return the width that lines must fit; what is no terminal has room for all of a line."""
    return get_terminal_size().columns if sys.stdout.isatty() else LINE_CHARS_MAX


async def _follow_tasks(target: Target, name: str, *, as_json: bool) -> None:
    async with connected(target, waits=True) as connection:
        keys, board = connection.keys(name)[1], TaskBoard(name)
        follower = TaskFollower(connection.store, keys, board, _own_rules())
        if as_json:
            await follower.until_ended(_print_news)
        elif sys.stdout.isatty() and has_rich():
            with live_display(task_frame) as show:
                await follower.until_ended(show)
        else:
            if sys.stdout.isatty():
                note(NO_RICH)
            await follower.until_ended(PlainTasks(lambda line: click.echo(plain(line))))
    if board.progress.summary().counts.get(Stand.FAILED):
        click.get_current_context().exit(1)


def _print_news(board: TaskBoard, news: TaskNews) -> None:
    if news.tasks or news.moves:
        tasks, moves = board.progress.documents(news.tasks), [one._asdict() for one in news.moves]
        print_lines([json_line({**board.document(), "changed": tasks, "moves": moves})])


async def _print_overview(connection: Connection, count: int, *, as_json: bool) -> None:
    store, partitions = connection.store, connection.partitions
    found = await sessions(store, partitions)
    summaries = [await partition(store, number) for number in range(partitions)]
    listed = found[:count]
    if as_json:
        shown = [session._asdict() for session in listed]
        served = [_document(summary) for summary in summaries]
        print_json({"sessions": shown, "sessions_total": len(found), "partitions": served})
        return
    if found:
        now_ms = await store.now_ms()
        rows = [
            [one.name, f"{span(now_ms - one.active_ms)} ago", str(one.partition)] for one in listed
        ]
        print_lines([*table(("SESSION", "LAST ACTIVE", "PARTITION"), rows), ""])
    else:
        click.echo("no sessions yet", err=True)
    if len(found) > count:
        click.echo(f"{len(found) - count} more sessions (--count)", err=True)
    header = ["PARTITION", "SIGNALS", "RESULTS", "DEAD", *(group.upper() for group in GROUPS)]
    print_lines(table(header, [_row(summary) for summary in summaries]))


def _row(summary: PartitionSummary) -> list[str]:
    held = {holder.group: holder.owner for holder in summary.holders if holder.held}
    counts = (summary.number, summary.backlog, summary.results, summary.dead)
    return [*map(str, counts), *(held.get(group, "nobody") for group in GROUPS)]


def _document(summary: PartitionSummary) -> dict[str, Any]:
    return {**summary._asdict(), "holders": [holder._asdict() for holder in summary.holders]}
