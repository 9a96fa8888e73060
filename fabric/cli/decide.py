"""`fabric decide`: a person's answer to a question of an agent."""

from __future__ import annotations

import getpass

import click

from fabric.cli.connect import Connection, Target, connected, run
from fabric.cli.options import json_option, on_target
from fabric.cli.output import json_line
from fabric.client.emitter import Emitter
from fabric.core.limits import NAME_CHARS_MAX
from fabric.ops.questions import Answering, Question, session_of
from fabric.view.text import plain

#: Seconds until it is said that nothing has come of an answer: an orchestrator takes some ms.
TIMEOUT_S = 10.0


@click.command(short_help="Answer a question that waits for a person.")
@click.argument("id_", metavar="ID")
@click.argument("answer", metavar="ANSWER")
@on_target("session")
@click.option("--by", metavar="NAME", help="Who decides; your login name if you say nothing.")
@click.option("--free", is_flag=True, help="Answer otherwise than the question's options.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=TIMEOUT_S,
    show_default=True,
    metavar="S",
    help="Seconds to wait until the answer counts.",
)
@json_option
def command(
    target: Target,
    id_: str,
    answer: str,
    by: str | None,
    free: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Answer a question, and say which agents were told.

    \b
      fabric escalations              which questions are open
      fabric decide 7-0 v1            one of its options
      fabric decide 7-0 v3 --free     another answer

    Without a session (-s, FABRIC_SESSION) the question is looked for in all of them. The first
    answer counts: exit code 4 says what somebody else has decided, 7 that nothing has come of it
    in time.
    """
    name = _name(by)
    decided, told = run(_decide(target, id_, answer, name, free=free, timeout_s=timeout))
    if as_json:
        click.echo(json_line(_document(decided, told)))
    else:
        whom = ", ".join(told) or "nobody waits for it"
        click.echo(plain(f"{decided.id}: {decided.record.decision} (told: {whom})"))


def _name(given: str | None) -> str:
    """Return who decides, as a name that a signal can carry."""
    try:
        text = getpass.getuser() if given is None else given
    except (KeyError, OSError):  # a user without a name, as in some containers
        text = ""
    name = plain(text).strip()[:NAME_CHARS_MAX].strip()
    if not name:
        raise click.UsageError("who decides? Name yourself with --by")
    return name


async def _decide(
    target: Target, id_: str, answer: str, by: str, *, free: bool, timeout_s: float
) -> tuple[Question, list[str]]:
    async with connected(target) as connection:
        session = target.session
        if not session:
            session = (await session_of(connection.store, connection.partitions, id_)).name
        answering = _answering(connection, session, by)
        return await answering.decide(id_, answer, free=free, timeout_s=timeout_s)


def _answering(connection: Connection, session: str, by: str) -> Answering:
    target, (partition, keys) = connection.target, connection.keys(session)
    emitter = Emitter(
        connection.store,
        partition.number,
        ingress_max=target.ingress_max,
        limit_ms=target.emit_limit_ms,
    )
    return Answering(connection.store, partition, keys, emitter, by=by)


def _document(decided: Question, told: list[str]) -> dict[str, object]:
    return {
        "session": decided.session,
        "id": decided.id,
        "decision": decided.record.decision,
        "by": decided.record.by,
        "decided_ms": decided.record.decided_ms,
        "told": told,
    }
