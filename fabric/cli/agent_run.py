"""`fabric run`: run a command as an agent, or a fleet of them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from fabric.agents import fleet
from fabric.agents.child import Job
from fabric.agents.request import session_of
from fabric.agents.run import AgentRun, Ended
from fabric.cli.connect import Target, json_option, on_target, open_store
from fabric.cli.output import json_line, note, print_lines
from fabric.client.fabric import Fabric
from fabric.core.signal import SignalType
from fabric.view.text import plain

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
@click.option("--fleet", "fleet_file", metavar="FILE", help="Run the agents of a file.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Of --fleet, so many at a time.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print its output.")
@json_option
async def run(
    target: Target,
    command: tuple[str, ...],
    priority: int,
    task: str,
    has_terminal: bool | None,
    fleet_file: str | None,
    limit: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run any command as an agent; return its exit code.

    \b
      fabric run -- claude -p 'Review the API' --output-format stream-json --verbose
      fabric run --agent QA -- ./nightly.sh
      fabric run -- claude                             interactive: it gets the terminal
      fabric run --fleet fleet.toml                    many, each in a git worktree if you like

    The agent is STARTED before the command begins, is kept alive with heartbeats, and has
    COMPLETED or FAILED by the exit code. A line of output that is a signal, JSON or a shorthand
    such as PROGRESS(25%), is sent. The JSON events of claude, codex, gemini and opencode are read:
    the result, progress by the agent's own list of tasks, and quotas that are used up.

    Output passes through and is kept for 14 days; the last line says where. When this ends, however
    it ends, no process of the command is left. A CANCEL to the agent stops the command.
    """
    if fleet_file is not None:
        if command:
            raise click.UsageError("--fleet takes no command: the file has them")
        await _fleet(target, Path(fleet_file), limit, as_json=as_json)
        return
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
        session = _session(target)
        ended = await AgentRun(fabric, session, job, tell=_say, echo=not (quiet or as_json)).run()
    if as_json:
        click.echo(json_line(_facts(ended)))
    else:
        how = "completed" if ended.kind is SignalType.COMPLETED else f"failed: {ended.error}"
        _say(f"{name} {how}, after {ended.seconds:.1f} s")
        if ended.kept is not None:
            _say(f"its output, for 14 days: {ended.kept}")
    code = ended.code or int(ended.kind is SignalType.FAILED)
    if code:
        raise click.exceptions.Exit(code)


def _session(target: Target) -> str:
    """Return the session: that of the settings, else the project's, as hooks have it."""
    return target.need("session", target.session or session_of(Path.cwd()))


async def _fleet(target: Target, path: Path, limit: int | None, *, as_json: bool) -> None:
    chosen, members = fleet.load(path)
    target = replace(target, session=target.session or chosen.session)
    board = FleetBoard([one.job.name for one in members], is_quiet=as_json)
    async with Fabric(open_store(target, "fabric-run"), target) as fabric:
        runs = fleet.Fleet(
            *(fabric, _session(target), members),
            limit=limit or chosen.limit,
            changed=board.changed,
            tell=board.tell,
        )
        with board:
            found = await runs.run()
    if as_json:
        print_lines(json_line(_facts(ended)) for ended in found)
    good = sum(ended.kind is SignalType.COMPLETED for ended in found)
    _say(f"{good} of {len(members)} agents completed")
    if good < len(members):
        raise click.exceptions.Exit(1)


class FleetBoard:
    """Shows a fleet: on a terminal a table that is drawn again, else a line for each change."""

    def __init__(self, names: list[str], *, is_quiet: bool) -> None:
        self._rows = {name: fleet.Row(name) for name in names}
        self._is_quiet = is_quiet
        self._is_terminal = not is_quiet and sys.stdout.isatty()
        self._width = max(map(len, names))
        self._drawn = 0
        self._began: dict[str, float] = {}

    def __enter__(self) -> FleetBoard:
        self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        self._draw()

    def changed(self, row: fleet.Row) -> None:
        """Show how an agent is doing now."""
        self._rows[row.name] = row
        if row.state == "runs":
            self._began.setdefault(row.name, time.monotonic())
        if self._is_terminal:
            self._draw()
        elif not self._is_quiet:
            click.echo(self._line(row))

    def tell(self, words: str) -> None:
        """Show a sentence above the table."""
        if self._is_terminal and self._drawn:
            click.echo(f"\x1b[{self._drawn}A\x1b[J", nl=False)
            self._drawn = 0
        _say(words)
        self._draw()

    def _draw(self) -> None:
        if not self._is_terminal:
            return
        columns, lines = shutil.get_terminal_size()
        # Those at work first, if not all fit.
        order = sorted(self._rows.values(), key=lambda row: row.state != "runs")
        shown = list(self._rows.values()) if len(order) < lines else order[: lines - 2]
        text = [self._line(row)[: columns - 1] for row in shown]
        head = f"\x1b[{self._drawn}A\x1b[J" if self._drawn else ""
        click.echo(head + "\n".join(text))
        self._drawn = len(text)

    def _line(self, row: fleet.Row) -> str:
        percent = "" if row.percent is None else f"{row.percent:.0f} %"
        began = self._began.get(row.name)
        seconds = row.seconds or (time.monotonic() - began if began else 0)
        cells = f"{row.name:{self._width}}  {row.state:9}  {percent:>5}  {seconds:6.1f} s"
        return plain(f"{cells}  {row.detail}").rstrip()


def _facts(ended: Ended) -> dict[str, Any]:
    return ended._asdict() | {"kind": ended.kind.value, "kept": _text(ended.kept)}


def _text(path: Path | None) -> str | None:
    return None if path is None else os.fsencode(path).decode(errors="replace")


def _say(words: str) -> None:
    with suppress(OSError):  # the terminal may be gone while the work goes on
        note(words)
