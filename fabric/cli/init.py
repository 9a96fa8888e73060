"""`fabric init`: put the fabric into the configurations of coding agents, and take it out."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import click

from fabric import doctor
from fabric.agents.install import client, codex_trust
from fabric.agents.install.change import Change, Journal, read
from fabric.agents.install.client import PARTS, Place
from fabric.cli.connect import open_store
from fabric.cli.output import note
from fabric.config.settings import Secret, load
from fabric.devserver import remote
from fabric.devserver.project import nearest
from fabric.errors import ConfigError, NotAllowedError, PeerError
from fabric.store.address import redacted
from fabric.view.text import counted
from fabric.wire.stored import printable

_CHOICES = (*PARTS, "all")
_NONE = f"no coding agent on PATH (looked for {', '.join(client.PROGRAMS.values())})"


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(_CHOICES), metavar="[NAME]...")
@click.option("--user", is_flag=True, help="For all projects of this user, not for this one.")
@click.option("--undo", is_flag=True, help="Take it out again; files are restored to the byte.")
@click.option("-y", "--yes", is_flag=True, help="Apply without asking.")
@click.option("--server", metavar="URL", help="Use the server of another host, in this project.")
@click.option(
    "--trust-hooks",
    is_flag=True,
    help="Trust the hooks in Codex too. Codex runs no hooks until you do (/hooks).",
)
def init(
    names: tuple[str, ...],
    user: bool,
    undo: bool,
    yes: bool,
    server: str | None,
    trust_hooks: bool,
) -> None:
    """Put the fabric's hooks into the coding agents on this machine.

    \b
      fabric init                      the clients that are installed, in this repository
      fabric init claude codex --user  these two, for all projects of this user
      fabric init mcp git              the MCP server; git's pre-commit hook
      fabric init --undo               all of it out again
      fabric init --server 'rediss://…'  the line that `fabric up --listen` has printed

    NAME is claude, codex, gemini, opencode, cursor, mcp, git, or all. Shows the changes as a diff
    and asks. Run again, it changes only what is not as it should be. In a repository the files
    name this machine's Python: do not commit them.
    """
    place = Place(None if user else nearest().root)
    journal = Journal(place.scope)
    if server is not None:
        if user or undo:
            raise click.UsageError("--server is for this project, and --undo takes it back")
        _join(server)
        if not names:
            return
    if undo:
        if not (names or user) and remote.leave():
            note("this project uses its own server again")
        _undo(names, place, journal, yes=yes)
        return
    parts = _parts(names, place)
    changes = client.plan(parts, place, journal)
    _apply(changes, journal, yes=yes)
    if "codex" in parts:
        _codex(place, journal, trust=trust_hooks)
    if "gemini" in parts and not user:
        note("Gemini CLI runs hooks only in a folder that you trust: it asks when you start it")


def _join(url: str) -> None:
    """Look whether the server can be used, and note it for this project."""
    target = replace(load(), redis_url=Secret(url))

    async def look() -> str:
        store = open_store(target, "fabric-init")
        try:
            return await doctor.admit(store)
        finally:
            await store.close()

    version = asyncio.run(look())
    path = remote.join(url)
    note(f"{nearest().root} uses {redacted(url)} ({version}); only you can read {path}")
    if load().redis_url is not None:
        note("FABRIC_REDIS_URL or a fabric.toml names another server, which counts more")


def _parts(names: tuple[str, ...], place: Place) -> list[str]:
    """Return what to install. Raises ConfigError if nothing is there to install into."""
    found = client.installed()
    if names and "all" not in names:
        if "mcp" in names and not client.for_mcp([*names]):
            raise ConfigError(
                f"no client for the MCP server: {_NONE}. To install it anyway, name its client: "
                "fabric init mcp claude"
            )
        return [one for one in PARTS if one in names]
    more = []
    if "all" in names:
        more += ["mcp"] if find_spec("mcp") and client.for_mcp([]) else []
        more += ["git"] if place.project and (place.project / ".git").exists() else []
    if not found:
        told = f"{_NONE}. To install its hooks anyway, name it: fabric init claude"
        if not more:
            raise ConfigError(told)
        note(told)
    return [*found, *more]


def _apply(changes: list[tuple[Change, list[str]]], journal: Journal, *, yes: bool) -> None:
    if not changes:
        note("nothing to change: all of it is there")
        return
    for change, _ in changes:
        _show(change)
    if not _is_wanted(f"Change {counted(len(changes), 'file')}?", yes=yes):
        return
    refused = []
    for change, parts in changes:
        try:
            journal.apply(change, parts)
        except NotAllowedError as error:
            refused.append(str(error))
    for one in refused:
        note(one)
    changed = counted(len(changes) - len(refused), "file")
    note(f"{changed} changed; `fabric init --undo` takes it back")
    if refused:
        raise click.exceptions.Exit(NotAllowedError.exit_code)


def _show(change: Change) -> None:
    for line in change.diff():
        shown = "\t".join(map(printable, line.split("\t")))
        click.secho(shown, fg={"+": "green", "-": "red"}.get(line[:1]))


def _is_wanted(question: str, *, yes: bool) -> bool:
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        note("nothing is changed yet: --yes applies this")
        return False
    return click.confirm(question, default=True)


def _undo(names: tuple[str, ...], place: Place, journal: Journal, *, yes: bool) -> None:
    parts = [*PARTS] if not names or "all" in names else [*names]
    remade = client.plan(parts, place, journal, take_out=True)
    whole = [path for path in journal.paths() if not set(journal.parts(path)) - set(parts)]
    if not remade and not whole:
        note("nothing to undo here" + (" (--user: what is for all projects)" * bool(place.project)))
        return
    for change, _ in remade:
        _show(change)
    for path in whole:
        original, _ = journal.original(path)
        click.echo(f"{'restore' if original is not None else 'remove'} {path}")
    if not _is_wanted(f"Restore {counted(len(remade) + len(whole), 'file')}?", yes=yes):
        return
    failed = False
    for path in reversed(whole):
        try:
            for left in journal.undo(path):
                note(f"{path} was edited since: this is left in it: {left.strip()}")
                failed = True
        except NotAllowedError as error:
            note(str(error))
            failed = True
    for change, left_parts in remade:
        journal.apply(change, left_parts)
    if failed:
        raise click.exceptions.Exit(NotAllowedError.exit_code)


def _codex(place: Place, journal: Journal, *, trust: bool) -> None:
    """Say whether Codex will run the hooks; trust them if that is wished."""
    path = Place(None).codex("config.toml")
    folder = place.project or Path.cwd()
    try:
        before, original = read(path), journal.original(path)[0]
        hooks = codex_trust.look(folder, trust=trust)
        after = read(path)
    except PeerError as error:
        note(f"whether Codex runs the hooks is not known: {error}")
        return
    if after is not None and after != before:
        journal.note(path, original, after, journal.parts(path) or ["codex"])
    if not hooks:
        note("Codex runs a repository's hooks only in a project that you trust: start it here once")
    elif not all(hook.is_trusted for hook in hooks):
        note("Codex runs these hooks only when you trust them: type /hooks there, or --trust-hooks")
