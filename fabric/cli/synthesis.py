"""`fabric synthesis`: the result of a session, in the formats of people and of other tools."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Any, Literal

import click

from fabric import __version__
from fabric.backoff import retry
from fabric.cli import output
from fabric.cli.connect import Target, connected, on_session
from fabric.cli.output import json_line, print_json, print_lines
from fabric.client.session import Session
from fabric.client.synthesis import Revision, apply
from fabric.devserver.project import locate
from fabric.errors import ServerError
from fabric.ops.dead_letters import DeadLetters
from fabric.ops.excerpt import Excerpts
from fabric.ops.refused import refused_results
from fabric.view.change import joined_changes
from fabric.view.document import progress
from fabric.view.interchange import junit, rdjsonl, sarif
from fabric.view.page import page
from fabric.view.report import CHARS_MAX, CHARS_MIN, Layout, command_of, no_code, report
from fabric.view.selection import LEVELS, UNRATED, Group, Item, select
from fabric.view.synthesis import Synthesis
from fabric.view.text import counted
from fabric.wire.effective import grouped

#: Format of a synthesis.
Form = Literal["markdown", "json", "patches", "pr", "sarif", "rdjsonl", "junit", "html", "agui"]

#: Formats that show findings, and may show only some of them.
_SELECTING = ("markdown", "json", "pr", "sarif", "rdjsonl", "junit", "html")

#: Formats that group the findings, those that may be bounded, and those that follow.
_GROUPING = ("markdown", "pr", "html")
_BOUNDED = ("markdown", "pr")
_FOLLOWING = ("markdown", "json", "patches", "agui")

_FORMATS = ("markdown", "json", "patches", "pr", "sarif", "rdjsonl", "junit", "html", "agui")

_GROUPS = [one.value for one in Group]

#: Options → the formats that they are for.
_FOR = {
    "min_severity": _SELECTING,
    "min_confidence": _SELECTING,
    "since": _SELECTING,
    "group": _GROUPING,
    "max_chars": _BOUNDED,
}

#: Revisions that come within this time of each other are shown as one, s.
JOIN_S = 0.25

#: What has come is shown after this time at the latest, s.
JOIN_S_MAX = 1.0

#: Clears a terminal's line from the cursor on.
_ERASE = "\x1b[K"


def _form(form: Form, words: str) -> Callable[[Any], Any]:
    return click.option(f"--{form}", "form", flag_value=form, help=words)


@click.command()
@on_session
@click.option("-f", "--follow", is_flag=True, help="Print each revision until a final one.")
@click.option(
    "--until",
    type=click.Choice(["final", "refined"]),
    help="With --follow: until it is final (default), or also refined.",
)
@click.option("--revision", type=click.IntRange(min=0), metavar="N", help="Go back to revision N.")
@_form("markdown", "A report for people, or one line a change (default).")
@_form("json", "The whole document; with --follow one a line.")
@_form("patches", "Revisions with their JSON Patches (RFC 6902), one a line.")
@click.option("--format", "named", type=click.Choice(_FORMATS), help="The same, by name; and more.")
@click.option("--min-severity", type=click.Choice(LEVELS), help="Findings as bad, or worse.")
@click.option("--min-confidence", type=click.FloatRange(0, 1), help="At least this confidence.")
@click.option("--since", type=click.IntRange(min=0), metavar="N", help="Changed since revision N.")
@click.option("--group", type=click.Choice(_GROUPS), help="By file (default), severity or agent.")
@click.option(
    "--max-chars",
    type=click.IntRange(min=CHARS_MIN),
    help=f"Longest report, in characters (pr: {CHARS_MAX}).",
)
async def synthesis(
    target: Target,
    follow: bool,
    until: str | None,
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

    --follow prints revisions as they come, until one is final and none comes after it. With --until
    refined it goes on until the refiners are through with it, too.

    \b
      --follow                  changes as lines of Markdown, from the first revision
      --follow --json           the document now, then after each revision, one a line
      --follow --patches        each revision, from the first
      --follow --format agui    the document now, then each change, as events of AG-UI
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
    if until and not follow:
        raise click.UsageError("--until is for --follow")
    if follow and form not in _FOLLOWING:
        raise click.UsageError(f"--follow has no format {form}")
    for option in filters:
        if form not in _FOR[option] or follow:
            flag, forms = f"--{option.replace('_', '-')}", ", ".join(_FOR[option])
            raise click.UsageError(f"{flag} is for --format {forms}, without --follow")
    async with connected(target, waits=follow) as connection:
        session = connection.session(name)
        if follow:
            await _follow(session, revision, form, refined=until == "refined")
            return
        await session.must_exist()
        note = ""
        if form in _BOUNDED and revision is None:
            letters = DeadLetters(connection.store, connection.partitions)
            with suppress(ServerError):  # who may not read these gets the report all the same
                note = (await refused_results(letters, name)).sentence(name)
        if form == "patches":
            await _print_patches(session, revision)
        elif form == "agui":
            await _print_events(session, revision, follow=False)
        else:
            await _print(session, revision, form, filters, note)


async def _print(
    session: Session, number: int | None, form: Form, filters: dict[str, Any], note: str
) -> None:
    synthesis = await session.synthesis(revision=number)
    since = filters.get("since")
    earlier = None if since is None else (await session.synthesis(revision=since)).document
    is_chosen = bool(filters.keys() - {"group", "max_chars"})
    items = select(
        synthesis,
        severity=filters.get("min_severity", UNRATED),
        confidence=filters.get("min_confidence", 0),
        before=earlier,
    )
    by = Group(filters.get("group", Group.FILE))
    if form == "json":
        document = _document(synthesis, items) if is_chosen else synthesis.document
        print_json(_with_groups(document))
    elif form == "sarif":
        click.echo(sarif(items, __version__))
    elif form == "junit":
        click.echo(junit(items, session.name))
    elif form == "rdjsonl":
        print_lines(rdjsonl(items))
        if left_out := sum(not one.path for one in items):
            output.note(f"left out, for want of a path: {counted(left_out, 'finding')}")
    elif form == "html":
        is_whole = not is_chosen
        click.echo(page(synthesis, session.name, items, by, _excerpts(), is_whole=is_whole))
    else:
        folded = form == "pr"
        layout = Layout(
            by,
            filters.get("max_chars", CHARS_MAX if folded else None),
            folded,
            _excerpts() if folded else no_code,
            command_of(session.name),
            note,
        )
        shown = items if is_chosen else None
        print_lines(report(synthesis, session.name, shown, layout))


def _document(synthesis: Synthesis, items: Iterable[Item]) -> dict[str, Any]:
    """Return the document with the chosen findings only."""
    keys = {one.finding.key for one in items}
    document = synthesis.document
    chosen = {key: one for key, one in document.get("findings", {}).items() if key in keys}
    return {**document, "findings": chosen} if document else document


def _with_groups(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the groups of findings that are one thing, if there are any."""
    found = grouped(document)
    return {**document, "groups": found} if found else document


