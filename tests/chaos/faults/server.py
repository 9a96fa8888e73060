"""Faults of a single server: killed, restarted, frozen, full, read-only, emptied."""

import resource
from collections.abc import Iterator
from pathlib import Path

from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace
from tests.chaos.context import Context
from tests.chaos.deployment import Standalone
from tests.chaos.faults.outage import down, frozen, out_of_memory, read_only
from tests.chaos.roster import PARTITIONS

#: Room left on the full disk, bytes.
ROOM_BYTES = 65_536

NAMESPACE = Namespace()


def _of(context: Context) -> Standalone:
    assert isinstance(context.deployment, Standalone)
    return context.deployment


def kill(context: Context) -> Iterator[str]:
    """SIGKILL, then a start from the append-only file."""
    with down(_of(context), context.fleet):
        context.tally.kills += 1
        context.last(0, 1)
    context.tally.restarts += 1
    yield "server killed"


def restart(context: Context) -> Iterator[str]:
    """SIGTERM, then a start."""
    server = _of(context).server
    server.stop()
    context.last(0, 1)
    server.start()
    context.tally.restarts += 1
    yield "server restarted"


def freeze(context: Context) -> Iterator[str]:
    """SIGSTOP for some seconds: some clients time out."""
    context.tally.freezes += 1
    with frozen(_of(context), context.fleet):
        context.last(0.5, 7)
    yield "server frozen"


def flush_scripts(context: Context) -> Iterator[str]:
    """SCRIPT FLUSH."""
    context.deployment.ask("", "SCRIPT", "FLUSH")
    yield "SCRIPT FLUSH"


def destroy_groups(context: Context) -> Iterator[str]:
    """XGROUP DESTROY of every group."""
    for number in range(PARTITIONS):
        names = NAMESPACE.partition(number)
        for group in (ORCHESTRATORS, SYNTHESIZERS):
            source = names.source(group)
            if context.deployment.ask(source, "EXISTS", source):
                context.deployment.ask(source, "XGROUP", "DESTROY", source, group)
    yield "XGROUP DESTROY"


def flush_all(context: Context) -> Iterator[str]:
    """FLUSHALL, as soon as there is data."""
    context.last(1, 3)
    context.note("flushing")
    context.deployment.ask("", "FLUSHALL")
    context.note("flushed")
    yield "FLUSHALL"


def fill_memory(context: Context) -> Iterator[str]:
    """See out_of_memory."""
    with out_of_memory(_of(context), context.fleet):
        context.last(0.5, 3)
    yield "out of memory"


def demote(context: Context) -> Iterator[str]:
    """As read_only, sometimes with MASTERDOWN for reads."""
    serves = context.chance.choice(("yes", "no"))
    context.deployment.ask("", "CONFIG", "SET", "replica-serve-stale-data", serves)
    with read_only(_of(context), context.fleet):
        context.last(0.5, 3)
    yield "read-only replica"


def fill_disk(context: Context) -> Iterator[str]:
    """The append-only file cannot grow: MISCONF; with `appendfsync always` the server ends.

    A limit on the file's size stands in for a full disk: the server sees the same failed write.
    """
    server = _of(context).server
    # Redis 7.0.15 can truncate a failed write at the wrong place if it has rewritten the file
    # since its start, and then does not start again: restart it first, to test the full disk only.
    # Rewrites are off from the start, because one may be due at once.
    usual = server.options
    server.options = (*usual, "--auto-aof-rewrite-percentage", "0")
    server.stop()
    server.start()
    server.options = usual
    context.tally.restarts += 1
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


def _files(directory: Path) -> list[Path]:
    """Return every file that the server appends to."""
    return [path for path in directory.rglob("*.aof") if path.is_file()]
