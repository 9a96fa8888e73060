"""`fabric open`, `close`, `export` and `purge`: where the runs of a session begin and end."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, BinaryIO
from urllib.parse import quote

import click

from fabric.cli.connect import Connection, Target, connected, json_option, on_session, on_target
from fabric.cli.output import note, print_either
from fabric.cli.questions import person
from fabric.client.export import export_session
from fabric.client.run import Runs
from fabric.core.limits import listed
from fabric.errors import FabricError, NotAllowedError, NotFoundError
from fabric.ops.overview import Candidate, candidates
from fabric.view.text import counted, span, table
from fabric.wire.task_file import FILE_BYTES_MAX, parse

#: Seconds that closing and opening may take; the orchestrator needs a few ms.
TIMEOUT_S = 10.0

#: Sessions that are deleted together: a worker takes so many in one walk through its keys.
DELETED_MAX = 100

#: Unit of an age → ms.
_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def age_ms(context: click.Context, parameter: click.Parameter, value: str | None) -> int:
    """Read an age: a whole number and its unit. Raises BadParameter."""
    if value is None:
        return 0
    number, unit = value[:-1], value[-1:]
    if unit not in _UNITS or not (number.isascii() and number.isdigit() and len(number) <= 9):
        raise click.BadParameter(f"'{value}' is not an age: 7d, 12h, 30m, 45s")
    return int(number) * _UNITS[unit]


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
@click.option(
    "--expect", "listed_names", metavar="A,B,C", help="The agents that belong to the run."
)
@click.option("--plan", type=click.File("rb"), help="Expect the owners of the tasks in this file.")
@click.option(
    "--until", "until_ms", metavar="AGE", callback=age_ms, help="Expect them for so long, as 10m."
)
@by_option
@json_option
async def open_(
    target: Target,
    listed_names: str | None,
    plan: BinaryIO | None,
    until_ms: int,
    by: str | None,
    as_json: bool,
) -> None:
    """Begin the next run of a session that was closed, nothing carried over from the last run.

    \b
      fabric open demo
      fabric open demo --expect ARCHITECT,QA,DOCS --until 10m
      fabric open demo --plan tasks.toml

    The log goes on, and so do the fencing tokens and the revisions of the synthesis, which begins
    empty. Incarnations of the last run stay refused. Exit code 4: a run is open.

    With --expect or --plan the run has a roster: it is not over before these agents have come and
    ended. `fabric wait --all`, the synthesis and barriers wait for them. Those that have not come
    --until then are named, and nobody waits for them any longer. In a run that is open already,
    they are added.
    """
    expect = [name for name in (listed_names or "").split(",") if name]
    if plan is not None:
        listed_tasks = parse(plan.read(FILE_BYTES_MAX + 1), plan.name)
        expect += [task.owner for task in listed_tasks if task.owner]
        if not expect:
            raise click.UsageError(f"no task in {plan.name} has an owner")
    if until_ms and not expect:
        raise click.UsageError("--until goes with --expect or --plan")
    expect = list(dict.fromkeys(expect))
    async with _runs(target, by) as runs:
        number = await runs.open(expect, until_ms or None)
    found = {"session": target.session, "run": number, "expected": expect}
    told = f"; {listed(expect)} expected" if expect else ""
    print_either(as_json, found, [f"run {number} of {target.session} is open{told}"])


@click.command()
@click.argument("names", metavar="[SESSION]...", nargs=-1)
@on_target()
@click.option("--ended", is_flag=True, help="All sessions whose run has ended.")
@click.option(
    "--older-than",
    "older_ms",
    metavar="AGE",
    callback=age_ms,
    help="With --ended: idle for so long, as 7d.",
)
@click.option("--export", "folder", metavar="DIR", help="Write each to DIR/NAME.ndjson.gz first.")
@click.option("--yes", is_flag=True, help="Delete; without it, only say what would go.")
@by_option
@json_option
async def purge(
    target: Target,
    names: tuple[str, ...],
    ended: bool,
    older_ms: int,
    folder: str | None,
    yes: bool,
    by: str | None,
    as_json: bool,
) -> None:
    """Delete everything of a session: keys, timers, workers' memory. Without --yes, list it.

    \b
      fabric purge demo                           what would go
      fabric purge demo --yes
      fabric purge --ended --older-than 7d --yes  all that have ended and were idle for a week

    The workers delete it under their leases, in slices, so the server stays quick and no other
    session is touched. A name that is used again begins anew. A run is open while agents are at
    work in it or expected, and before anybody has come. Exit code 4: it is open; `fabric close` it
    first. 7: no worker has done it yet.
    """
    if bool(names) == ended:
        raise click.UsageError("give either names or --ended")
    who = person(by)
    async with connected(target, patience_s=TIMEOUT_S) as connection:
        store = connection.store
        found = await candidates(store, connection.partitions, names, older_ms)
        now_ms = await store.now_ms()
        to = None if folder is None else Path(folder)
        for first in range(0, len(found) if yes else 0, DELETED_MAX):
            await _delete(connection, found[first : first + DELETED_MAX], to, who)
    rows = [
        [one.name, str(one.events), f"{span(now_ms - one.active_ms)} ago", _state(one)]
        for one in found
    ]
    lines = table(("SESSION", "EVENTS", "LAST ACTIVE", "STATE"), rows) if rows else []
    print_either(as_json, {"purged": yes, "sessions": [one._asdict() for one in found]}, lines)
    if not found:
        idle = f" and been idle for {span(older_ms)}" if older_ms else ""
        note(f"nothing to purge: no session has ended{idle}")
    elif not yes:
        note("nothing is deleted yet: --yes deletes these")


async def _delete(
    connection: Connection, chosen: list[Candidate], folder: Path | None, by: str
) -> None:
    """Delete sessions together, each written to the folder first. Raises what the first one does.

    The others are deleted all the same.
    """
    store, waits = connection.store, []
    errors: list[FabricError] = []
    for one in chosen:
        partition, keys = connection.keys(one.name)
        try:
            if folder is not None and not one.is_open:
                file = folder / f"{quote(one.name, safe=' ')}.ndjson.gz"
                if not (await export_session(store, partition, keys, file)).is_whole:
                    raise NotAllowedError(f"{one.name} changed while it was written: not deleted")
            emitter, session = connection.emitter(partition.number), connection.session(one.name)
            runs = Runs(session, store, partition, emitter, by=by, timeout_s=TIMEOUT_S)
            waits.append(await runs.ask_purge())
        except (NotFoundError, NotAllowedError) as error:
            errors.append(error)
    for wait in waits:
        try:
            await wait(note)
        except NotAllowedError as error:
            errors.append(error)
    for other in errors[1:]:
        note(str(other))
    if errors:
        raise errors[0]


def _state(one: Candidate) -> str:
    if one.at_work:
        return f"at work: {listed(one.at_work)}"
    if one.awaited:
        return f"open: {listed(one.awaited)} expected"
    if one.is_open:
        return "open: nobody has come yet"
    return "closed" if one.is_closed else "ended"


@click.command("export")
@on_session
@click.option("--out", metavar="FILE", help="Where to; *.gz is compressed. Without it: stdout.")
async def export(target: Target, out: str | None) -> None:
    """Write everything of a session to a file: a JSON document a line.

    \b
      fabric export demo --out demo.ndjson.gz
      fabric replay demo.ndjson.gz             check it against its log
      fabric why QA --file demo.ndjson.gz      explain an agent's state from it

    The file has every key: log, inboxes, records, synthesis and its revisions. It appears when
    it is complete. A session that is at work may change meanwhile; a note then says so.
    """
    name = target.need("session")
    async with connected(target) as connection:
        partition, keys = connection.keys(name)
        to: Path | IO[bytes]
        to = Path(out) if out is not None else sys.stdout.buffer
        count, is_whole = await export_session(connection.store, partition, keys, to)
    if not is_whole:
        note(f"{name} changed while it was written: its keys may differ from its log")
    if out is not None:
        note(f"{counted(count, 'line')} written to {out}")


#: Names of commands that are names of Python's.
COMMANDS = {"open": open_}
