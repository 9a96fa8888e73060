"""`fabric simulate-agents`: see two agents want one file, in seconds, without a model."""

from __future__ import annotations

import textwrap

import click

from fabric.agents import simulation
from fabric.cli.connect import json_option
from fabric.cli.output import json_line

#: Columns of a line: of who acts, and of all.
_WHO, _ALL = 8, 100


@click.command("simulate-agents")
@json_option
def simulate_agents(as_json: bool) -> None:
    """See two agents of different vendors want one file; no client and no model is needed.

    \b
      fabric simulate-agents

    The hooks get what Claude Code and Codex would give them, and their answers are obeyed, first
    without the fabric and then with it. Server and files are in a scratch folder that is deleted.
    Exit code 1 if an edit was lost with the fabric.
    """

    def tell(who: str, what: str) -> None:
        if not as_json:
            indent = " " * (_WHO + 2)
            click.echo(
                textwrap.fill(
                    what, _ALL, initial_indent=f"{who:{_WHO}}  ", subsequent_indent=indent
                )
            )

    found = simulation.simulate(tell)
    if as_json:
        click.echo(json_line(vars(found)))
    else:
        click.echo(f"\n{found.seconds:.1f} s. Next: fabric init, then fabric up")
    if found.kept_with < 2:
        raise click.exceptions.Exit(1)


COMMANDS = {"simulate-agents": simulate_agents}
