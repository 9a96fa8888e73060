"""`fabric escalations` and `fabric decide`: the questions that need a person's answer."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from fabric.cli.connect import Connection, Target, connected, json_option, on_session, on_target
from fabric.cli.output import json_line, note, print_lines
from fabric.client.sent_signal import SentSignal
from fabric.client.session import Session
from fabric.core.limits import NAME_CHARS_MAX
from fabric.ops.questions import (
    Question,
    all_questions,
    follow,
    open_question,
    questions,
    session_of,
    surest,
)
from fabric.ops.questions import decide as answered
from fabric.view.status import question_lines
from fabric.view.text import counted, plain

#: Seconds that `fabric decide` waits for the orchestrator, which needs a few ms.
TIMEOUT_S = 10.0


@click.command()
@on_session
@click.option(
    "--all", "everything", is_flag=True, help="Print also decided ones, and each contradiction."
)
@click.option("-f", "--follow", "forever", is_flag=True, help="Print new ones too, until Ctrl-C.")
@json_option
@click.pass_context
async def escalations(
    context: click.Context, target: Target, everything: bool, forever: bool, as_json: bool
) -> None:
    """List the open questions, the oldest first, each with the command that answers it.

    \b
      fabric escalations              of FABRIC_SESSION, or of all sessions
      fabric escalations demo --all   also the decided ones: what, by whom, when
      fabric escalations demo -f      and each new one as it is asked

    --follow needs a session.
    """
    # The command printed for the answer need not name a session that the environment names.
    flag = context.get_parameter_source("session") is ParameterSource.COMMANDLINE
    is_named = flag or context.params["name"]
    page = _Page(None if is_named else target.session, everything, as_json)
    session = target.need("session") if forever else target.session
    async with connected(target, waits=forever) as connection:
        if session and forever:
            async for found in follow(connection.store, connection.keys(session)[1]):
                page.print(found, await connection.store.now_ms())
        if not session:
            found = await all_questions(connection.store, connection.partitions)
        else:
            reader = connection.session(session)
            await reader.must_exist()
            found = await questions(reader)
        now_ms = await connection.store.now_ms()
    if not page.print(found, now_ms):
        note("no questions" if everything else "no open questions")
    early = [] if everything or as_json else [one for one in found if one.record.in_grace]
    if early:
        what = counted(len(early), "contradiction")
        note(f"{what} that agents may still settle: nobody is asked yet (--all)")


@dataclass
class _Page:
    """Prints questions one below the other. `home` is the session that `fabric decide` uses."""

    home: str | None
    everything: bool
    as_json: bool
    has_printed: bool = False

    def print(self, found: list[Question], now_ms: int) -> bool:
        """Print the wanted ones of some questions; return whether there was one."""
        wanted = [one for one in found if self.everything or one.is_asked]
        if self.as_json:
            print_lines(json_line(_document(one)) for one in wanted)
            return bool(wanted)
        lines: list[str] = []
        for one in wanted:
            lines += [""] if self.has_printed else []
            lines += question_lines(
                one.session,
                one.id,
                one.record,
                now_ms=now_ms,
                home=self.home,
                waiting=one.waiting,
                named=one.named,
            )
            self.has_printed = True
        print_lines(lines)
        return bool(wanted)


def _document(one: Question) -> dict[str, Any]:
    record = msgspec.structs.asdict(one.record)
    if not isinstance(record["context"], msgspec.Raw):
        record["context"] = None  # every line has the same fields
    return {"session": one.session, "id": one.id, **record, "is_awaited": one.is_awaited}


@click.command()
@click.argument("id_", metavar="[ID]", required=False)
@click.argument("answer", metavar="[ANSWER]", required=False)
@on_target("session")
@click.option("--all", "glob", metavar="GLOB", help="Decide all contradictions of such parts.")
@click.option(
    "--prefer",
    type=click.Choice(["confidence"]),
    help="With --all: the value of the surest agent holds.",
)
@click.option("--by", metavar="NAME", help="Your name (default: your login name).")
@click.option("--free", is_flag=True, help="Allow an answer that is not one of the options.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=TIMEOUT_S,
    show_default=True,
    metavar="S",
    help="Seconds to wait until the decision takes effect.",
)
@json_option
async def decide(
    target: Target,
    id_: str | None,
    answer: str | None,
    glob: str | None,
    prefer: str | None,
    by: str | None,
    free: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Answer an open question, and print which agents were told.

    \b
      fabric escalations              list the open questions
      fabric decide 7-0 v1            answer with one of the options
      fabric decide 7-0 v3 --free     answer with something else
      fabric decide -s demo --all 'findings:*' --prefer confidence

    With --all, contradictions in which two values are as sure stay open; each is named.
    Without a session (-s, FABRIC_SESSION), the question is looked up in all sessions. The first
    answer counts. Exit code 4: somebody else has already decided; the message says what. 7: no
    orchestrator handled the answer before the timeout.
    """
    name, session = person(by), target.session
    if glob is not None:
        if id_ or answer or free or not prefer:
            raise click.UsageError("--all takes --prefer, and neither an id nor an answer")
        await _decide_all(target, glob, name, timeout, as_json)
        return
    if not id_ or not answer or prefer:
        raise click.UsageError("an id and an answer are needed, or --all with --prefer")
    async with connected(target, patience_s=timeout) as connection:
        if not session:
            session = await session_of(connection.store, connection.partitions, id_)
        reader, sent = _voice(connection, session)
        asked = await open_question(reader, id_, answer, free=free)
        decided, told = await answered(reader, sent, asked, answer, by=name, timeout_s=timeout)
    _print_decided(decided, told, as_json)


