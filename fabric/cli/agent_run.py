"""`fabric run`: run a command as an agent, or a fleet of them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import click

from fabric.agents.run import AgentRun, Job
from fabric.cli.connect import Target, json_option, on_target, open_store
from fabric.cli.output import json_line, note
from fabric.client.fabric import Fabric
from fabric.core.signal import SignalType

#: Words by which a coding agent is told to work without its terminal.
_HEADLESS = {
    "claude": {"-p", "--print"},
    "codex": {"exec", "e", "review"},
    "gemini": {"-p", "--prompt"},
    "opencode": {"run", "serve"},
}


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND...")
@on_target("session", "agent", "stream")
@click.option("--priority", type=int, default=0, help="Who comes first in a conflict: the higher.")
@click.option("--task", default="", help="Task of the board that it works on.")
@click.option(
    "--tty/--no-tty",
    "has_terminal",
    default=None,
    help="Give it the terminal; its output is then neither read nor kept. Default: for a coding "
    "agent that is started without a prompt, on a terminal.",
)
@click.option("-q", "--quiet", is_flag=True, help="Do not print its output.")
@json_option
async def run(
    target: Target,
    command: tuple[str, ...],
    priority: int,
    task: str,
    has_terminal: bool | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run any command as an agent; return its exit code.

    \b
      fabric run -- claude -p 'Review the API' --output-format stream-json --verbose
      fabric run --agent QA -- ./nightly.sh
      fabric run -- claude                             interactive: it gets the terminal

    The agent is STARTED before the command begins, is kept alive with heartbeats, and has
    COMPLETED or FAILED by the exit code. A line of output that is a signal, JSON or a shorthand
    such as PROGRESS(25%), is sent. The JSON events of claude, codex, gemini and opencode are read:
    the result, progress by the agent's own list of tasks, and quotas that are used up.

    Output passes through and is kept for 14 days; the last line says where. When this ends, however
    it ends, no process of the command is left. A CANCEL to the agent stops the command.
    """
    if not command:
        raise click.UsageError("give a command after --")
    is_terminal = all(one is not None and one.isatty() for one in (sys.stdin, sys.stdout))
    if has_terminal is None:
        headless = _HEADLESS.get(Path(command[0]).name)
        has_terminal = is_terminal and headless is not None and not headless & set(command)
    name = target.agent or f"{Path(command[0]).name}-{os.urandom(2).hex()}"
    job = Job(
        name,
        command,
        stream=target.stream or "",
        priority=priority,
        task=task,
        has_terminal=has_terminal,
    )
    if has_terminal:  # Ctrl-C is for the command
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
    async with Fabric(open_store(target, "fabric-run"), target) as fabric:
        session = target.need("session")
        ended = await AgentRun(fabric, session, job, tell=_say, echo=not (quiet or as_json)).run()
    facts = ended._asdict() | {"kind": ended.kind.value, "kept": _text(ended.kept)}
    if as_json:
        click.echo(json_line(facts))
    else:
        how = "completed" if ended.kind is SignalType.COMPLETED else f"failed: {ended.error}"
        _say(f"{name} {how}, after {ended.seconds:.1f} s")
        if ended.kept is not None:
            _say(f"its output, for 14 days: {ended.kept}")
    code = ended.code or int(ended.kind is SignalType.FAILED)
    if code:
        raise click.exceptions.Exit(code)


def _text(path: Path | None) -> str | None:
    return None if path is None else os.fsencode(path).decode(errors="replace")


def _say(words: str) -> None:
    with suppress(OSError):  # the terminal may be gone while the work goes on
        note(words)
