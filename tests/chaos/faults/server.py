"""The one server: killed, restarted, frozen, full, read-only; and what of it can be emptied."""

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace
from tests.chaos.context import Context
from tests.chaos.deployment import Standalone
from tests.chaos.roster import PARTITIONS
from tests.support.waiting import until

#: Room that is left on the full disk, bytes.
ROOM_BYTES = 65_536
#: A port of this machine on which no server listens.
NO_PORT = 1

NAMESPACE = Namespace()


def _of(context: Context) -> Standalone:
    assert isinstance(context.deployment, Standalone)
    return context.deployment


def kill(context: Context) -> Iterator[str]:
    """SIGKILL and a start from the append-only file."""
    server = _of(context).server
    server.kill()
    context.tally.kills += 1
    context.last(0, 1)
    server.start()
    context.tally.restarts += 1
    yield "server killed"


def restart(context: Context) -> Iterator[str]:
    """SIGTERM and a start."""
    server = _of(context).server
    server.stop()
    context.last(0, 1)
    server.start()
    context.tally.restarts += 1
    yield "server restarted"


def freeze(context: Context) -> Iterator[str]:
    """SIGSTOP for some seconds: clients give it up or do not."""
    server = _of(context).server
    os.kill(server.pid, signal.SIGSTOP)
    context.tally.freezes += 1
    try:
        context.last(0.5, 7)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    yield "server frozen"


def flush_scripts(context: Context) -> Iterator[str]:
    """SCRIPT FLUSH."""
    context.deployment.ask("", "SCRIPT", "FLUSH")
    yield "SCRIPT FLUSH"


def destroy_groups(context: Context) -> Iterator[str]:
    """XGROUP DESTROY of every group there is."""
    for number in range(PARTITIONS):
        names = NAMESPACE.partition(number)
        for group in (ORCHESTRATORS, SYNTHESIZERS):
            source = names.source(group)
            if context.deployment.ask(source, "EXISTS", source):
                context.deployment.ask(source, "XGROUP", "DESTROY", source, group)
    yield "XGROUP DESTROY"


def flush_all(context: Context) -> Iterator[str]:
    """FLUSHALL, once there is something to lose."""
    context.last(1, 3)
    context.note("flushing")
    context.deployment.ask("", "FLUSHALL")
    context.note("flushed")
    yield "FLUSHALL"


def fill_memory(context: Context) -> Iterator[str]:
    """`maxmemory` below what is in use: every write is refused."""
    ask = context.deployment.ask
    ask("", "CONFIG", "SET", "maxmemory", "1mb")
    try:
        context.last(0.5, 3)
    finally:
        ask("", "CONFIG", "SET", "maxmemory", "0")
    yield "out of memory"


def demote(context: Context) -> Iterator[str]:
    """REPLICAOF nobody who is there: READONLY for writes, for reads MASTERDOWN at times."""
    ask = context.deployment.ask
    serves = context.chance.choice(("yes", "no"))
    ask("", "CONFIG", "SET", "replica-serve-stale-data", serves)
    ask("", "REPLICAOF", "127.0.0.1", NO_PORT)
    try:
        context.last(0.5, 3)
    finally:
        ask("", "REPLICAOF", "NO", "ONE")
    yield "read-only replica"


def fill_disk(context: Context) -> Iterator[str]:
    """The append-only file cannot grow: MISCONF; or the server ends, when it syncs always.

    The limit of a file's size stands in for the disk's: the server meets the same failed write.
    """
    server = _of(context).server
    # Redis 7.0.15 was seen to cut a failed write off at a wrong place when it had rewritten the
    # file since its start, and then not to start again: what is tried here is the full disk alone.
    server.stop()
    server.start()
    context.tally.restarts += 1
    server.cli("CONFIG", "SET", "auto-aof-rewrite-percentage", "0")
    until(lambda: _idle(context), "no rewrite is under way")
    process = server.process
    assert process is not None
    grown = max(path.stat().st_size for path in _files(server.directory))
    unlimited = resource.RLIM_INFINITY
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (grown + ROOM_BYTES, unlimited))
    try:
        context.last(1, 4)
    finally:
        if server.alive:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
        else:
            server.start()
            context.tally.restarts += 1
        server.cli("CONFIG", "SET", "auto-aof-rewrite-percentage", "100")
    yield "disk full"


def _idle(context: Context) -> bool:
    return "aof_rewrite_in_progress:0" in str(context.deployment.ask("", "INFO", "persistence"))


def _files(directory: Path) -> list[Path]:
    """Every file that the server appends to."""
    return [path for path in directory.rglob("*.aof") if path.is_file()]
