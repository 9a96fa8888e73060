"""`fabric synthesis`: print the combined result of all agents, now or as it grows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from enum import Enum
from typing import Any

import click

from fabric.backoff import retry
from fabric.cli.connect import Target, connected, on_target
from fabric.cli.output import json_line, print_json, print_lines
from fabric.client.session import Session
from fabric.client.synthesis import Revision, apply
from fabric.view.synthesis import Synthesis, changes, progress, report

#: Clears a terminal's line from the cursor on.
_ERASE = "\x1b[K"


class Form(Enum):
    """Format of the output."""

    MARKDOWN = "markdown"
    JSON = "json"
    PATCHES = "patches"


def _form(form: Form, words: str) -> Callable[[Any], Any]:
    return click.option(
        f"--{form.value}", "form", flag_value=form, type=click.UNPROCESSED, help=words
    )


@click.command()
@click.argument("name", metavar="[SESSION]", required=False)
@on_target("session")
@click.option("-f", "--follow", is_flag=True, help="Print each revision until a final one.")
@click.option("--revision", type=click.IntRange(min=0), metavar="N", help="Go back to revision N.")
@_form(Form.MARKDOWN, "A report for people, or one line a change (default).")
@_form(Form.JSON, "The whole document; with --follow one a line.")
@_form(Form.PATCHES, "Revisions with their JSON Patches (RFC 6902), one a line.")
async def synthesis(
    target: Target, name: str | None, follow: bool, revision: int | None, form: Form | None
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

    A session can go on after a final revision: continue with --follow --revision N. Exit code 3:
    there is no such session, or no revision N yet.
    """
    form = form or Form.MARKDOWN
    name = target.need("session", name)
    async with connected(target) as connection:
        session = connection.session(name)
        if not follow:
            await session.must_exist()
            await _print(session, revision, form)
        else:
            await _follow(session, revision, form)


async def _print(session: Session, number: int | None, form: Form) -> None:
    if form is Form.PATCHES:
        if number is not None:
            await session.synthesis(revision=number)  # raises if there is none
        async for revision in session.revisions(follow=False):
            if number is not None and revision.number > number:
                break
            print_lines([json_line(revision)])
        return
    synthesis = await session.synthesis(revision=number)
    if form is Form.JSON:
        print_json(synthesis.document)
    else:
        print_lines(report(synthesis, session.name))


async def _follow(session: Session, number: int | None, form: Form) -> None:
    after, document = number or 0, None
    if form is Form.JSON:
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
                if form is Form.MARKDOWN:
                    key, is_final = session.keys.revisions, revision.is_final
                    said = changes(revision.number, revision.patch, is_final=is_final, key=key)
                elif form is Form.PATCHES:
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
