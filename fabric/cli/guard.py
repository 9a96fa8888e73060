"""`fabric guard`: refuse a write that is another's to make, from a script or a git hook."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fabric.cli.connect import Target, connected, run
from fabric.cli.options import json_option, on_target
from fabric.cli.output import json_line, print_lines
from fabric.client.session import Session
from fabric.errors import ConfigError, FabricError, HeldError
from fabric.ops.guard import Permission, check_all, install_hook, repository_root, staged_paths
from fabric.view.text import plain

#: What a person can do who must commit all the same.
_WAY_OUT = "to commit all the same, unguarded: git commit --no-verify"


@click.command(short_help="Refuse a write that is another's to make.")
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@on_target("session", "agent")
@click.option("--token", type=click.IntRange(min=1), metavar="N", help="From your PROCEED.")
@click.option("--staged", is_flag=True, help="Guard what is staged in git.")
@click.option("--install", is_flag=True, help="Write the git pre-commit hook.")
@json_option
def command(
    target: Target,
    paths: tuple[str, ...],
    token: int | None,
    staged: bool,
    install: bool,
    as_json: bool,
) -> None:
    """Say whether paths may be written now: exit code 0, or 5 when one is another's.

    \b
      fabric guard PATH --token N   the token must be the current one of a claim on PATH
      fabric guard PATH             PATH must be free, or yours (FABRIC_AGENT)
      fabric guard --staged         the same, for all that is staged in git
      fabric guard --install        writes the pre-commit hook that runs the line above

    PATH is one file, named as agents name it: from the project's root, wherever you stand. An
    absolute one is counted from the root of the git repository, or from the present folder.

    Who cannot be asked allows nothing: exit code 6 when the server is unreachable, 2 without a
    server or a session, 3 for a session in which nothing was ever said.
    """
    if (bool(paths), staged, install).count(True) != 1:
        raise click.UsageError("what? PATH..., or --staged, or --install")
    if token is not None and not paths:
        raise click.UsageError("--token goes with PATH")
    if install:
        _install(as_json=as_json)
    elif staged:
        _guard_staged(target, as_json=as_json)
    else:
        _report(run(_asked(target, list(map(_named, paths)), token)), as_json=as_json)


def _guard_staged(target: Target, *, as_json: bool) -> None:
    try:
        paths = staged_paths(Path.cwd())
        # A commit that touches nothing has nothing to ask.
        verdicts = run(_asked(target, paths, None)) if paths else []
    except FabricError as error:
        _note(str(error))
        _note(_WAY_OUT)
        raise click.exceptions.Exit(error.exit_code) from None
    _report(verdicts, as_json=as_json)


async def _asked(target: Target, paths: Sequence[str], token: int | None) -> list[Permission]:
    name = target.need("session")
    async with connected(target) as connection:
        session = Session(connection.store, connection.keys(name)[1])
        verdicts = await check_all(session, paths, token=token, agent=target.agent or None)
        if all(one.allowed and not one.holdings for one in verdicts) and not await session.claims():
            # In a misspelt session everything would be free.
            await session.must_exist()
        return verdicts


def _named(path: str) -> str:
    """Return the name of a path among the resources."""
    if not Path(path).is_absolute():
        return path
    here = Path.cwd()
    bases = [here]
    with suppress(ConfigError):  # a project need not be a repository
        bases.insert(0, repository_root(here))
    # As it is given, and without links on the way; the last part may be a link that is meant.
    forms = (Path(path), Path(path).parent.resolve() / Path(path).name)
    for base in bases:
        for form in forms:
            if form.is_relative_to(base):
                return str(form.relative_to(base))
    return path


def _report(verdicts: Sequence[Permission], *, as_json: bool) -> None:
    if as_json:
        print_lines(json_line(_document(one)) for one in verdicts)
    refused = [one.refusal for one in verdicts if not one.allowed]
    for refusal in refused:
        _note(refusal)
    if refused:
        raise click.exceptions.Exit(HeldError.exit_code)


def _document(verdict: Permission) -> dict[str, Any]:
    return {
        "path": _text(verdict.path),
        "allowed": verdict.allowed,
        "held": [asdict(holding) for holding in verdict.holdings],
        "refusal": _text(verdict.refusal),
    }


def _install(*, as_json: bool) -> None:
    path, is_new = install_hook(Path.cwd())
    if as_json:
        click.echo(json_line({"hook": _text(str(path)), "written": is_new}))
        return
    click.echo(_text(str(path)))
    if not is_new:
        _note("the hook is there already")


def _text(text: str) -> str:
    """Return a text that JSON and a terminal can take: a file's name may be any bytes."""
    return os.fsencode(text).decode(errors="replace")


def _note(text: str) -> None:
    click.echo(f"fabric: {plain(text)}", err=True)
