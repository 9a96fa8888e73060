"""`fabric up`: server, orchestrators and synthesizer in one command, until Ctrl-C."""

from __future__ import annotations

import asyncio
import shlex
import signal
from contextlib import ExitStack, suppress
from dataclasses import replace

import click

from fabric import devserver, doctor
from fabric.cli.connect import Secret, Target, open_store, url_of
from fabric.cli.options import json_option, on_target
from fabric.cli.output import json_line
from fabric.config import rulebook
from fabric.config.defaults import NAMESPACE
from fabric.devserver import PrivateServer
from fabric.store.address import redacted
from workers.supervisor import Supervisor

#: Orchestrators of one machine. Each serves whole partitions; those beyond their number stand by.
ORCHESTRATORS_MAX = 64


@click.command(short_help="Run server, orchestrator and synthesizer until Ctrl-C.")
@on_target()
@click.option(
    "--orchestrators",
    type=click.IntRange(1, ORCHESTRATORS_MAX),
    default=1,
    show_default=True,
    help="How many; all but one per partition stand by, in case one dies.",
)
@json_option
@click.pass_context
def command(ctx: click.Context, target: Target, orchestrators: int, as_json: bool) -> None:
    """Run all that a fleet needs, until Ctrl-C.

    Without FABRIC_REDIS_URL, that begins with a private server for this project, or joins the one
    that runs; its data stays in .fabric/. Ctrl-C or SIGTERM drains the workers and then stops the
    server, unless others use it; a second one stops at once. A worker that dies is started again.
    """
    # SIGTERM is to do what Ctrl-C does from the start, not only once everything runs.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # An orchestrator that cannot read its rules would be started again for ever.
    rulebook.load()
    workers = ["orchestrator"] * orchestrators + ["synthesizer"]
    with ExitStack() as ending:
        private = None
        if target.redis_url is None:
            mine = ending.enter_context(devserver.acquire())
            private, target = mine.server, replace(target, redis_url=Secret(mine.url))
        is_clean = asyncio.run(_run(ctx, target, private, workers, as_json=as_json))
    if not is_clean:
        ctx.exit(1)


async def _run(
    ctx: click.Context,
    target: Target,
    private: PrivateServer | None,
    workers: list[str],
    *,
    as_json: bool,
) -> bool:
    """Serve until told to stop; return whether all workers drained."""
    stop = asyncio.Event()
    store = open_store(target, "fabric-up")
    try:
        version = await doctor.admit(store)
    finally:
        await store.close()
    supervisor = Supervisor(
        workers, url_of(target), environment={"FABRIC_NAMESPACE": target.namespace}, say=_say
    )

    def on_signal() -> None:
        if stop.is_set():
            supervisor.abort()
            _say("stopping at once")
        else:
            stop.set()
            _say("draining; Ctrl-C once more stops at once")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Ignored since before our start (nohup): then it stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, on_signal)
    async with supervisor:
        if as_json:
            click.echo(json_line(_document(target, version, private, supervisor.pids)))
        else:
            _announce(ctx, target, version, private, supervisor.pids)
        await stop.wait()
    for name in supervisor.killed:
        _say(f"{name} did not drain and was killed")
    return not supervisor.killed


def _document(
    target: Target, version: str, private: PrivateServer | None, pids: dict[str, int]
) -> dict[str, object]:
    return {
        "url": redacted(url_of(target)),
        "server": version,
        "private": private is not None,
        "server_pid": private.pid if private else None,
        "project": str(private.root) if private else None,
        "namespace": target.namespace,
        "workers": pids,
    }


def _announce(
    ctx: click.Context,
    target: Target,
    version: str,
    private: PrivateServer | None,
    pids: dict[str, int],
) -> None:
    click.echo(redacted(url_of(target)))
    if private is not None:
        _say(f"{version}, private to {private.root} (pid {private.pid})")
    else:
        _say(version)
    at_work = ", ".join(f"{name} (pid {pid})" for name, pid in pids.items())
    _say(f"namespace {target.namespace}: {at_work}; Ctrl-C stops")
    place = "this project" if private else "another terminal, with FABRIC_REDIS_URL set"
    program = ctx.find_root().info_name
    more = "" if target.namespace == NAMESPACE else f" --namespace {shlex.quote(target.namespace)}"
    _say(f"try, in {place}:")
    for line in ("emit 'PROGRESS(25%)' --session demo --agent ME", "status", "tail demo"):
        click.echo(f"  {program} {line}{more}", err=True)


def _say(words: str) -> None:
    with suppress(OSError):  # the terminal may be gone, the work is not
        click.echo(f"fabric: {words}", err=True)
