"""The command line: `main`, and which module holds which command (design, section 7).

Nothing but the standard library, click and the errors is imported here, and a command's module only
when that command runs: `fabric --help` costs no more than click, whatever the commands need.

Data goes to stdout, words to stderr. Exit codes: 0 done, 1 failed, 2 usage, 3 not found,
4 not allowed, 5 held by another, 6 server unreachable, 7 timed out; 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import StringIO

import click

from fabric import __version__
from fabric.errors import FabricError

#: Exit code after Ctrl-C, as shells have it: 128 + SIGINT.
INTERRUPTED = 130
#: Exit code when who read our output has gone, as shells have it: 128 + SIGPIPE.
BROKEN_PIPE = 141

#: The commands in the order of the help: title of a group → name → (module, one line of help). Each
#: module calls its click command `command`.
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Run": {
        "up": ("fabric.cli.up", "Run server, orchestrator and synthesizer until Ctrl-C."),
        "down": ("fabric.cli.down", "Stop this project's own server and its workers."),
        "demo": ("fabric.cli.demo", "Let a fleet of reviewers work on a folder, live."),
        "orchestrator": ("fabric.cli.orchestrator", "Serve as an orchestrator."),
        "synthesizer": ("fabric.cli.synthesizer", "Serve as a synthesizer."),
    },
    "Be an agent": {
        "emit": ("fabric.cli.emit", "Send a signal, or NDJSON from standard input with '-'."),
        "inbox": ("fabric.cli.inbox", "Read what has come for an agent."),
        "wait": ("fabric.cli.wait", "Wait for a dependency, an agent, or all agents."),
        "guard": ("fabric.cli.guard", "Refuse a write that is another's to make."),
    },
    "Watch": {
        "status": ("fabric.cli.status", "Show sessions, or one session's agents and tasks."),
        "tail": ("fabric.cli.tail", "Show a session's timeline."),
        "synthesis": ("fabric.cli.synthesis", "Show what the agents have found, put together."),
        "why": ("fabric.cli.why", "Tell why an agent is where it is, and what frees it."),
        "replay": ("fabric.cli.replay", "Rebuild a session from its log, and compare."),
        "keys": ("fabric.cli.keys", "Show the redis-cli lines that read everything."),
    },
    "Put right": {
        "escalations": ("fabric.cli.escalations", "List the questions that wait for a person."),
        "decide": ("fabric.cli.decide", "Answer one of them."),
        "dead": ("fabric.cli.dead", "List, retry or discard refused signals."),
        "doctor": ("fabric.cli.doctor", "Check server, settings and workers."),
    },
    "Look up": {
        "schema": ("fabric.cli.schema", "Print the JSON Schema of the signals."),
        "rules": ("fabric.cli.rules", "Check the rule file, or show the rules in force."),
    },
}


class Program(click.Group):
    """The commands of GROUPS, each imported when it is first asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands in the order of the help."""
        return [name for commands in GROUPS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None when there is none of that name."""
        for commands in GROUPS.values():
            if cmd_name in commands:
                command: click.Command = import_module(commands[cmd_name][0]).command
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments begin with; name the nearest when there is none."""
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], names, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"No such command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' lines from the table, without importing them."""
        width = max(map(len, self.list_commands(ctx)))
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(width), line) for name, (_, line) in commands.items()]
                )

    def invoke(self, ctx: click.Context) -> object:
        """Run the command and return what it returns; a reader that has gone ends it silently."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            # What is still in the buffers has nowhere to go; the interpreter flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(BROKEN_PIPE)


program = Program(
    "fabric",
    help=(
        "Coordinate a fleet of agents: typed signals in, rules decide, directives out, all of it "
        "on Redis Streams.\n\n"
        "What prints data takes --json. Settings come from flags, then FABRIC_… in the "
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
    """Return a message, which may repeat what somebody has given, fit for any terminal."""
    from fabric.wire.printable import printable

    return "\n".join(map(printable, text.split("\n")))
