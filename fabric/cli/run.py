"""`fabric up` and `fabric down`; `fabric orchestrator` and `fabric synthesizer`: run the fabric."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import time
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from typing import Any

import click

from fabric import devserver, doctor
from fabric.cli.connect import Target, json_option, on_target, open_store, setting_option, url_of
from fabric.cli.output import json_line, note, print_lines
from fabric.config.settings import NAMESPACE, Secret, load, worker_flags
from fabric.core.limits import listed
from fabric.devserver import ServerUse
from fabric.devserver.listen import Listener
from fabric.devserver.project import Project, locate, served_below
from fabric.devserver.remote import joined
from fabric.errors import FabricError, HeldError, NotFoundError
from fabric.store.address import redacted

#: Seconds between two looks whether the private server lives. A look opens one file.
KEEP_S = 0.5

#: Where `--listen PORT` listens: on all addresses of this host.
ANY_HOST = "0.0.0.0"  # noqa: S104 - the user has asked for other hosts
#: The highest port there is.
PORT_MAX = 65_535

#: Orchestrators on one machine. One serves a partition; the others stand by.
ORCHESTRATORS_MAX = 64


@click.command()
@on_target()
@click.option(
    "--orchestrators",
    type=click.IntRange(1, ORCHESTRATORS_MAX),
    default=1,
    show_default=True,
    help="How many to run. One serves a partition; the others take over if it dies.",
)
@click.option(
    "--listen",
    metavar="[HOST:]PORT",
    help="Let other hosts use the private server: with TLS, and a password that is made.",
)
@click.option("--no-tls", is_flag=True, help="Of --listen: all on the way can read everything.")
@json_option
def up(target: Target, orchestrators: int, listen: str | None, no_tls: bool, as_json: bool) -> None:
    """Start a server, an orchestrator and a synthesizer, and run them until Ctrl-C.

    \b
      fabric up                                      with a private Redis server for this project
      FABRIC_REDIS_URL=redis://… fabric up           with your own server
      fabric up --listen 7379                        for other hosts too: prints the line they run

    The private server keeps its data outside of the project, in $XDG_STATE_HOME/fabric or
    ~/.local/state/fabric; all worktrees share it, and so do two `fabric up`. Ctrl-C or
    SIGTERM drains the workers, then stops the private server unless another process uses it; a
    second Ctrl-C stops at once. A worker that dies is restarted, and so is the private server.
    """
    from fabric.config import rulebook

    # SIGTERM must do what Ctrl-C does from the start, not only once everything runs.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # An orchestrator that cannot read its rules would be restarted forever.
    if withheld := rulebook.in_force().withheld:
        note(withheld)
    workers = ["orchestrator"] * orchestrators + ["synthesizer"]
    if target.redis_url is None and (known := joined()):
        target = replace(target, redis_url=Secret(known))
    place = _listen_address(target, listen, no_tls=no_tls)
    with ExitStack() as ending:
        private = None
        if target.redis_url is None:
            private = ending.enter_context(devserver.acquire())
            target = replace(target, redis_url=Secret(private.url))
            for other in served_below(private.server.root):
                note(f"agents in {other} use the private server that runs there")
        listener = None
        if place is not None and private is not None:
            state = Project(private.server.root).state
            listener = Listener(str(private.server.socket), *place, state, has_tls=not no_tls)
        is_clean = asyncio.run(_serve(target, private, listener, workers, as_json=as_json))
    if not is_clean:
        raise click.exceptions.Exit(1)


def _listen_address(target: Target, listen: str | None, *, no_tls: bool) -> tuple[str, int] | None:
    """Return host and port of --listen. Raises UsageError."""
    if listen is None:
        if no_tls:
            raise click.UsageError("--no-tls goes with --listen")
        return None
    if target.redis_url is not None:
        raise click.UsageError("--listen is for the private server; another one is named")
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) > PORT_MAX:
        raise click.UsageError(f"--listen: '{listen}' is no [HOST:]PORT")
    return host.strip("[]") or ANY_HOST, int(port)


async def _serve(
    target: Target,
    private: ServerUse | None,
    listener: Listener | None,
    workers: list[str],
    *,
    as_json: bool,
) -> bool:
    """Run the workers until a signal; return whether all of them drained."""
    from workers.supervisor import Supervisor

    stop = asyncio.Event()
    store = open_store(target, "fabric-up")
    try:
        version = await doctor.admit(store)
    finally:
        await store.close()
    environment = {"FABRIC_NAMESPACE": target.namespace}
    supervisor = Supervisor(workers, url_of(target), environment=environment, say=_say)

    def on_signal() -> None:
        if stop.is_set():
            supervisor.abort()
            _say("stopping at once")
        else:
            stop.set()
            _say("draining; Ctrl-C once more stops at once")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A signal that our parent ignores (nohup) stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, on_signal)
    own = private.server if private else None
    started: dict[str, Any] = {
        "url": redacted(url_of(target)),
        "server": version,
        "private": own is not None,
        "server_pid": own.pid if own else None,
        "project": str(own.root) if own else None,
        "data": str(Project(own.root).state) if own else None,
        "namespace": target.namespace,
        "others": [pid for pid in devserver.users() if pid != os.getpid()] if own else [],
        "workers": {},
    }
    async with supervisor, listener or nullcontext():
        if listener is not None:
            started["join"] = listener.url()
        started["workers"] = supervisor.pids
        if as_json:
            click.echo(json_line(started))
        else:
            _announce(started)
        if private is None:
            await stop.wait()
        else:
            await _keep(private, stop)
    for name in supervisor.killed:
        _say(f"{name} did not drain and was killed")
    return not supervisor.killed


async def _keep(private: ServerUse, stop: asyncio.Event) -> None:
    """Start the private server again whenever it ends, until told to stop."""
    from workers.supervisor import RESTART_LONGEST_S, STEADY_S

    # A server that dies at once must not take the machine with it: pauses grow as a worker's do.
    pause_s, began_s = KEEP_S, time.monotonic()
    while not stop.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause_s)
            return
        try:
            found = await asyncio.to_thread(private.keep)
        except FabricError as error:
            _say(str(error))
        else:
            if found is None:
                if time.monotonic() - began_s >= STEADY_S:
                    pause_s = KEEP_S
                continue
            log = Project(found.root).log
            _say(f"the private server ended; it runs again (pid {found.pid}). Its log: {log}")
        pause_s, began_s = min(2 * pause_s, RESTART_LONGEST_S), time.monotonic()


def _announce(started: dict[str, Any]) -> None:
    program = click.get_current_context().find_root().info_name
    click.echo(started["url"])
    where = f", private to {started['project']} (pid {started['server_pid']})"
    _say(started["server"] + (where if started["private"] else ""))
    if started["private"]:
        _say(f"its data: {started['data']}")
    if others := started["others"]:
        who = "process" if len(others) == 1 else "processes"
        _say(
            f"{who} {listed([*map(str, others)])} had it running already, such as another "
            f"`{program} up`: one of these does the work, the others take over when it ends"
        )
    running = ", ".join(f"{name} (pid {pid})" for name, pid in started["workers"].items())
    namespace = started["namespace"]
    _say(f"namespace {namespace}: {running}; Ctrl-C stops")
    if "join" in started:
        _say("other hosts join with this line; it has the password, so keep it:")
        click.echo(f"  {program} init --server '{started['join']}'", err=True)
        if started["join"].startswith("redis:"):
            _say("without TLS, all on the way can read the password and every signal")
    place = "this project" if started["private"] else "another terminal, with FABRIC_REDIS_URL set"
    more = "" if namespace == NAMESPACE else f" --namespace {shlex.quote(namespace)}"
    _say(f"try, in {place}:")
    for line in ("emit 'PROGRESS(25%)' --session demo --agent ME", "status", "tail demo"):
        click.echo(f"  {program} {line}{more}", err=True)


def _say(words: str) -> None:
    with suppress(OSError):  # the terminal may be gone while the work goes on
        note(words)


@click.command()
@on_target()
@json_option
def down(target: Target, as_json: bool) -> None:
    """Stop this project's private server, after the processes that use it.

    \b
      fabric down       in the project's folder or below it

    A `fabric up` or `fabric demo` that runs here uses it: each is told to stop first, and drains
    its workers. The data stays for the next `fabric up`. A server named by
    FABRIC_REDIS_URL is never stopped.
    """
    found = devserver.find()
    named = target.redis_url and target.redis_url.value
    if named and (found is None or named != found.url):
        also = "" if found is None else "; unset it to stop this project's private server"
        raise NotFoundError(
            f"no private server to stop: FABRIC_REDIS_URL names another server{also}"
        )
    report = devserver.stop()
    stopped, server = report.server, None
    lines = [f"stopped process {pid}, which used the server" for pid in report.left]
    if stopped is not None:
        server = {"project": str(stopped.root), "pid": stopped.pid, "version": stopped.version}
        lines.append(f"stopped {stopped.version} of {stopped.root} (pid {stopped.pid})")
    document = {"server": server, "left": report.left, "remaining": report.remaining}
    print_lines([json_line(document)] if as_json else lines)
    if report.remaining and stopped is None:
        users = ", ".join(map(str, report.remaining))
        raise HeldError(f"the server still runs: processes {users} use it and did not stop")
    if stopped is None and not report.left:
        raise NotFoundError(f"no private server runs for {locate().root}")


def _worker(worker: str, task: str) -> click.Command:
    """Return the command that runs one worker until it is told to stop."""

    @on_target()
    @click.option("--name", help="Name of this process (default: host and process id).")
    def command(target: Target, name: str | None, **limits: str | None) -> int:
        from workers.daemon import serve

        # Report a bad URL before logging begins, in a message that hides the password.
        open_store(target)
        url = target.redis_url.value if target.redis_url else None
        return serve(worker, load(redis_url=url, namespace=target.namespace, **limits), name)

    for field in reversed(worker_flags()):
        command = setting_option(field)(command)
    explained = (
        f"Run one {worker}: {task}\n\n\b\n  fabric {worker} --redis-url redis://…\n\n"
        "Run as many as you like, on as many hosts as you like: they share the partitions, and "
        "take over from one that dies. SIGTERM or Ctrl-C drains: it commits what it has read, "
        "then exits."
    )
    return click.command(worker, help=explained)(command)


orchestrator = _worker("orchestrator", "reads signals, applies the rules, tells agents what to do.")
synthesizer = _worker("synthesizer", "combines the agents' results into one document.")
