"""`fabric tasks`: the task board of a session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, BinaryIO

import click
from msgspec import structs

from fabric.cli.connect import Target, connected, json_option, on_session, on_target
from fabric.cli.output import note, print_either
from fabric.cli.questions import person
from fabric.errors import CallerError
from fabric.ops.board import Board
from fabric.view.tasks import board_lines, documents, ready_only
from fabric.wire.task_file import FILE_BYTES_MAX, parse, tasks_of

#: Seconds that a change of the board may take; the orchestrator needs a few ms.
TIMEOUT_S = 10.0

by_option = click.option(
    "--by", metavar="NAME", help="Your name, if no agent is set (default: your login name)."
)


@click.group()
def tasks() -> None:
    """Show and change the task board of a session.

    \b
      fabric tasks load tasks.toml           put a list of tasks onto the board
      fabric tasks add T9 "Write the docs" --after T1 --after T2
      fabric tasks list                      status, agent, and what each one waits for
      fabric tasks next                      ask for a task, and begin it
      fabric tasks done T9                   say that it is complete
      fabric tasks retry T9                  have it done again

    An agent also takes a task with STARTED: fabric emit 'STARTED(T9)'. It is named by --agent or
    FABRIC_AGENT; without one, you act as a person.
    """


@asynccontextmanager
async def _board(target: Target, by: str | None) -> AsyncIterator[Board]:
    name = target.agent or person(by)
    session_name = target.need("session")
    async with connected(target, founding=True, patience_s=TIMEOUT_S) as connection:
        session = connection.session(session_name)
        if not target.agent and name in await session.agents():
            # It would count as that agent's sign of life.
            raise CallerError(f"{name} is an agent of {session_name}: name yourself with --by")
        partition, _ = connection.keys(session_name)
        emitter = connection.emitter(partition.number)
        yield Board(
            session,
            connection.store,
            partition,
            emitter,
            by=name,
            timeout_s=TIMEOUT_S,
            stream=target.stream,
        )


@tasks.command()
@click.argument("file", type=click.File("rb"))
@on_target("session", "agent")
@by_option
async def load(target: Target, file: BinaryIO, by: str | None) -> None:
    """Put the tasks of a file onto the board: TOML, JSON, or a coding agent's todo list.

    The file is read as by `fabric plan`. Exit code 2: it is faulty, or names a task that is on the
    board already; nothing was added then. 4: the orchestrator has refused a task, with the reason.
    """
    listed = parse(file.read(FILE_BYTES_MAX + 1), file.name)
    async with _board(target, by) as board:
        await board.add(listed)
    note(f"{len(listed)} tasks added")


@tasks.command()
@click.argument("id_", metavar="ID")
@click.argument("content", required=False, default="")
@on_target("session", "agent")
@click.option("--after", multiple=True, metavar="ID", help="A task that comes before; repeatable.")
@click.option("--blocks", multiple=True, metavar="ID", help="A task that comes after; repeatable.")
@click.option("--priority", type=int, default=0, help="The higher is offered first.")
@click.option("--type", default="", metavar="TYPE", help="The task type.")
@click.option("--reads", multiple=True, metavar="PATH", help="What it reads; repeatable.")
@click.option("--writes", multiple=True, metavar="PATH", help="What it writes; repeatable.")
@click.option("--estimate", metavar="TIME", help='How long it takes: "90 s", "20 min".')
@by_option
async def add(
    target: Target,
    id_: str,
    after: tuple[str, ...],
    blocks: tuple[str, ...],
    by: str | None,
    **given: Any,
) -> None:
    """Put one task onto the board.

    Exit code 2: there is such a task already, or one that it names is unknown, or a cycle. 4: the
    orchestrator has refused it, with the reason.
    """
    named = {name: [*value] if isinstance(value, tuple) else value for name, value in given.items()}
    (task,) = tasks_of([{"id": id_, **named}])
    # These may be on the board, which the reader of lists does not know.
    task = structs.replace(task, can_merge_after=[*after], blocks=[*blocks])
    async with _board(target, by) as board:
        await board.add([task])


@tasks.command(name="list")
@on_session
@click.option("--ready", is_flag=True, help="Only those that can begin now.")
@json_option
async def list_(target: Target, ready: bool, as_json: bool) -> None:
    """Show the board: each task's status, its agent, and what it waits for."""
    session_name = target.need("session")
    async with connected(target) as connection:
        session = connection.session(session_name)
        await session.must_exist()
        found = await session.tasks()
    shown = ready_only(found) if ready else found
    print_either(as_json, documents(found, shown), board_lines(found, shown))
    if not shown and not as_json:
        note("no task is ready" if found else "no tasks")


@tasks.command(name="next")
@on_target("session", "agent", "stream")
@json_option
async def next_(target: Target, as_json: bool) -> None:
    """Ask for a task as an agent, by the same rules as all others, and begin it; print its id.

    \b
      while task=$(fabric tasks next); do work on "$task" && fabric tasks done "$task"; done

    With --json all of it is printed. Exit code 7: no task is ready for this agent now that nothing
    is in the way of.
    """
    target.need("agent")
    async with _board(target, None) as board:
        name, task = await board.begin_next()
        known = await board.session.tasks() if as_json else {name: task}
    print_either(as_json, documents(known, {name: known[name]})[0], [name])


@tasks.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@on_target("session", "agent")
@by_option
async def done(target: Target, ids: tuple[str, ...], by: str | None) -> None:
    """Say that tasks are complete; an agent may say it of its own, a person of any.

    Exit code 2: --agent names no agent of the session. 4: the orchestrator has refused it, with
    the reason.
    """
    async with _board(target, by) as board:
        if target.agent and target.agent not in await board.session.agents():
            # The orchestrator would take an unknown name for a person, who may say it of any task.
            unknown = f"{target.agent} is no agent of {board.session.name}, and has begun no task"
            raise CallerError(f"{unknown}: as a person, name yourself with --by")
        for id_ in ids:
            await board.done(id_)


@tasks.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@on_target("session", "agent")
@by_option
async def retry(target: Target, ids: tuple[str, ...], by: str | None) -> None:
    """Have completed or failed tasks done again, and forget how often they were begun.

    Exit code 4: the orchestrator has refused it, with the reason; an agent may be at work on it.
    """
    async with _board(target, by) as board:
        for id_ in ids:
            await board.retry(id_)