def _excerpts() -> Callable[[str, int, int], list[str]]:
    """Return what reads the files of the project that the command runs in."""
    return Excerpts(locate().top)


async def _print_patches(session: Session, number: int | None) -> None:
    if number is not None:
        await session.synthesis(revision=number)  # raises if there is none
    async for revision in session.revisions(follow=False):
        if number is not None and revision.number > number:
            break
        print_lines([json_line(revision)])


async def _print_events(
    session: Session, after: int | None, *, follow: bool, refined: bool = False
) -> None:
    following = session.state_events(after, follow=follow, refined=refined)
    async with aclosing(following) as events:
        async for event in events:
            print_lines([json_line(event)])


async def _follow(session: Session, number: int | None, form: Form, *, refined: bool) -> None:
    if form == "agui":
        await _print_events(session, number, follow=True, refined=refined)
        return
    after, document = number or 0, None
    if form == "json":
        synthesis = await retry(lambda: session.synthesis(revision=number))
        after, document = synthesis.revision, synthesis.document
        if after:
            print_lines([json_line(_with_groups(document))])
        if synthesis.is_final and number is None:
            if refined and (last := await session.until_final(refined=True)).revision > after:
                print_lines([json_line(_with_groups(last.document))])
            return
    with _progress() as note:
        async with aclosing(session.revisions(after, refined=refined)) as following:
            if form == "markdown":
                async with aclosing(joined(following)) as joining:
                    async for revisions in joining:
                        print_lines(joined_changes(revisions, session.keys.revisions))
                        note(revisions[-1])
                return
            async for revision in following:
                if form == "patches":
                    print_lines([json_line(revision)])
                else:
                    document = apply(session.keys, document, revision)
                    print_lines([json_line(_with_groups(document))])
                note(revision)


async def joined(following: AsyncGenerator[Revision, None]) -> AsyncGenerator[list[Revision], None]:
    """Yield the revisions that come at once in one list: what an agent reports comes in pieces."""
    loop = asyncio.get_running_loop()
    batch: list[Revision] = []
    until = 0.0
    coming = asyncio.ensure_future(anext(following, None))
    try:
        while True:
            rest_s = min(JOIN_S, until - loop.time()) if batch else None
            await asyncio.wait({coming}, timeout=rest_s)
            if coming.done() and (revision := coming.result()) is not None:
                until = until if batch else loop.time() + JOIN_S_MAX
                batch.append(revision)
                coming = asyncio.ensure_future(anext(following, None))
                if loop.time() < until:
                    continue
            if batch:
                yield batch
                batch = []
            if coming.done() and coming.result() is None:
                return
    finally:
        coming.cancel()
        with suppress(asyncio.CancelledError):
            await coming


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
