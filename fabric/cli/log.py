"""`fabric tail`, `fabric why` and `fabric replay`: what a session's log tells."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import msgspec

from fabric.backoff import retry
from fabric.cli.connect import Target, connected, json_option, on_session, on_target, since_option
from fabric.cli.output import json_line, note, print_either, print_lines
from fabric.client.session import PAGE, pages
from fabric.core.session import SessionState
from fabric.ops.comparison import Comparison
from fabric.ops.replay import rebuild, until
from fabric.ops.why.explanation import explanation_lines
from fabric.ops.why.explanation import why as explained
from fabric.store.file import FileStore
from fabric.store.keys import SessionKeys
from fabric.store.port import BEGINNING, ClientStore, Entry, Readable
from fabric.store.value import whole_number
from fabric.view.status import REBUILT, rebuilt_lines
from fabric.view.text import clock, counted, plain, table
from fabric.view.timeline import Row, RowMerger, Timeline
from fabric.wire.stored import text_fields_of

#: Widths of the timeline's columns; the last one is as wide as it needs to be.
_WIDTHS = (4, 24, 6, 29)

_until_option = click.option(
    "--until",
    "stop",
    metavar="ID|TIME",
    help="Go back to a log id (12-0), a time since the session opened (1:05) or an RFC 3339 time.",
)


@click.command()
@on_session
@click.option("-f", "--follow", is_flag=True, help="Also print new events, until Ctrl-C.")
@since_option
@click.option("--all", "in_full", is_flag=True, help="Print details, and each event separately.")
@json_option
async def tail(
    target: Target, follow: bool, since: bytes | None, in_full: bool, as_json: bool
) -> None:
    """Print a session's timeline: what each agent said, and what followed from it.

    \b
      fabric tail demo           what has happened so far
      fabric tail demo -f        and what happens next
      fabric tail demo --json    the log entries, one a line, with their ids and causes

    Identical events of several agents share a row. Details are left out (nudges, intents, pauses,
    places in a queue, grants for which nobody has to wait): --all prints them.
    """
    name, after = target.need("session"), since or BEGINNING
    async with connected(target, waits=follow) as connection:
        session = connection.session(name)
        store, keys = connection.store, session.keys
        if not follow:
            await session.must_exist()
        if as_json:
            async for page in pages(store, keys, after, follow=follow, on_went_back=_went_back):
                print_lines(json_line(entry_document(entry)) for entry in page)
            return
        (opened,) = await store.fields(keys.meta, ["opened_ms"])
        opened_ms = whole_number(opened)
        agents = await session.agents() if after != BEGINNING else {}
        timeline = Timeline({name: agent.stream for name, agent in agents.items()})
        print_lines(
            [_line("Time", "Signal", "Stream", "Action"), _line(*map("─".__mul__, _WIDTHS))]
        )
        merger = RowMerger()
        async for page in pages(store, keys, after, follow=follow, on_went_back=_went_back):
            rows = [row for entry in page if (row := timeline.row(*entry)) is not None]
            if rows and opened_ms is None:
                opened_ms = rows[0].ms
            if not in_full:
                rows = merger.feed(row for row in rows if not row.is_detail)
                if follow and await _is_last(store, keys, page):
                    rows += merger.flush()
            print_lines(row_line(row, opened_ms or 0) for row in rows)
        print_lines(row_line(row, opened_ms or 0) for row in merger.flush())


def _went_back(place: bytes) -> None:
    """Say that the server has lost events that were printed, after a failover for example."""
    note(
        f"the server went back: the events after log id {place.decode()} never happened; "
        "what came instead follows"
    )


async def _is_last(store: ClientStore, keys: SessionKeys, page: list[Entry]) -> bool:
    """Whether the log has nothing after a page, for now."""
    if len(page) < PAGE:
        return True
    place = {keys.log: page[-1][0]}
    return not (await retry(lambda: store.read_streams(place, 1, 0))).get(keys.log)


def row_line(row: Row, opened_ms: int) -> str:
    """Return a row of the timeline as a line of columns."""
    return _line(clock(row.ms, opened_ms), row.signal, row.stream, row.action)


def _line(*cells: str) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def entry_document(entry: Entry) -> dict[str, Any]:
    """Return a log entry for `--json`: its id, its fields as text, its payload decoded."""
    entry_id, flat = entry
    fields: dict[str, Any] = {**text_fields_of(flat)}
    payload = fields.get("payload")
    if isinstance(payload, str):
        with suppress(msgspec.MsgspecError, RecursionError):  # not JSON: shown as it is
            fields["payload"] = msgspec.json.decode(payload)
    return {"id": entry_id.decode(), **fields}


@click.command()
@click.argument("agent")
@on_target("session")
@_until_option
@click.option("--file", "path", metavar="FILE", help="A file that `fabric export` has written.")
@json_option
async def why(
    target: Target, agent: str, stop: str | None, path: str | None, as_json: bool
) -> None:
    """Explain why an agent waits, is paused, has ended or is working.

    \b
      fabric why QA                    now
      fabric why QA --until 1:05       as it was 65 s after the session opened
      fabric why QA --file demo.ndjson in a session that `fabric export` has written

    Each cause is printed below its effect, from agent to agent, down to the agent or person that
    can act. A line with an arrow says what would end the wait. Times count from the opening of the
    session, as in `fabric tail`; ids in brackets are log entries.
    """
    place = until(stop) if stop is not None else None
    if path is not None:
        read = FileStore(Path(path))
        answer = await explained(read, read.keys, agent, place)
    else:
        session = target.need("session")
        async with connected(target) as connection:
            answer = await explained(connection.store, connection.keys(session)[1], agent, place)
    print_either(as_json, answer, map(plain, explanation_lines(answer)))


@click.command()
@on_session
@_until_option
@json_option
async def replay(target: Target, stop: str | None, as_json: bool) -> None:
    """Check a session: rebuild it from its log, and compare the result with Redis.

    \b
      fabric replay demo                  compare every key; exit code 1 if any differs
      fabric replay demo --until 12-0     print the session as it was after log entry 12-0
      fabric replay demo.ndjson.gz        the same for a file that `fabric export` has written

    Each difference names the key, the field, the value by the log and the value in Redis. With
    --until nothing is compared: agents, tasks, dependencies, claims, barriers and questions are
    printed as they were then.
    """
    session = target.need("session")
    place = until(stop) if stop is not None else None
    async with AsyncExitStack() as stack:
        store: Readable
        if (read := _file(session)) is not None:
            store = read
            if not read.is_whole:
                note(f"{session} was written while the session changed: it may differ from its log")
            keys, session = read.keys, read.keys.name
        else:
            connection = await stack.enter_async_context(connected(target))
            store, keys = connection.store, connection.keys(session)[1]
        with _progress() as count:
            if place is not None:
                rebuilt = (await rebuild(store, keys, place, count)).session
            else:
                report = await Comparison(store, keys, count).run()
    if place is not None:
        print_either(as_json, _rebuilt_document(rebuilt), rebuilt_lines(rebuilt))
        return
    lines = [f"same: {report.events} events replayed, every key is as the log says"]
    if report.differences:
        rows = [[one.key, one.field, one.log, one.redis] for one in report.differences]
        lines = table(("KEY", "FIELD", "LOG SAYS", "REDIS HAS"), rows)
    document = {"events": report.events, "differences": report.differences}
    print_either(as_json, {"session": session, **document}, lines)
    if report.differences:
        places = counted(len(report.differences), "place")
        note(f"Redis differs from what the log of {session} says in {places}")
        raise click.exceptions.Exit(1)


#: Ends of the names of files that people give to an export. A session may be called `v1.2`.
_SUFFIXES = frozenset({".ndjson", ".jsonl", ".json", ".gz"})


def _file(name: str) -> FileStore | None:
    """Return the file of a session that is named instead of one; None if it is a session."""
    path = Path(name)
    looks_like_one = path.suffix in _SUFFIXES or "/" in name
    try:
        return FileStore(path) if looks_like_one and path.is_file() else None
    except (OSError, ValueError):  # no file can be called so
        return None


def _rebuilt_document(session: SessionState) -> dict[str, Any]:
    names = ("log", "clock_ms", "opened_ms", "token", "rules")
    tables = {name: getattr(session, name).records for name in REBUILT}
    return {"session": session.name, **{name: getattr(session, name) for name in names}, **tables}


@contextmanager
def _progress() -> Iterator[Callable[[int], None] | None]:
    """Show the number of events replayed so far, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        yield lambda events: click.echo(f"\r{events} events", nl=False, err=True)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)
