"""`fabric guard`: check whether you may write a file, from a script or a git hook."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fabric.cli.connect import Target, connected
from fabric.cli.options import json_option, on_target
from fabric.cli.output import json_line, note, print_lines
from fabric.errors import FabricError, HeldError
from fabric.ops.guard import Permission, check_all, install_hook, resource_name, staged_paths


@click.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@on_target("session", "agent")
@click.option("--token", type=click.IntRange(min=1), metavar="N", help="From your PROCEED.")
@click.option("--staged", is_flag=True, help="Check what is staged in git.")
@click.option("--install", is_flag=True, help="Install the git pre-commit hook.")
@json_option
async def guard(
    target: Target,
    paths: tuple[str, ...],
    token: int | None,
    staged: bool,
    install: bool,
    as_json: bool,
) -> None:
    """Check whether you may write files now: exit code 0 if so, 5 if another agent holds one.

    \b
      fabric guard PATH --token N   the token must be the current one of a claim on PATH
      fabric guard PATH             PATH must be free, or held by you (FABRIC_AGENT)
      fabric guard --staged         check all files that are staged in git
      fabric guard --install        install the pre-commit hook that runs the line above

    Name a file from the root of the project, as agents do, wherever you are. An absolute path is
    taken relative to the root of the git repository, or else to the present folder.

    If the check cannot run, treat it as a refusal: exit code 6 when the server is unreachable, 2
    without a server or a session, 3 for a session in which nothing was ever said.
    """
    if (bool(paths), staged, install).count(True) != 1:
        raise click.UsageError("give one of PATH..., --staged and --install")
    if token is not None and not paths:
        raise click.UsageError("--token goes with PATH")
    if install:
        _install(as_json=as_json)
    elif staged:
        await _check_staged(target, as_json=as_json)
    else:
        _report(await _check(target, [*map(resource_name, paths)], token), as_json=as_json)


async def _check_staged(target: Target, *, as_json: bool) -> None:
    try:
        paths = staged_paths(Path.cwd())
        # A commit that touches nothing needs no permission.
        found = await _check(target, paths, None) if paths else []
    except FabricError as error:
        note(str(error))
        note("to commit without this check: git commit --no-verify")
        raise click.exceptions.Exit(error.exit_code) from None
    _report(found, as_json=as_json)


async def _check(target: Target, paths: Sequence[str], token: int | None) -> list[Permission]:
    name = target.need("session")
    async with connected(target) as connection:
        session = connection.session(name)
        found = await check_all(session, paths, token=token, agent=target.agent or None)
        if all(one.allowed and not one.holdings for one in found) and not await session.claims():
            # In a misspelt session everything would be free.
            await session.must_exist()
        return found


def _report(found: Sequence[Permission], *, as_json: bool) -> None:
    if as_json:
        print_lines(json_line(_document(one)) for one in found)
    refused = [one.refusal for one in found if not one.allowed]
    for refusal in refused:
        note(refusal)
    if refused:
        raise click.exceptions.Exit(HeldError.exit_code)


def _document(permission: Permission) -> dict[str, Any]:
    return {
        "path": _text(permission.path),
        "allowed": permission.allowed,
        "held": [asdict(holding) for holding in permission.holdings],
        "refusal": _text(permission.refusal),
    }


def _install(*, as_json: bool) -> None:
    path, is_new = install_hook(Path.cwd())
    if as_json:
        click.echo(json_line({"hook": _text(str(path)), "written": is_new}))
        return
    click.echo(_text(str(path)))
    if not is_new:
        note("the hook is already installed")


def _text(text: str) -> str:
    """Return a text that JSON and a terminal accept: the name of a file may be any bytes."""
    return os.fsencode(text).decode(errors="replace")
