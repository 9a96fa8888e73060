"""`fabric same` and `fabric renamed`: which findings are one, and which paths have other names."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import click

from fabric.cli.connect import Target, json_option, on_target
from fabric.cli.emit import TIMEOUT_S, decides, send
from fabric.cli.finding import confirm_option
from fabric.cli.questions import person
from fabric.client.emitter import prepare
from fabric.core.signal import SignalType

_by_option = click.option("--by", metavar="NAME", help="Your name (default: your login name).")


@click.command()
@click.argument("key")
@click.argument("others", nargs=-1, required=True, metavar="OTHER...")
@on_target("session")
@click.option("--distinct", is_flag=True, help="They are not the same issue as KEY.")
@_by_option
@confirm_option
@json_option
async def same(
    target: Target,
    key: str,
    others: tuple[str, ...],
    distinct: bool,
    by: str | None,
    is_confirmed: bool | None,
    as_json: bool,
) -> None:
    """Say that findings are the same issue, or that they are not, and print the signal's id.

    \b
      fabric same src/a.py:42:sql-injection src/a.py:60:taint
      fabric same --distinct src/a.py:42:sql-injection src/a.py:43:SQLI

    It overrides agents and rules; the latest statement about a pair counts.
    """
    if key in others:
        raise click.UsageError(f"'{key}' is named twice: name two findings")
    payload: dict[str, Any] = {"keys": [key, *others], "distinct": distinct}
    await _say(target, SignalType.SAME_AS, payload, by, is_confirmed, as_json=as_json)


@click.command()
@click.argument("old", metavar="FROM")
@click.argument("new", metavar="TO")
@on_target("session")
@_by_option
@confirm_option
@json_option
async def renamed(
    target: Target, old: str, new: str, by: str | None, is_confirmed: bool | None, as_json: bool
) -> None:
    """Say that a file or folder has another name: findings move with it. Print the signal's id.

    \b
      fabric renamed src/db.py src/store/db.py
      fabric renamed src/old src/new
    """
    if PurePosixPath(old) == PurePosixPath(new):
        raise click.UsageError(f"'{old}' and '{new}' are the same path")
    payload = {"from": old, "to": new}
    await _say(target, SignalType.RENAMED, payload, by, is_confirmed, as_json=as_json)


async def _say(
    target: Target,
    kind: SignalType,
    payload: dict[str, Any],
    by: str | None,
    is_confirmed: bool | None,
    *,
    as_json: bool,
) -> None:
    name = person(by)
    document = {"type": kind.value, "payload": {**payload, "by": name}}
    entry = prepare(document, {"session": target.need("session"), "emitter": name})
    await send(target, entry, TIMEOUT_S if decides(is_confirmed) else None, as_json=as_json)
