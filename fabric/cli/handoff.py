"""`fabric handoff`: hand a session to the next one, and begin that one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from fabric.cli.connect import Target, connected, on_session
from fabric.cli.output import note, print_lines
from fabric.cli.questions import person
from fabric.ops.board import Board
from fabric.ops.handoff import HEIR, carried, gather, resume
from fabric.view.handoff import document
from fabric.wire.handoff import FILE_BYTES_MAX, Carried, read

#: Seconds for each signal of a resumption; the orchestrator needs a few ms.
TIMEOUT_S = 10.0


@click.command()
@on_session
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write it there.")
@click.option(
    "--resume",
    "source",
    metavar="FILE|SESSION",
    help="Begin SESSION from a handoff's file, or from another session as it is now.",
)
async def handoff(target: Target, out: Path | None, source: str | None) -> None:
    """Write a session's handoff in Markdown: from its log and state alone, also after a crash.

    \b
      fabric handoff demo --out HANDOFF.md
      fabric handoff demo-2 --resume HANDOFF.md     begin demo-2 from it
      fabric handoff demo-2 --resume demo           the same, without a file

    A session that is begun so has the tasks (what is done stays done; what was in progress is
    pending), what was produced, and the agents' questions with their decisions. What an agent held
    counts as what its task writes. Exit code 2: FILE is no handoff, or SESSION exists already.
    """
    name = target.need("session")
    if source is None:
        async with connected(target) as connection:
            found = await gather(connection.session(name), connection.store)
        lines = document(found, carried(found))
        if out is None:
            print_lines(lines)
        else:
            _write(out, lines)
            note(f"{out} written")
        return
    made = await _resume(target, name, source)
    over = sum(task.status == "completed" for task in made.tasks)
    note(f"{name} begun from {made.session}: {len(made.tasks)} tasks, {over} of them completed")


async def _resume(target: Target, name: str, source: str) -> Carried:
    text = _read(Path(source))
    async with connected(target, founding=True, patience_s=TIMEOUT_S) as connection:
        if text is not None:
            made = read(text, source)
        else:
            made = carried(await gather(connection.session(source), connection.store))
        partition, _ = connection.keys(name)
        session, emitter = connection.session(name), connection.emitter(partition.number)
        board = partial(Board, session, connection.store, partition, emitter, timeout_s=TIMEOUT_S)
        await resume(made, session, board(by=person(None)), board(by=HEIR))
    return made


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _read(path: Path) -> bytes | None:
    """Return what a file holds; None if there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX + 1)
