"""The one server: killed, restarted, frozen, full, read-only; and what of it can be emptied."""

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace
from tests.chaos.post import PARTITIONS
from tests.chaos.scene import Scene
from tests.chaos.standalone import Standalone
from tests.support.waiting import until

#: Room that is left on the full disk, bytes.
ROOM_BYTES = 65_536
#: A port of this machine on which no server listens.
NO_PORT = 1

NAMESPACE = Namespace()


def _of(scene: Scene) -> Standalone:
    assert isinstance(scene.deployment, Standalone)
    return scene.deployment


def kill(scene: Scene) -> Iterator[str]:
    """SIGKILL and a start from the append-only file."""
    server = _of(scene).server
    server.kill()
    scene.tally.kills += 1
    scene.last(0, 1)
    server.start()
    scene.tally.restarts += 1
    yield "server killed"


def restart(scene: Scene) -> Iterator[str]:
    """SIGTERM and a start."""
    server = _of(scene).server
    server.stop()
    scene.last(0, 1)
    server.start()
    scene.tally.restarts += 1
    yield "server restarted"


def freeze(scene: Scene) -> Iterator[str]:
    """SIGSTOP for some seconds: clients give it up or do not."""
    server = _of(scene).server
    os.kill(server.pid, signal.SIGSTOP)
    scene.tally.freezes += 1
    try:
        scene.last(0.5, 7)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    yield "server frozen"


def flush_scripts(scene: Scene) -> Iterator[str]:
    """SCRIPT FLUSH."""
    scene.deployment.ask("", "SCRIPT", "FLUSH")
    yield "SCRIPT FLUSH"


def destroy_groups(scene: Scene) -> Iterator[str]:
    """XGROUP DESTROY of every group there is."""
    for number in range(PARTITIONS):
        names = NAMESPACE.partition(number)
        for group in (ORCHESTRATORS, SYNTHESIZERS):
            source = names.source(group)
            if scene.deployment.ask(source, "EXISTS", source):
                scene.deployment.ask(source, "XGROUP", "DESTROY", source, group)
    yield "XGROUP DESTROY"


def flush_all(scene: Scene) -> Iterator[str]:
    """FLUSHALL, once there is something to lose."""
    scene.last(1, 3)
    scene.note("flushing")
    scene.deployment.ask("", "FLUSHALL")
    scene.note("flushed")
    yield "FLUSHALL"


def fill_memory(scene: Scene) -> Iterator[str]:
    """`maxmemory` below what is in use: every write is refused."""
    ask = scene.deployment.ask
    ask("", "CONFIG", "SET", "maxmemory", "1mb")
    try:
        scene.last(0.5, 3)
    finally:
        ask("", "CONFIG", "SET", "maxmemory", "0")
    yield "out of memory"


def demote(scene: Scene) -> Iterator[str]:
    """REPLICAOF nobody who is there: READONLY for writes, for reads MASTERDOWN at times."""
    ask = scene.deployment.ask
    serves = scene.chance.choice(("yes", "no"))
    ask("", "CONFIG", "SET", "replica-serve-stale-data", serves)
    ask("", "REPLICAOF", "127.0.0.1", NO_PORT)
    try:
        scene.last(0.5, 3)
    finally:
        ask("", "REPLICAOF", "NO", "ONE")
    yield "read-only replica"


def fill_disk(scene: Scene) -> Iterator[str]:
    """The append-only file cannot grow: MISCONF; or the server ends, when it syncs always.

    The limit of a file's size stands in for the disk's: the server meets the same failed write.
    """
    server = _of(scene).server
    # Redis 7.0.15 was seen to cut a failed write off at a wrong place when it had rewritten the
    # file since its start, and then not to start again: what is tried here is the full disk alone.
    server.stop()
    server.start()
    scene.tally.restarts += 1
    server.cli("CONFIG", "SET", "auto-aof-rewrite-percentage", "0")
    until(lambda: _idle(scene), "no rewrite is under way")
    process = server.process
    assert process is not None
    grown = max(path.stat().st_size for path in _files(server.directory))
    unlimited = resource.RLIM_INFINITY
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (grown + ROOM_BYTES, unlimited))
    try:
        scene.last(1, 4)
    finally:
        if server.alive:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
        else:
            server.start()
            scene.tally.restarts += 1
        server.cli("CONFIG", "SET", "auto-aof-rewrite-percentage", "100")
    yield "disk full"


def _idle(scene: Scene) -> bool:
    return "aof_rewrite_in_progress:0" in str(scene.deployment.ask("", "INFO", "persistence"))


def _files(directory: Path) -> list[Path]:
    """Every file that the server appends to."""
    return [path for path in directory.rglob("*.aof") if path.is_file()]
