"""`fabric replay`: a session rebuilt from its log, as it was or compared with Redis."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.connect import Target, connected, run
from fabric.cli.options import json_option, on_target
from fabric.cli.output import print_json, print_lines
from fabric.core.session import SessionState
from fabric.ops.comparison import Comparison, Report
from fabric.ops.replay import rebuild, until
from fabric.view.text import clock, plain, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fabric.ops.replay import Until

#: Kinds of records in the order in which they are shown → the columns that a person looks for.
#: With --json all of it is there.
_TABLES = {
    "agents": ("status incarnation percent checkpoint task waits_for claims asks error"),
    "tasks": "status progress_percent agent checkpoint",
    "dependencies": "status location producers waiters",
    "claims": "state agent writes reads token",
    "barriers": "state generation leader members arrived held",
    "escalations": "state asker question waiting decision by",
}


@click.command(short_help="Rebuild a session from its log, and compare.")
@click.argument("name", metavar="[SESSION]", required=False)
@on_target("session")
@click.option(
    "--until",
    "stop",
    metavar="ID|TIME",
    help="Show the session as it was: after a log id (12-0), at a time since it opened (1:05), or "
    "at an RFC 3339 time.",
)
@json_option
def command(target: Target, name: str | None, stop: str | None, as_json: bool) -> None:
    """Run the rules over a session's log once more, and compare what they make of it with Redis.

    Exit code 1 when anything differs: each difference names key, field, what the log says and what
    Redis has. With --until nothing is compared: it prints agents, tasks, dependencies, claims,
    barriers and questions as they were then.
    """
    session = target.need("session", name)
    if stop is not None:
        rebuilt = run(_rebuilt(target, session, until(stop)))
        if as_json:
            print_json(_document(rebuilt))
        else:
            print_lines(_lines(rebuilt))
        return
    report = run(_compared(target, session))
    if as_json:
        print_json({"session": session, "events": report.events, "differences": report.differences})
    else:
        print_lines(_differences(report))
    if report.differences:
        where = f"Redis differs from what the log of {session} says"
        click.echo(f"fabric: {plain(where)} in {_places(len(report.differences))}", err=True)
        raise click.exceptions.Exit(1)


async def _rebuilt(target: Target, name: str, stop: Until) -> SessionState:
    async with connected(target) as connection:
        with _progress() as note:
            return await rebuild(connection.store, connection.keys(name)[1], stop, note)


async def _compared(target: Target, name: str) -> Report:
    async with connected(target) as connection:
        with _progress() as note:
            return await Comparison(connection.store, connection.keys(name)[1], note).run()


@contextmanager
def _progress() -> Iterator[Callable[[int], None] | None]:
    """Say on a terminal how far it is; elsewhere say nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        yield lambda events: click.echo(f"\r{events} events", nl=False, err=True)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)


def _differences(report: Report) -> list[str]:
    if not report.differences:
        return [f"same: {report.events} events replayed, every key is as the log says"]
    rows = [[one.key, one.field, one.log, one.redis] for one in report.differences]
    return table(("KEY", "FIELD", "LOG SAYS", "REDIS HAS"), rows)


def _places(count: int) -> str:
    return f"{count} place{'' if count == 1 else 's'}"


def _document(session: SessionState) -> dict[str, Any]:
    head = {
        name: getattr(session, name) for name in ("log", "clock_ms", "opened_ms", "token", "rules")
    }
    tables = {name: getattr(session, name).records for name in _TABLES}
    return {"session": session.name, **head, **tables}


def _lines(session: SessionState) -> list[str]:
    at = clock(session.clock_ms, session.opened_ms)
    lines = [plain(f"{session.name} at {at}, after {session.log}-0")]
    for kind, columns in _TABLES.items():
        records: dict[str, Any] = getattr(session, kind).records
        if records:
            lines += ["", kind.capitalize(), *_records(records, columns.split())]
    return lines


def _records(records: dict[str, Any], columns: list[str]) -> list[str]:
    """Return a table of records: those of the columns that any of them fills."""
    filled = [
        column for column in columns if any(getattr(record, column) for record in records.values())
    ]
    cells = [
        [name, *(_cell(getattr(record, column)) for column in filled)]
        for name, record in records.items()
    ]
    header = ("NAME", *(column.upper().replace("_", " ") for column in filled))
    return table(header, cells, "  ")


def _cell(value: Any) -> str:
    """Return a field of a record as a person reads it; of a mapping its keys, in order."""
    if isinstance(value, list | tuple | dict):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
