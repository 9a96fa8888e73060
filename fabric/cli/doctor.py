"""`fabric doctor`: check server, settings and workers, and say how to fix them."""

from __future__ import annotations

import click
import msgspec

from fabric import doctor as checks
from fabric.cli.connect import Target, json_option, on_target, open_store
from fabric.cli.output import print_either
from fabric.devserver import server_url
from fabric.doctor import Level
from fabric.store.address import redacted
from fabric.view.text import plain

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red", Level.UNKNOWN: "cyan"}


@click.command()
@on_target()
@click.option(
    "--reseed",
    is_flag=True,
    help="Give each partition that has lost its epoch a new one, above any used before.",
)
@json_option
async def doctor(target: Target, reseed: bool, as_json: bool) -> None:
    """Check server, settings, keys and workers, and say how to fix what is wrong.

    \b
      fabric doctor

    Exit code 0: nothing failed, though there may be warnings. 1: a check failed. 6: the server is
    unreachable. Without --reseed it writes only one scratch key, and deletes it.
    """
    url = server_url(target)
    store, where = (open_store(target, "fabric-doctor"), redacted(url)) if url else (None, "")
    try:
        report = await checks.examine(store, where, target.partitions, reseed=reseed)
    finally:
        if store is not None:
            await store.close()
    width = max(len(finding.check) for finding in report.findings)
    lines = []
    for finding in report.findings:
        level = click.style(f"{finding.level.value:9}", fg=_COLOURS[finding.level])
        lines.append(f"{level}  {finding.check:{width}}  {plain(finding.found)}")
        if finding.advice:
            lines.append(f"{'':9}  {'':{width}}  → {plain(finding.advice)}")
    document = {"ok": not report.exit_code, "checks": msgspec.to_builtins(report.findings)}
    print_either(as_json, document, lines)
    raise click.exceptions.Exit(report.exit_code)
