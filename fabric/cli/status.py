"""`fabric status`: all sessions and who serves them; or one session, agent by agent."""

from __future__ import annotations

import time
from typing import Any

import click
import msgspec

from fabric.cli import standing
from fabric.cli.connect import Connection, Target, connected, run
from fabric.cli.options import json_option, on_target
from fabric.cli.output import ago, print_json, print_lines
from fabric.client.session import Session
from fabric.core.record import (
    AgentRecord,
    BarrierState,
    DependencyRecord,
    EscalationState,
    TaskRecord,
)
from fabric.ops.overview import GROUPS, Holder, PartitionSummary, partition, sessions
from fabric.view.text import plain, table
from fabric.view.todo import todo

#: Sessions listed unless more are asked for: a screenful.
SESSIONS_SHOWN = 40


@click.command(short_help="Show sessions, or one session's agents and tasks.")
@click.argument("name", metavar="[SESSION]", required=False)
@on_target("session")
@click.option("--sessions", "every", is_flag=True, help="List the sessions, whatever is set.")
@click.option(
    "--count", type=click.IntRange(min=1), default=SESSIONS_SHOWN, help="List so many sessions."
)
@click.option("--todo", "as_todo", is_flag=True, help="Print the tasks as a todo list, in JSON.")
@json_option
def command(
    target: Target, name: str | None, every: bool, count: int, as_todo: bool, as_json: bool
) -> None:
    """Show how a session stands: its agents by stream, what they wait for, its tasks.

    Without a session: which there are, who serves them, and what waits to be handled.
    """
    session = None if every else name or target.session
    if as_todo:
        run(_print_todo(target, target.need("session", session)))
    elif session:
        run(_print_session(target, session, as_json=as_json))
    else:
        run(_print_overview(target, count, as_json=as_json))


async def _session(connection: Connection, name: str) -> Session:
    session = Session(connection.store, connection.keys(name)[1])
    await session.must_exist()
    return session


async def _print_todo(target: Target, name: str) -> None:
    async with connected(target) as connection:
        session = await _session(connection, name)
        print_json([todo(task) for task in (await session.tasks()).values()])


async def _print_session(target: Target, name: str, *, as_json: bool) -> None:
    async with connected(target) as connection:
        session = await _session(connection, name)
        agents = await session.agents()
        dependencies, tasks = await session.dependencies(), await session.tasks()
        claims, barriers = await session.claims(), await session.barriers()
        questions = await session.escalations()
    if as_json:
        print_json(
            {
                "session": name,
                "agents": agents,
                "dependencies": dependencies,
                "tasks": tasks,
                "claims": claims,
                "barriers": barriers,
                "escalations": questions,
            }
        )
        return
    waits = standing.waits(agents, claims, barriers)
    lines: list[str] = []
    for stream in sorted({agent.stream for agent in agents.values()}):
        members = {who: agent for who, agent in agents.items() if agent.stream == stream}
        lines += [
            f"Stream {plain(stream)}" if stream else "No stream",
            *_agents(members, waits),
            "",
        ]
    if dependencies:
        lines += ["Dependencies", *_dependencies(dependencies), ""]
    if tasks:
        lines += ["Tasks", *_tasks(tasks), ""]
    if claims:
        lines += ["Resources", *standing.resources(claims), ""]
    if any(barrier.state is not BarrierState.OVER for barrier in barriers.values()):
        lines += ["Barriers", *standing.barriers(barriers), ""]
    asked = sum(question.state is EscalationState.OPEN for question in questions.values())
    if asked:
        noun = "question" if asked == 1 else "questions"
        lines += [f"{asked} open {noun}: fabric escalations {plain(name)}", ""]
    print_lines(lines[:-1])


def _agents(agents: dict[str, AgentRecord], waits: dict[str, list[str]]) -> list[str]:
    rows = [
        [
            name,
            agent.status.value,
            _percent(agent.percent),
            agent.checkpoint,
            agent.task,
            ", ".join(waits[name]) or agent.error,
            f"{ago(agent.seen_ms)} ago",
        ]
        for name, agent in agents.items()
    ]
    header = ("AGENT", "STATUS", "DONE", "CHECKPOINT", "TASK", "WAITS FOR / ERROR", "LAST HEARD")
    return table(header, rows, "  ")


def _dependencies(dependencies: dict[str, DependencyRecord]) -> list[str]:
    rows = [
        [
            name,
            dependency.status.value,
            dependency.location or "",
            ", ".join(dependency.producers),
            ", ".join(dependency.waiters),
        ]
        for name, dependency in dependencies.items()
    ]
    return table(("NAME", "STATUS", "LOCATION", "PRODUCED BY", "AWAITED BY"), rows, "  ")


def _tasks(tasks: dict[str, TaskRecord]) -> list[str]:
    rows = [
        [name, task.status, _percent(task.progress_percent), task.agent, task.checkpoint]
        for name, task in tasks.items()
    ]
    return table(("TASK", "STATUS", "DONE", "AGENT", "CHECKPOINT"), rows, "  ")


def _percent(percent: float | None) -> str:
    return "" if percent is None else f"{percent:g} %"


async def _print_overview(target: Target, count: int, *, as_json: bool) -> None:
    async with connected(target) as connection:
        found = await sessions(connection.store, connection.partitions)
        summaries = [
            await partition(connection.store, number) for number in range(connection.partitions)
        ]
    if as_json:
        print_json(
            {
                "sessions": [session._asdict() for session in found[:count]],
                "sessions_total": len(found),
                "partitions": [_document(summary) for summary in summaries],
            }
        )
        return
    if found:
        rows = [
            [session.name, f"{ago(session.active_ms)} ago", str(session.partition)]
            for session in found[:count]
        ]
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
    return {**msgspec.to_builtins(summary._asdict()), "holders": holders}


def _is_held(holder: Holder) -> bool:
    return bool(holder.owner) and holder.expires_ms > time.time() * 1000
