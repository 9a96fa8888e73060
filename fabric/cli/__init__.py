"""The command line: `main`, and the table of commands.

This module imports only the standard library, click and the errors, and imports a command's module
when that command runs: `fabric --help` costs no more than click.

Data goes to stdout, notes to stderr. Exit codes: 0 done, 1 failed, 2 usage, 3 not found,
4 not allowed, 5 held by another, 6 server unreachable, 7 timed out; 74 output cannot be written,
130 after Ctrl-C, 141 the reader of the output is gone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from io import StringIO
from itertools import chain
from typing import Any

import click

from fabric import __version__
from fabric.errors import FabricError

#: Exit code after Ctrl-C, as shells have it: 128 + SIGINT.
INTERRUPTED = 130
#: Exit code when the reader of our output is gone, as shells have it: 128 + SIGPIPE.
BROKEN_PIPE = 141
#: Exit code when our output cannot be written (a full disk, say): EX_IOERR of sysexits.h.
OUTPUT_FAILED = 74


#: The commands in the order of the help: title of a group → name → the command's module in
#: `fabric.cli`, which names it as users do, and its line in the help.
GROUPS = {
    "Plan the work": {
        "plan": ("plan", "Say which tasks run in parallel, which cannot and why, and how long."),
        "tasks": ("tasks", "Show the task board; load, add, close and reopen tasks."),
    },
    "Work as an agent": {
        "run": ("agent_run", "Run any command as an agent: claude, codex, a script."),
        "emit": ("emit", "Send a signal, or many from standard input."),
        "mcp": ("mcp", "Serve claims, waits, findings and questions to models as tools."),
        "finding": ("finding", "Report one finding."),
        "add": ("finding", "Add numbers to totals that all agents share."),
        "inbox": ("agent", "Read the messages that have come for an agent."),
        "wait": ("agent", "Block until a dependency is there or agents have ended."),
        "guard": ("agent", "Check whether you may write a file now."),
    },
    "Watch a session": {
        "status": ("session", "List sessions, or show one session's agents and tasks."),
        "watch": ("watch", "Watch a session live: agents, waits, findings, timeline."),
        "tail": ("log", "Print a session's timeline."),
        "synthesis": ("synthesis", "Print the combined result of all agents so far."),
        "why": ("log", "Explain what an agent waits for and what would unblock it."),
    },
    "Begin and end a run": {
        "open": ("lifecycle", "Begin the next run of a session that was closed."),
        "handoff": ("handoff", "Write a session's handoff; begin the next session from one."),
        "close": ("lifecycle", "End a run; its agents are told, the synthesis becomes final."),
        "export": ("lifecycle", "Write everything of a session to a file."),
        "purge": ("lifecycle", "Delete everything of sessions that have ended."),
    },
    "Answer questions": {
        "escalations": ("questions", "List the questions that need a person's answer."),
        "decide": ("questions", "Answer one of them."),
        "same": ("relation", "Say that findings are the same issue, or are not."),
        "renamed": ("relation", "Say that a file or folder has another name."),
    },
    "Run the fabric": {
        "simulate-agents": ("simulate", "See two agents want one file; no model is needed."),
        "init": ("init", "Put the hooks into Claude Code, Codex, Gemini CLI, OpenCode; undo it."),
        "hook": ("hook", "Answer one event of a coding agent's client; clients run it."),
        "agentd": ("hook", "Run the agent daemon of this host; hooks start it by themselves."),
        "up": ("run", "Start server, orchestrator and synthesizer; stop on Ctrl-C."),
        "down": ("run", "Stop this project's private server and what uses it: `up`, `demo`."),
        "demo": ("demo", "Watch a fleet of agents review a folder of Python files."),
        "orchestrator": ("run", "Run one orchestrator: routes signals by rules."),
        "synthesizer": ("run", "Run one synthesizer: combines the agents' results."),
        "workers": (
            "workers",
            "List the workers on all hosts: who serves, who stands by.",
        ),
    },
    "Check and repair": {
        "doctor": ("inspection", "Check server, settings and workers; say how to fix them."),
        "dead": ("dead", "List refused signals; send them again or delete them."),
        "replay": ("log", "Check a session against its log, or show an earlier state."),
        "keys": ("inspection", "Print a redis-cli command for every key."),
        "rules": ("rules", "Check the rule file, or print the rules in force."),
        "trust": ("trust", "Show what the project's fabric.toml would run, and allow it."),
        "schema": ("inspection", "Print the JSON Schema of signals."),
    },
}


class Program(click.Group):
    """The commands of GROUPS, each imported when it is first used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands in the order of the help."""
        return [*chain.from_iterable(GROUPS.values())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; return None when there is none of that name."""
        for commands in GROUPS.values():
            if cmd_name in commands:
                module = import_module(f"fabric.cli.{commands[cmd_name][0]}")
                known = getattr(module, "COMMANDS", {})  # where a name is Python's own
                command: click.Command = known.get(cmd_name) or getattr(module, cmd_name)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of the arguments; suggest the nearest name when there is none."""
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], names, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"No such command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line for each command from the table, without importing it."""
        width = max(map(len, self.list_commands(ctx)))
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), one[1]) for name, one in commands.items()])

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Parse the arguments; this prints the help."""
        with _output():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command and return what it returns."""
        with _output():
            return super().invoke(ctx)


@contextmanager
def _output() -> Iterator[None]:
    """Inside, end silently if the reader has gone, and with a reason if we cannot write."""
    try:
        try:
            yield
        finally:
            with suppress(AttributeError):  # stdout was closed from the start
                sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:  # of a file, not of what we print
            raise
        # The interpreter flushes its buffers at its end: give them somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        with suppress(OSError):  # stderr may be the one that is full
            click.echo(f"fabric: output cannot be written: {error.strerror or error}", err=True)
        raise click.exceptions.Exit(OUTPUT_FAILED) from None


program = Program(
    "fabric",
    help=(
        "Coordinate a fleet of agents through Redis Streams: agents send signals, fixed rules "
        "decide, and each agent is told what to do next.\n\n"
        "Commands that print data take --json. Settings come from flags, then FABRIC_… in the "
        "environment, then the project's fabric.toml, then the user's."
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
click.version_option(__version__, prog_name="fabric", message="%(prog)s %(version)s")(program)


def main() -> int:
    """Run the command line on the process's arguments; return the exit code."""
    name = "signal-fabric" if sys.argv[0].endswith("signal-fabric") else "fabric"
    try:
        result = program.main(prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        shown = StringIO()
        error.show(shown)
        click.echo(_plain(shown.getvalue()), err=True, nl=False)
        return error.exit_code
    except FabricError as error:
        click.echo(_plain(f"fabric: {error}"), err=True)
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def _plain(text: str) -> str:
    """Return a message that is safe to print, whatever input it repeats."""
    from fabric.wire.stored import printable

    return "\n".join(map(printable, text.split("\n")))
