"""`fabric down`: stop this project's private server, and who uses it."""

from __future__ import annotations

import click

from fabric import devserver
from fabric.cli.connect import Target
from fabric.cli.options import json_option, on_target
from fabric.cli.output import json_line
from fabric.errors import HeldError, NotFoundError


@click.command(short_help="Stop this project's own server and its workers.")
@on_target()
@json_option
def command(target: Target, as_json: bool) -> None:
    """Stop this project's private server, after all that use it have drained.

    Its data stays, for the next `fabric up`. A server that FABRIC_REDIS_URL names is not ours to
    stop.
    """
    found = devserver.find()
    if target.redis_url is not None and not (
        found is not None and target.redis_url.get_secret_value() == found.url
    ):
        also = "" if found is None else "; unset it to stop this project's own, which runs too"
        raise NotFoundError(
            "no private server to stop: FABRIC_REDIS_URL names one, and it is not ours to stop"
            + also
        )
    report = devserver.stop()
    stopped = report.server
    if as_json:
        server = stopped and {
            "project": str(stopped.root),
            "pid": stopped.pid,
            "version": stopped.version,
        }
        document = {"server": server, "left": report.left, "remaining": report.remaining}
        click.echo(json_line(document))
    else:
        for pid in report.left:
            click.echo(f"stopped process {pid}, which used the server")
        if stopped is not None:
            click.echo(f"stopped {stopped.version} of {stopped.root} (pid {stopped.pid})")
    if report.remaining and stopped is None:
        users = ", ".join(map(str, report.remaining))
        raise HeldError(f"the server runs on: processes {users} use it and have not left")
    if stopped is None and not report.left:
        raise NotFoundError(f"no private server runs for {devserver.project_root()}")
