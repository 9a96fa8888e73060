"""`fabric open` and `fabric close`: where the runs of a session begin and end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click

from fabric.cli.connect import Target, connected, json_option, on_session
from fabric.cli.output import print_either
from fabric.cli.questions import person
from fabric.core.limits import listed
from fabric.ops.run import Runs

#: Seconds that closing and opening may take; the orchestrator needs a few ms.
TIMEOUT_S = 10.0

by_option = click.option("--by", metavar="NAME", help="Your name (default: your login name).")


@asynccontextmanager
async def _runs(target: Target, by: str | None) -> AsyncIterator[Runs]:
    name = target.need("session")
    async with connected(target, founding=True, patience_s=TIMEOUT_S) as connection:
        partition, _ = connection.keys(name)
        emitter, session = connection.emitter(partition.number), connection.session(name)
        store, who = connection.store, person(by)
        yield Runs(session, store, partition, emitter, by=who, timeout_s=TIMEOUT_S)


@click.command("close")
@on_session
@click.option("--reason", metavar="TEXT", help="Why; the agents are told.")
@by_option
@json_option
async def close(target: Target, reason: str | None, by: str | None, as_json: bool) -> None:
    """End a run: tell the agents that are still at work, and refuse what comes later.

    \b
      fabric close demo
      fabric close demo --reason "the sprint is over"

    The agents at work get CANCEL, the synthesis becomes final, and every later signal is refused
    with CLOSED. Everything stays readable. `fabric open` begins the next run. Exit code 4: the run
    is closed already.
    """
    async with _runs(target, by) as runs:
        number, at_work = await runs.close(reason)
    told = f"; {listed(at_work)} told" if at_work else ""
    found = {"session": target.session, "run": number, "told": at_work}
    print_either(as_json, found, [f"run {number} of {target.session} is closed{told}"])


@click.command("open")
@on_session
@by_option
@json_option
async def open_(target: Target, by: str | None, as_json: bool) -> None:
    """Begin the next run of a session that was closed, with nothing of the last one in force.

    \b
      fabric open demo

    The log goes on, and so do the fencing tokens and the revisions of the synthesis, which begins
    empty. Incarnations of the last run stay refused. Exit code 4: a run is open.
    """
    async with _runs(target, by) as runs:
        number = await runs.open()
    found = {"session": target.session, "run": number}
    print_either(as_json, found, [f"run {number} of {target.session} is open"])


#: Names of commands that are names of Python's.
COMMANDS = {"open": open_}
