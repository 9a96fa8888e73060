"""`fabric rules`: whether the rule file is right, and which rules and settings are in force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fabric.cli.connect import json_option
from fabric.cli.output import json_line, note, print_either
from fabric.config import rulebook, settings
from fabric.config.show import document, example, explained, rule_records, setting_records
from fabric.config.toml_file import Fault
from fabric.errors import ConfigError, NotFoundError
from fabric.view.text import plain

_file = click.argument("file", metavar="[FILE]", type=click.Path(path_type=Path), required=False)


@click.group(short_help="Check the rule file, or show the rules in force.")
def rules() -> None:
    """Check the rules and settings in fabric.toml, or show those in force.

    \b
      fabric rules check               name every fault in the file
      fabric rules show                print the rules in force
      fabric rules show --example      print an example file

    Without FILE, the project's configuration file counts before the user's.
    """


@rules.command(short_help="Name every fault in the rule file.")
@_file
@json_option
@click.pass_context
def check(ctx: click.Context, file: Path | None, as_json: bool) -> None:
    """Name every fault in the rule file: its line, the field, what to write instead.

    In a file without other faults, also heartbeats, silence, lease and patience that do not fit
    together, and merge rules whose path can match nothing or whose reducer is not installed here:
    workers start with it all the same.

    Without FILE, in every configuration file. Exit code 1 when there are faults, 3 when there is no
    such file.
    """
    files = settings.config_files() if file is None else [file]
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
@click.option("--settings", "with_settings", is_flag=True, help="Print the settings instead.")
@click.option("--example", "as_example", is_flag=True, help="Print the example file instead.")
@json_option
def show(file: Path | None, with_settings: bool, as_example: bool, as_json: bool) -> None:
    """Print the rules in force, defaults included, as a rule file.

    Behind each rule stand its unit, where it comes from, and its default. With FILE, the rules that
    it would bring. Exit code 2 when it is faulty, 3 when there is none.
    """
    if as_example:
        click.echo(example(), nl=False)
        return
    if with_settings:
        records = setting_records(settings.load(), settings.sources({}, settings.config_files()))
        print_either(as_json, {"records": records}, map(_setting_line, records))
        return
    if file is not None and not file.exists():
        raise _missing(file)
    found = rulebook.find(file)
    if not as_json:
        note(f"rules: {found.path or 'the defaults; no configuration file has rules'}")
        if file is None and (withheld := rulebook.in_force().withheld):
            note(withheld)
    where = None if found.path is None else str(found.path)
    said = {"file": where, "rules": document(found.rules), "records": rule_records(found)}
    print_either(as_json, said, map(plain, explained(found)))


def _setting_line(record: dict[str, Any]) -> str:
    name, value, default, unit = (record[key] for key in ("name", "value", "default", "unit"))
    shown = "not set" if value is None else json_line(value)
    known = default is not None and record["from"] != "default"
    other = f"; default {json_line(default)}" if known else ""
    return plain(f"{name} = {shown}  # {unit}; {record['from']}{other}")


def _faults(path: Path) -> list[Fault]:
    try:
        return rulebook.check_file(path)[1] or rulebook.misfits(path)
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise ConfigError(f"the rule file {path} cannot be read: {error.strerror}") from None


def _missing(path: Path) -> NotFoundError:
    return NotFoundError(f"no file {path}: name another, or start from fabric.example.toml")
