"""From the options that commands share to settings, and from settings to a connection.

Does not import the driver until it is needed: `--help` and errors come sooner.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import wraps
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fabric.backoff import reach
from fabric.cli import BROKEN_PIPE, INTERRUPTED
from fabric.cli.output import is_reader_gone, note
from fabric.config.settings import Settings, flag, load, printable, variable
from fabric.core.declaration import Field, Text, fields

if TYPE_CHECKING:
    from fabric.client.emitter import Emitter, WhenFull
    from fabric.client.session import Session
    from fabric.store.keys import Partition, SessionKeys
    from fabric.store.redis import RedisStore

T = TypeVar("T")

#: Signals that stop a command as Ctrl-C does. Batch systems send the last two before a job's end.
STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

#: Seconds between two looks whether anybody still waits for a command.
ATTENDANCE_S = 0.5

#: Stops the command that runs; takes the exit code.
_stop: ContextVar[Callable[[int], None]] = ContextVar("_stop")

#: Settings of a command: the server, and the session, agent and stream it is for.
Target = Settings

Function = Callable[..., Any]

#: Short flags.
_SHORT = {"session": ("-s",), "agent": ("-a",)}


def url_of(target: Target) -> str:
    """Return the server's URL. Raises ConfigError if none is named and no private server runs."""
    if target.redis_url is not None:
        return target.redis_url.value

    from fabric.devserver import require_server_url

    return require_server_url(target)


def open_store(target: Target, name: str = "fabric-cli") -> RedisStore:
    """Return the store at a target; nothing is dialled yet. Raises ConfigError."""
    from fabric.store.redis import RedisStore

    return RedisStore(
        url_of(target), target.namespace, name=name, wait_replicas=target.wait_replicas
    )


@dataclass(frozen=True, slots=True)
class Connection:
    """An open connection to the server."""

    target: Target
    store: RedisStore
    partitions: int
    #: What is left of `emit_limit_ms` after connecting, ms.
    limit_ms: int

    def keys(self, session: str) -> tuple[Partition, SessionKeys]:
        """Return the keys of a session's partition, and its own."""
        from fabric.store.keys import partition_of

        name = printable("session", session)
        partition = self.store.namespace.partition(partition_of(name, self.partitions))
        return partition, partition.session(name)

    def session(self, name: str) -> Session:
        """Return a session to read from."""
        from fabric.client.session import Session

        return Session(self.store, self.keys(name)[1])

    def emitter(self, partition: int, when_full: WhenFull | None = None) -> Emitter:
        """Return what sends signals to a partition; it waits while the ingress is full."""
        from fabric.client.emitter import Emitter, WhenFull

        return Emitter(
            self.store,
            partition,
            ingress_max=self.target.ingress_max,
            limit_ms=self.limit_ms,
            when_full=when_full or WhenFull.WAIT,
        )


@asynccontextmanager
async def connected(
    target: Target,
    *,
    founding: bool = False,
    waits: bool = False,
    patience_s: float | None = 0,
) -> AsyncIterator[Connection]:
    """Connect for as long as the block runs.

    `founding`: fix the number of partitions if the namespace is new. Commands that only read leave
    a new namespace untouched. `waits`: stop the command when nobody attends to it any more.
    `patience_s`: how long a server that cannot be reached is tried, at most `emit_limit_ms`; None
    for all of that.
    """
    store, loop = open_store(target), asyncio.get_running_loop()
    began_at, limit_ms = loop.time(), target.emit_limit_ms

    async def partitions() -> int:
        known = await store.fields(store.namespace.meta, ["partitions"])
        if founding or known != [None]:
            return await store.partitions(target.partitions)
        return target.partitions or await store.partitions_default()

    try:
        patience_ms = limit_ms if patience_s is None else min(limit_ms, int(patience_s * 1000))
        count = await reach(partitions, patience_ms, note)
        left_ms = max(0, limit_ms - int((loop.time() - began_at) * 1000))
        with _attended() if waits else nullcontext():
            yield Connection(target, store, count, left_ms)
    finally:
        await store.close()


@contextmanager
def _attended() -> Iterator[None]:
    """Inside, stop the command when the reader of its output or its parent process has gone.

    An orphan would wait on, and its heartbeats would keep an agent alive that is no more. As with
    SIGHUP, `nohup` lets a command outlive its parent.
    """
    loop, stop = asyncio.get_running_loop(), _stop.get()
    parent = os.getppid()
    is_bound = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    timer: asyncio.TimerHandle | None = None

    def look() -> None:
        nonlocal timer
        if is_reader_gone():
            stop(BROKEN_PIPE)
        elif is_bound and os.getppid() != parent:
            stop(128 + signal.SIGHUP)
        else:
            timer = loop.call_later(ATTENDANCE_S, look)

    look()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work. Each of STOPS ends it as Ctrl-C does: a wait is withdrawn first."""
    stopped: list[int] = []

    async def guarded() -> T:
        task = asyncio.current_task()
        assert task is not None

        def stop(code: int) -> None:
            if not stopped:
                stopped.append(code)
                task.cancel()

        _stop.set(stop)
        for number in STOPS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                asyncio.get_running_loop().add_signal_handler(number, stop, 128 + number)
        return await work

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        raise click.exceptions.Exit(stopped[0] if stopped else INTERRUPTED) from None


def setting_option(field: Field) -> Callable[[Function], Function]:
    """Return the option of a declared setting. Its value is checked with all settings, not here."""
    default = getattr(Settings(), field.name)
    text = field.hint.note(Text)
    metavar = field.hint.unit.upper() if text is None else "URL" if text is Text.URL else "TEXT"
    return click.option(
        *_SHORT.get(field.name, ()),
        flag(field.name),
        metavar=metavar,
        envvar=variable(field.name),
        show_envvar=True,
        help=field.sentence + ("" if default is None else f" Default: {default}."),
    )


#: `--json`: output for programs.
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: one document, or one a line."
)


def log_id(context: click.Context, parameter: click.Parameter, value: str | None) -> bytes | None:
    """Check the value of an option that is a log id. Raises BadParameter."""
    from fabric.store.value import parse_id

    if value is None:
        return None
    try:
        parse_id(value.encode())
    except ValueError:
        raise click.BadParameter(f"'{value}' is not an id: 7, or 7-2") from None
    return value.encode()


#: `--since`: a log id to begin after.
since_option = click.option(
    "--since", metavar="ID", callback=log_id, help="Begin after this log id."
)


def on_target(*who: str) -> Callable[[Function], Function]:
    """Give a command the options that name the server, and those of `who`: session, agent, stream.

    The command receives the settings as its first argument, a Target. It may be a coroutine
    function: it then runs until it returns, or until SIGTERM.
    """
    names = (*who, "redis_url", "namespace")
    field_of = {field.name: field for field in fields(Settings)}

    def decorate(function: Function) -> Function:
        @wraps(function)
        def command(**given: Any) -> Any:
            target = load(**{name: given.pop(name) for name in names})
            result = function(target, **given)
            return run(result) if iscoroutine(result) else result

        decorated: Function = command
        for name in reversed(names):
            decorated = setting_option(field_of[name])(decorated)
        return decorated

    return decorate


def on_session(function: Function) -> Function:
    """Give a command the options of `on_target("session")`; an argument names the session too."""

    @wraps(function)
    def command(target: Target, name: str | None, **given: Any) -> Any:
        return function(replace(target, session=name or target.session), **given)

    argument = click.argument("name", metavar="[SESSION]", required=False)
    return argument(on_target("session")(command))
