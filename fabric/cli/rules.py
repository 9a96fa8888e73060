"""`fabric rules`: is the rule file right, and which rules are in force."""

from __future__ import annotations

from pathlib import Path

import click

from fabric.cli.options import json_option
from fabric.cli.output import json_line, note, print_json
from fabric.config import defaults, rulebook
from fabric.errors import ConfigError, NotFoundError
from fabric.view.text import plain

_file = click.argument("file", metavar="[FILE]", type=click.Path(path_type=Path), required=False)


@click.group(short_help="Check the rule file, or show the rules in force.")
def rules() -> None:
    """Look after the rules in fabric.toml: which they are, and what is wrong with them.

    Without FILE, the project's configuration file counts, before the user's.
    """


@rules.command(short_help="Name every fault in the rule file.")
@_file
@json_option
@click.pass_context
def check(ctx: click.Context, file: Path | None, as_json: bool) -> None:
    """Name every fault in the rule file: its line, the field, what to write instead.

    Without FILE, in all configuration files there are. Exit code 1 when there are faults, 3 when
    there is no such file.
    """
    files = defaults.config_files() if file is None else [file]
    faults = [(path, fault) for path in files for fault in _faults(path)]
    for path, fault in faults:
        if as_json:
            click.echo(json_line({"file": str(path), **fault._asdict()}))
        else:
            click.echo(plain(f"{path}:{fault.line}: {fault}"))
    if faults:
        ctx.exit(1)
    named = ", ".join(map(str, files)) or "no configuration file: the defaults hold"
    note(f"ok: {named}")


@rules.command(short_help="Print the rules in force.")
@_file
@json_option
def show(file: Path | None, as_json: bool) -> None:
    """Print the rules in force, defaults included, as a rule file.

    With FILE, those that it would bring. Exit code 2 when it is faulty, 3 when there is none.
    """
    if file is not None and not file.exists():
        raise _missing(file)
    rules, path = rulebook.find() if file is None else (rulebook.load(file), file)
    if as_json:
        where = None if path is None else str(path)
        print_json({"file": where, "rules": rulebook.document(rules)})
        return
    note(f"rules: {path or 'the defaults, no configuration file has any'}")
    click.echo(rulebook.written(rules), nl=False)


def _faults(path: Path) -> list[rulebook.Fault]:
    try:
        return rulebook.check_file(path)[1]
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise ConfigError(f"the rule file {path} cannot be read: {error.strerror}") from None


def _missing(path: Path) -> NotFoundError:
    return NotFoundError(f"no file {path}: name another, or start from fabric.example.toml")
