"""`fabric why`: the chain of causes that put an agent where it is, and what would free it."""

from __future__ import annotations

import click

from fabric.cli.connect import Target, connected, run
from fabric.cli.options import json_option, on_target
from fabric.cli.output import print_json, print_lines
from fabric.ops.replay import Until, until
from fabric.ops.why.explanation import Explanation, why
from fabric.ops.why.snapshot import Cause
from fabric.view.text import clock, plain


@click.command(short_help="Tell why an agent is where it is, and what frees it.")
@click.argument("agent")
@on_target("session")
@click.option(
    "--until",
    "stop",
    metavar="ID|TIME",
    help="As it was then: after a log id (12-0), at a time since the session opened (1:05), or at "
    "an RFC 3339 time.",
)
@json_option
def command(target: Target, agent: str, stop: str | None, as_json: bool) -> None:
    """Tell from the log why an agent waits, is paused, has ended or is at work.

    Below each cause stands its own cause, across agents, down to who or what can end it; a line
    with an arrow says what that is. Times are counted from the opening of the session, as in
    `fabric tail`; ids in brackets are log entries.
    """
    place = until(stop) if stop is not None else None
    answer = run(_explained(target, target.need("session"), agent, place))
    if as_json:
        print_json(answer)
    else:
        print_lines(map(plain, words(answer)))


async def _explained(target: Target, session: str, agent: str, stop: Until | None) -> Explanation:
    async with connected(target) as connection:
        return await why(connection.store, connection.keys(session)[1], agent, stop)


def words(answer: Explanation) -> list[str]:
    """Return an explanation as the lines that a person reads."""
    lines = [answer.text]
    if answer.up_to:
        lines.append(f"In the end it is up to {'; '.join(answer.up_to)}")
    lines.append("")
    for cause in answer.causes:
        lines += _tree(cause, "")
    if answer.refused:
        lines += ["", "Refused lately", *_rows(answer.refused, answer.opened_ms)]
    if answer.history:
        lines += ["", "How it came there, newest first", *_rows(answer.history, answer.opened_ms)]
    return lines


def _tree(cause: Cause, indent: str) -> list[str]:
    lines = [indent + cause.text]
    if cause.frees:
        lines.append(f"{indent}  → {cause.frees}")
    for child in cause.children:
        lines += _tree(child, f"{indent}  ")
    return lines


def _rows(causes: list[Cause], opened_ms: int) -> list[str]:
    width = max(len(cause.log) for cause in causes)
    lines = []
    for cause in causes:
        # What an agent is told in answer to its own words stands right above them.
        because = "".join(
            f"  (of {child.log})" if child.agent == cause.agent else f"  ({child.text})"
            for child in cause.children
        )
        time = clock(cause.at_ms, opened_ms)
        lines.append(f"  {time:>5}  {cause.log:<{width}}  {cause.text}{because}")
    return lines
