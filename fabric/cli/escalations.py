"""`fabric escalations`: the questions that agents have for a person."""

from __future__ import annotations

import shlex
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from fabric.cli.connect import Connection, Target, connected, run
from fabric.cli.options import json_option, on_target
from fabric.cli.output import ago, json_line, print_lines
from fabric.client.session import Session
from fabric.core.decision import ORCHESTRATOR
from fabric.ops.questions import Question, all_questions, follow, questions
from fabric.view.text import plain, rfc3339

#: Lines shown of a question and of its context, and characters of each: a dozen questions are to
#: fit on a screen. `--json` has all.
LINES_SHOWN = 8
CHARS_SHOWN = 200

#: Width of the words before the values.
_WIDTH = 9


@click.command(short_help="List the questions that wait for a person.")
@click.argument("name", metavar="[SESSION]", required=False)
@on_target("session")
@click.option("--all", "everything", is_flag=True, help="Also those that are decided, and how.")
@click.option("-f", "--follow", "forever", is_flag=True, help="Go on with new ones, until Ctrl-C.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    target: Target,
    name: str | None,
    everything: bool,
    forever: bool,
    as_json: bool,
) -> None:
    """List open questions, the oldest first: who asks, what, who waits, and how to answer.

    Without a session (also none in FABRIC_SESSION) those of all sessions; --follow needs one.
    """
    # What the line with the answer may leave out: whoever pastes it has it set.
    named = name or context.get_parameter_source("session") is ParameterSource.COMMANDLINE
    page = Page(None if named else target.session, everything=everything, as_json=as_json)
    if forever:
        run(_follow(target, target.need("session", name), page))
    elif not run(_list(target, name or target.session, page)):
        click.echo("fabric: no questions" if everything else "fabric: no open questions", err=True)


class Page:
    """Prints questions, one below the other. `home` is the session that `fabric decide` takes."""

    def __init__(self, home: str | None, *, everything: bool, as_json: bool) -> None:
        self._home = home
        self._everything = everything
        self._as_json = as_json
        self._has_printed = False

    def print(self, found: list[Question]) -> bool:
        """Print those that are wanted; return whether there was one."""
        wanted = [one for one in found if self._everything or one.is_open]
        lines: list[str] = []
        for one in wanted:
            if self._as_json:
                lines.append(json_line(_document(one)))
                continue
            if self._has_printed:
                lines.append("")
            lines += self._words(one)
            self._has_printed = True
        print_lines(lines)
        return bool(wanted)

    def _words(self, one: Question) -> list[str]:
        record = one.record
        asked = f"asked {ago(record.asked_ms)} ago by {record.asker or ORCHESTRATOR}"
        subject = ": ".join(filter(None, (record.subject, record.about)))
        about = f" ({subject})" if subject else ""
        lines = [plain(f"{one.id}  in {one.session}, {asked}{about}")]
        lines += [f"  {line}" for line in _cut(record.question)]
        if record.to:
            lines += _labelled("asked of", [plain(record.to)])
        if record.options:
            lines += _labelled("options", _cut("\n".join(map(plain, record.options))))
        context = _indented(record.context)
        if context:
            lines += _labelled("context", _cut(context))
        if one.is_open:
            waiting = [name for name in dict.fromkeys([record.asker, *record.waiting]) if name]
            if waiting:
                lines += _labelled("waiting", _cut(plain(", ".join(waiting))))
            if record.concerned:
                lines += _labelled("told", _cut(plain(", ".join(record.concerned))))
            return lines + _labelled("answer", [self._answer(one)])
        by = f"by {record.by}, " if record.by else ""
        lines += _labelled("decided", _cut(record.decision))
        return lines + _labelled("", [plain(f"{by}{rfc3339(record.decided_ms)}")])

    def _answer(self, one: Question) -> str:
        session = [] if one.session == self._home else ["--session", one.session]
        dashed = ["--"] if one.id.startswith("-") else []
        return plain(f"fabric decide {shlex.join([*session, *dashed, one.id])} ANSWER")


async def _list(target: Target, name: str | None, page: Page) -> bool:
    async with connected(target) as connection:
        return page.print(await _found(connection, name))


async def _found(connection: Connection, name: str | None) -> list[Question]:
    if name is None:
        return await all_questions(connection.store, connection.partitions)
    session = Session(connection.store, connection.keys(name)[1])
    await session.must_exist()
    return await questions(session)


async def _follow(target: Target, name: str, page: Page) -> None:
    async with connected(target) as connection:
        async for found in follow(connection.store, connection.keys(name)[1]):
            page.print(found)


def _labelled(label: str, lines: list[str]) -> list[str]:
    """Return lines beside a word, aligned with those of other words."""
    heads = [f"{label}:" if label else "", *[""] * len(lines)]
    return [f"  {head:<{_WIDTH}} {line}" for head, line in zip(heads, lines, strict=False)]


def _cut(text: str) -> list[str]:
    """Return the first lines of a text, each cut; the last one says that there is more."""
    lines = [plain(line) for line in text.splitlines()] or [""]
    cut = [line if len(line) <= CHARS_SHOWN else f"{line[:CHARS_SHOWN]} …" for line in lines]
    more = len(cut) - LINES_SHOWN
    return [*cut[:LINES_SHOWN], f"… {more} more lines (--json)"] if more > 0 else cut


def _indented(context: object) -> str:
    if not isinstance(context, msgspec.Raw) or bytes(context) in {b"", b"null"}:
        return ""
    return msgspec.json.format(bytes(context), indent=2).decode("utf-8", "replace")


def _document(one: Question) -> dict[str, Any]:
    record = msgspec.structs.asdict(one.record)
    if not isinstance(record["context"], msgspec.Raw):
        record["context"] = None  # as in every other line of the output, the field is there
    return {"session": one.session, "id": one.id, **record}
