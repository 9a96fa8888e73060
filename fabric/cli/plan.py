"""`fabric plan`: what a list of tasks will do, before any of it runs."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click

from fabric.cli.connect import json_option
from fabric.cli.output import print_json, print_lines
from fabric.config import rulebook
from fabric.ops.plan import plan_file
from fabric.view.plan import document, lines
from fabric.view.plan import mermaid as mermaid_lines
from fabric.wire.task_file import FILE_BYTES_MAX


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--agents", type=click.IntRange(min=1), metavar="N", help="Plan for N agents.")
@click.option(
    "--rules",
    "rule_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Rule file with the domains; by default the project's.",
)
@click.option("--mermaid", is_flag=True, help="Print a Mermaid flowchart.")
@json_option
def plan(
    file: BinaryIO, agents: int | None, rule_file: Path | None, mermaid: bool, as_json: bool
) -> None:
    """Say what a list of tasks will do, before any of it runs.

    \b
      fabric plan tasks.toml              waves, critical path, reasons, conflicts to come
      fabric plan todos.json --agents 4   how long it takes on four agents
      fabric plan - --mermaid < t.json    a diagram

    FILE is TOML or JSON, or the todo list of a coding agent as it is (docs/plan.md). Without
    --agents, the plan is for as many as can ever help. It reads the rule file and no server. Exit
    code 2 when FILE or the rule file is faulty.
    """
    data = file.read(FILE_BYTES_MAX + 1)
    made = plan_file(data, file.name, rulebook.load(rule_file), agents)
    if as_json:
        print_json(document(made))
    else:
        print_lines(mermaid_lines(made) if mermaid else lines(made))
