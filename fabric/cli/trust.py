"""`fabric trust`: what the project's fabric.toml would run, and whether it may."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from fabric.cli.connect import json_option
from fabric.cli.output import json_line, note
from fabric.config import trust as consent
from fabric.config.settings import config_files, sources
from fabric.errors import NotAllowedError
from fabric.store.address import redacted
from fabric.view.text import plain

#: What each entry of a file does, in the order shown.
_MEANINGS = {
    "redis_url": "agents and commands send all that they say to this server",
    "escalations.hook": "runs for each new question",
    "synthesis.refiners": "programs of installed packages, run on the results",
    "synthesis.merges": "code of installed packages, run on the results (reducers)",
}


@click.command()
@click.option("--yes", is_flag=True, help="Allow it without being asked.")
@click.option("--revoke", is_flag=True, help="Allow nothing any more.")
@json_option
def trust(yes: bool, revoke: bool, as_json: bool) -> None:
    """Show what the project's fabric.toml asks for, and allow it.

    \b
      fabric trust                    show it, and ask
      fabric trust --yes              show and allow it
      FABRIC_TRUST=DIGEST fabric up   for machines: allow what has this digest, or `all`

    Whoever can commit to a repository writes its fabric.toml. So it may name programs and a server
    only with your consent. Until then workers run without its hook, refiners and reducers, and
    commands refuse its server. Consent is kept outside of the checkout. You are asked again when
    the file asks for something else, or a file of the checkout that the hook names has changed. The
    user's own file needs no consent. Exit code 4: nothing was allowed.
    """
    found = (source for source in sources({}, config_files()) if source.path is not None)
    asked = next((r for s in found if s.path and (r := consent.request(s.path, s.values))), None)
    if asked is None:
        note("no project's fabric.toml here asks for anything that needs your consent")
        return
    if revoke:
        asked.withdraw()
    document: dict[str, Any] = {
        "file": str(asked.path),
        "asks": {name: _shown(name, value) for name, value in asked.asked.items()},
        "files": asked.programs,
        "digest": asked.digest,
    }
    lines = _lines(document)
    if not as_json:
        click.echo("\n".join(map(plain, lines)))
    is_allowed = asked.is_allowed()
    if not is_allowed and not revoke:
        if not yes and not as_json and sys.stdin.isatty():
            yes = click.confirm("Allow this?", err=True)
        if yes:
            asked.allow("\n".join(lines) + "\n")
            is_allowed = asked.is_allowed()
    if as_json:
        click.echo(json_line({**document, "allowed": is_allowed}))
    elif is_allowed:
        note("allowed; workers that run now take it up when they start again")
    if not is_allowed and not revoke:
        raise NotAllowedError("nothing is allowed: say `fabric trust --yes` to allow it")


def _lines(document: dict[str, Any]) -> list[str]:
    lines = [f"{document['file']} asks for:"]
    for name, value in document["asks"].items():
        words = shlex.join(map(str, value)) if isinstance(value, list) else str(value)
        lines += [f"  {name}: {words}", f"      {_MEANINGS[name]}"]
    lines += [f"  {word}: a file of the checkout" for word in document["files"]]
    return [*lines, f"digest {document['digest']}"]


def _shown(name: str, value: Any) -> Any:
    return redacted(value) if name == "redis_url" and isinstance(value, str) else value
