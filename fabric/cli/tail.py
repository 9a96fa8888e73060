"""`fabric tail`: what has happened in a session, in order."""

from __future__ import annotations

from contextlib import suppress

import click
import msgspec

from fabric.backoff import retry
from fabric.cli.connect import Connection, Target, connected, run
from fabric.cli.inbox import since_option
from fabric.cli.options import json_option, on_target
from fabric.cli.output import json_line, print_lines
from fabric.client.session import PAGE, Session
from fabric.ops.log import pages
from fabric.store.keys import SessionKeys
from fabric.store.port import BEGINNING, ClientStore, Entry
from fabric.store.value import whole_number
from fabric.view.text import clock
from fabric.view.timeline import Row, RowMerger, Timeline
from fabric.wire.stored import text_fields_of

#: Widths of the columns, those of the seeds' example. The last one is as wide as it needs to be.
_WIDTHS = (4, 24, 6, 29)


@click.command(short_help="Show a session's timeline.")
@click.argument("name", metavar="[SESSION]", required=False)
@on_target("session")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@since_option
@click.option("--all", "in_full", is_flag=True, help="Every row by itself, the details too.")
@json_option
def command(
    target: Target,
    name: str | None,
    follow: bool,
    since: bytes | None,
    in_full: bool,
    as_json: bool,
) -> None:
    """Print what has happened in a session: who said what, and what followed from it.

    What several agents say at the same time is one row. Details are left out: nudges, intents,
    pauses and places in a queue, and what is granted to an agent without making another wait.
    With --all they are there, and every row is by itself.

    With --json the log's own entries, one a line: the signals, the directives, what was passed on
    and what was refused, each with its id and its cause.
    """
    session = target.need("session", name)
    after = since or BEGINNING
    run(_tail(target, session, after, follow=follow, in_full=in_full, as_json=as_json))


async def _tail(
    target: Target, name: str, after: bytes, *, follow: bool, in_full: bool, as_json: bool
) -> None:
    async with connected(target) as connection:
        keys = connection.keys(name)[1]
        if not follow:
            await Session(connection.store, keys).must_exist()
        if as_json:
            async for page in pages(connection.store, keys, after, follow=follow):
                print_lines(_document(entry) for entry in page)
            return
        timeline, opened_ms = await _timeline(connection, keys, after)
        print_lines(
            [_line("Time", "Signal", "Stream", "Action"), _line(*("─" * w for w in _WIDTHS))]
        )
        merger = RowMerger()
        async for page in pages(connection.store, keys, after, follow=follow):
            rows = [row for entry in page if (row := timeline.row(*entry)) is not None]
            if rows and opened_ms is None:
                opened_ms = rows[0].ms
            if not in_full:
                rows = merger.feed(row for row in rows if not row.is_detail)
                if follow and await _is_last(connection.store, keys, page):
                    rows += merger.flush()
            print_lines(_words(row, opened_ms or 0) for row in rows)
        print_lines(_words(row, opened_ms or 0) for row in merger.flush())


async def _is_last(store: ClientStore, keys: SessionKeys, page: list[Entry]) -> bool:
    """Say whether the log has nothing more for now: a row held back would wait for what comes."""
    if len(page) < PAGE:
        return True
    place = {keys.log: page[-1][0]}
    return not (await retry(lambda: store.read_streams(place, 1, 0))).get(keys.log)


async def _timeline(
    connection: Connection, keys: SessionKeys, after: bytes
) -> tuple[Timeline, int | None]:
    """Return a timeline that knows what was before its first row, and when the session opened."""
    (opened,) = await connection.store.fields(keys.meta, ["opened_ms"])
    streams: dict[str, str] = {}
    if after != BEGINNING:
        agents = await Session(connection.store, keys).agents()
        streams = {name: agent.stream for name, agent in agents.items()}
    return Timeline(streams), whole_number(opened)


def _words(row: Row, opened_ms: int) -> str:
    return _line(clock(row.ms, opened_ms), row.signal, row.stream, row.action)


def _line(*cells: str) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def _document(entry: Entry) -> str:
    entry_id, flat = entry
    fields: dict[str, object] = {**text_fields_of(flat)}
    payload = fields.get("payload")
    if isinstance(payload, str):
        with suppress(msgspec.MsgspecError, RecursionError):  # by hand: shown as it is
            fields["payload"] = msgspec.json.decode(payload)
    return json_line({"id": entry_id.decode(), **fields})