async def _decide_all(target: Target, glob: str, name: str, timeout: float, as_json: bool) -> None:
    """Decide the contradictions of matching parts for the value of the surest agent."""
    session = target.need("session")
    async with connected(target, patience_s=timeout) as connection:
        reader, _ = _voice(connection, session)
        await reader.must_exist()
        found = surest(await reader.synthesis(), glob)
        for question, answer in found.items():
            if answer is None:
                note(f"{question} stays open: two values are as sure")
                continue
            _, sent = _voice(connection, session)
            asked = await open_question(reader, question, answer, free=False)
            decided, told = await answered(reader, sent, asked, answer, by=name, timeout_s=timeout)
            _print_decided(decided, told, as_json)
    if not found:
        note(f"no open contradiction matches {glob}")


def _voice(connection: Connection, session: str) -> tuple[Session, SentSignal]:
    """Return a session to read from, and what sends one answer to it."""
    partition, keys = connection.keys(session)
    emitter = connection.emitter(partition.number)
    sent = SentSignal(connection.store, partition, emitter, keys.log)
    return connection.session(session), sent


def _print_decided(decided: Question, told: Sequence[str], as_json: bool) -> None:
    if as_json:
        record = decided.record
        what = {"decision": record.decision, "by": record.by, "decided_ms": record.decided_ms}
        question = {"session": decided.session, "id": decided.id, **what, "told": told}
        click.echo(json_line(question))
    else:
        # Whom the fabric tells of an answer to a question of its own depends on the answer.
        nobody = "" if decided.record.subject else "no agent waits for it"
        agents = f" (told: {', '.join(told) or nobody})" if told or nobody else ""
        click.echo(plain(f"{decided.id}: {decided.record.decision}{agents}"))


def person(given: str | None) -> str:
    """Return the person's name as a signal can carry it."""
    try:
        text = getpass.getuser() if given is None else given
    except (KeyError, OSError):  # a user without a name, as in some containers
        text = ""
    name = plain(text).strip()[:NAME_CHARS_MAX].strip()
    if not name:
        raise click.UsageError("your login name is not known: name yourself with --by")
    return name
