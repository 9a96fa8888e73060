"""`fabric doctor`, `fabric keys` and `fabric schema`: what is right, stored, and can be sent."""

from __future__ import annotations

import click
import msgspec

from fabric import doctor as checks
from fabric.agents.install.health import examine as clients
from fabric.cli.connect import (
    Target,
    connected,
    json_option,
    on_session,
    on_target,
    open_store,
    url_of,
)
from fabric.cli.output import note, print_either, print_json
from fabric.core.signal import SignalType
from fabric.devserver import server_url
from fabric.devserver.project import nearest
from fabric.doctor import Level
from fabric.ops.overview import Key, redis_cli, redis_keys
from fabric.store.address import redacted
from fabric.view.text import plain
from fabric.wire.schema import document_schema, payload_schema

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red", Level.UNKNOWN: "cyan"}


@click.command()
@on_target()
@click.option(
    "--reseed",
    is_flag=True,
    help="Give each partition that has lost its epoch a new one, above any used before.",
)
@click.option(
    "--strict", is_flag=True, help="Fail also when no worker is alive, or what waits grows."
)
@json_option
async def doctor(target: Target, reseed: bool, strict: bool, as_json: bool) -> None:
    """Check server, settings, keys and workers, and say how to fix what is wrong.

    \b
      fabric doctor

    Of each coding agent on this machine it says whether the hooks are in place here, whether the
    client trusts them, and which one ran last.

    Exit code 0: nothing failed, though there may be warnings. 1: a check failed. 6: the server is
    unreachable. Without --reseed it writes only one scratch key, and deletes it.
    """
    url = server_url(target)
    store, where = (open_store(target, "fabric-doctor"), redacted(url)) if url else (None, "")
    try:
        report = await checks.examine(store, where, target.partitions, reseed=reseed, strict=strict)
    finally:
        if store is not None:
            await store.close()
    findings = [*report.findings, *clients(nearest().root)]
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        level = click.style(f"{finding.level.value:9}", fg=_COLOURS[finding.level])
        lines.append(f"{level}  {finding.check:{width}}  {plain(finding.found)}")
        if finding.advice:
            lines.append(f"{'':9}  {'':{width}}  → {plain(finding.advice)}")
    document = {"ok": not report.exit_code, "checks": msgspec.to_builtins(findings)}
    print_either(as_json, document, lines)
    raise click.exceptions.Exit(report.exit_code)


@click.command()
@on_session
@json_option
async def keys(target: Target, as_json: bool) -> None:
    """Print a redis-cli command for each key, with a note on what the key holds.

    \b
      fabric keys demo      the keys of one session
      fabric keys           those of FABRIC_SESSION; without it, of the whole namespace

    The commands contain no password: set REDISCLI_AUTH instead.
    """
    found = await all_keys(target, target.session)
    if not as_json and redis_cli(url_of(target))[1]:
        note("put the password into REDISCLI_AUTH")
    width = max(len(key.command) for key in found)
    lines = (f"{key.command:<{width}}  # {key.meaning}" for key in found)
    print_either(as_json, [key._asdict() for key in found], lines)


async def all_keys(target: Target, session: str | None) -> list[Key]:
    """Return the keys of a session, or without one those of the namespace."""
    async with connected(target) as connection:
        named = None if session is None else connection.keys(session)
        return await redis_keys(connection.store, url_of(target), connection.partitions, named)


@click.command()
@click.argument(
    "kind", metavar="[TYPE]", type=click.Choice([*map(str, SignalType)]), required=False
)
@click.option("--payload", is_flag=True, help="Print the schema of the payload alone.")
@json_option
def schema(kind: str | None, payload: bool, as_json: bool) -> None:
    """Print the JSON Schema (draft 2020-12) of signals, of one TYPE or of all.

    \b
      fabric schema                    any signal
      fabric schema BLOCKED            a BLOCKED signal
      fabric schema BLOCKED --payload  only its payload

    A document that fits the schema is accepted by `fabric emit -`, in each of its spellings.
    """
    if not payload:
        print_json(document_schema(None if kind is None else SignalType(kind)))
    elif kind is None:
        raise click.UsageError("--payload needs a TYPE")
    else:
        print_json(payload_schema(SignalType(kind)))
