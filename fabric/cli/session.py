"""`fabric status` and `fabric synthesis`: a session now; or all sessions, and who serves them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager, suppress
from shutil import get_terminal_size
from typing import Any, Literal

import click

from fabric import __version__
from fabric.backoff import retry
from fabric.cli.connect import Connection, Target, connected, json_option, on_session
from fabric.cli.output import json_line, note, print_either, print_json, print_lines
from fabric.client.session import Session
from fabric.client.synthesis import Revision, apply
from fabric.config import rulebook
from fabric.core.rules import Rules
from fabric.errors import ConfigError, ServerError
from fabric.ops.dead_letters import DeadLetters
from fabric.ops.overview import GROUPS, PartitionSummary, partition, sessions
from fabric.ops.refused import refused_results
from fabric.view.interchange import junit, page, rdjsonl, sarif
from fabric.view.progress import Stand
from fabric.view.pull_request import CHARS_MAX, CHARS_MIN, command_of, comment
from fabric.view.selection import LEVELS, UNRATED, Group, select
from fabric.view.status import session_lines, todo
from fabric.view.synthesis import Synthesis, changes, progress, report
from fabric.view.text import plain, span, table
from fabric.watch.display import has_rich, live_display
from fabric.watch.follow import TaskFollower
from fabric.watch.frame import text_of
from fabric.watch.tasks import LINE_CHARS_MAX, PlainTasks, TaskBoard, TaskNews, snapshot, task_frame

#: Sessions listed by default: a screenful.
SESSIONS_SHOWN = 40

#: Format of a synthesis.
Form = Literal["markdown", "json", "patches", "pr", "sarif", "rdjsonl", "junit", "html"]

#: Formats that show findings one by one: filters are for these.
_SELECTING = ("pr", "sarif", "rdjsonl", "junit", "html")

_FORMATS = ("markdown", "json", "patches", *_SELECTING)

#: Clears a terminal's line from the cursor on.
_ERASE = "\x1b[K"


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
        }
        now_ms = await connection.store.now_ms(reader.keys.log)
        board = TaskBoard(session)
        if found["tasks"]:
            await TaskFollower(connection.store, reader.keys, board, _own_rules()).read()
    document = {"session": session, **found}
    if found["tasks"]:
        document["board"] = board.document()
        found["tasks"] = map(text_of, snapshot(board, _width()))
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
                note("lines, because the live view needs rich: pip install 'signal-fabric[tui]'")
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


def _form(form: Form, words: str) -> Callable[[Any], Any]:
    return click.option(f"--{form}", "form", flag_value=form, help=words)


@click.command()
@on_session
@click.option("-f", "--follow", is_flag=True, help="Print each revision until a final one.")
@click.option("--revision", type=click.IntRange(min=0), metavar="N", help="Go back to revision N.")
@_form("markdown", "A report for people, or one line a change (default).")
@_form("json", "The whole document; with --follow one a line.")
@_form("patches", "Revisions with their JSON Patches (RFC 6902), one a line.")
@click.option("--format", "named", type=click.Choice(_FORMATS), help="The same, by name; and more.")
@click.option("--min-severity", type=click.Choice(LEVELS), help="Findings as bad, or worse.")
@click.option("--min-confidence", type=click.FloatRange(0, 1), help="Findings as sure, or surer.")
@click.option("--since", type=click.IntRange(min=0), metavar="N", help="Changed since revision N.")
@click.option("--group", type=click.Choice([*Group]), help="pr, html: by file, severity or agent.")
@click.option(
    "--max-chars", type=click.IntRange(min=CHARS_MIN), help=f"pr: its length (default {CHARS_MAX})."
)
async def synthesis(
    target: Target,
    follow: bool,
    revision: int | None,
    form: Form | None,
    named: Form | None,
    **wanted: Any,
) -> None:
    """Print the combined result of a session's agents: findings, contradictions, documents.

    \b
      fabric synthesis demo                     a report in Markdown
      fabric synthesis demo --json              the whole document
      fabric synthesis demo --revision 7        as it was at revision 7
      fabric synthesis demo --patches           every revision as a JSON Patch, from the first

    --follow prints revisions as they come, until one is final and none comes after it:

    \b
      --follow                  each change as a line of Markdown, from the first revision
      --follow --json           the document now, then after each revision, one a line
      --follow --patches        each revision, from the first
      --follow --revision N     only revisions after N; with --json the document of N first

    A session can go on after a final revision: continue with --follow --revision N.

    \b
      --format pr          for a comment on a pull request: bounded, folded by file
      --format sarif       SARIF 2.1.0, for code scanning
      --format rdjsonl     for reviewdog, one finding a line
      --format junit       JUnit XML; --format html: one page

    Exit code 3: there is no such session, or no revision N yet.
    """
    name, form = target.need("session"), named or form or "markdown"
    filters = {key: value for key, value in wanted.items() if value is not None}
    if form in _SELECTING and follow:
        raise click.UsageError(f"--follow has no format {form}")
    if filters and form not in _SELECTING:
        raise click.UsageError(f"filters are for --format {', '.join(_SELECTING)}")
    async with connected(target, waits=follow) as connection:
        session = connection.session(name)
        if not follow:
            await session.must_exist()
            left_out = ""
            if form in ("markdown", "pr") and revision is None:
                letters = DeadLetters(connection.store, connection.partitions)
                with suppress(ServerError):  # who may not read these gets the report all the same
                    left_out = (await refused_results(letters, name)).sentence(name)
            if form in _SELECTING:
                await _print_findings(session, revision, form, filters, left_out)
            else:
                await _print(session, revision, form, left_out)
        else:
            await _follow(session, revision, form)


async def _print_findings(
    session: Session, number: int | None, form: Form, filters: dict[str, Any], note: str
) -> None:
    synthesis = await session.synthesis(revision=number)
    since = filters.get("since")
    earlier = None if since is None else (await session.synthesis(revision=since)).document
    severity = filters.get("min_severity", UNRATED)
    items = select(
        synthesis,
        severity=severity,
        confidence=filters.get("min_confidence", 0),
        before=earlier,
    )
    by = Group(filters.get("group", Group.FILE))
    if form == "pr":
        chars_max = filters.get("max_chars", CHARS_MAX)
        command = command_of(session.name)
        click.echo(
            comment(synthesis, items, by=by, chars_max=chars_max, command=command, note=note)
        )
    elif form == "sarif":
        click.echo(sarif(items, __version__))
    elif form == "junit":
        click.echo(junit(items, session.name))
    elif form == "html":
        click.echo(page(items, session.name, progress(synthesis), by))
    else:
        print_lines(rdjsonl(items))
        if left_out := sum(not one.path for one in items):
            click.echo(f"{left_out} findings without a path are left out", err=True)


async def _print(session: Session, number: int | None, form: Form, note: str) -> None:
    if form == "patches":
        if number is not None:
            await session.synthesis(revision=number)  # raises if there is none
        async for revision in session.revisions(follow=False):
            if number is not None and revision.number > number:
                break
            print_lines([json_line(revision)])
        return
    synthesis = await session.synthesis(revision=number)
    if form == "json":
        print_json(synthesis.document)
    else:
        print_lines(report(synthesis, session.name, note))


async def _follow(session: Session, number: int | None, form: Form) -> None:
    after, document = number or 0, None
    if form == "json":
        synthesis = await retry(lambda: session.synthesis(revision=number))
        after, document = synthesis.revision, synthesis.document
        if after:
            print_lines([json_line(document)])
        if synthesis.is_final and number is None:
            return
    with _progress() as note:
        async with aclosing(session.revisions(after)) as following:
            async for revision in following:
                said: Iterable[str]
                if form == "markdown":
                    key, is_final = session.keys.revisions, revision.is_final
                    said = changes(revision.number, revision.patch, is_final=is_final, key=key)
                elif form == "patches":
                    said = [json_line(revision)]
                else:
                    document = apply(session.keys, document, revision)
                    said = [json_line(document)]
                print_lines(said)
                note(revision)


@contextmanager
def _progress() -> Iterator[Callable[[Revision], None]]:
    """Show how complete the synthesis is, on a terminal that the data does not go to."""
    is_shown = sys.stderr.isatty() and not sys.stdout.isatty()
    is_begun = False

    def note(revision: Revision) -> None:
        nonlocal is_begun
        if is_shown:
            is_begun = True
            complete: Any = next(
                (
                    one["value"] if one["path"] else one["value"]["complete"]
                    for one in revision.patch
                    if one["path"] in ("", "/complete")
                ),
                {},
            )
            head = Synthesis({"revision": revision.number, "complete": complete})
            click.echo(f"\r{_ERASE}{progress(head)}", err=True, nl=False)

    try:
        yield note
    finally:
        if is_begun:
            click.echo(err=True)
