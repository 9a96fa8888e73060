"""A worker as a process: settings, signals, log lines, exit code."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from hashlib import sha256
from pathlib import Path

import fabric
from fabric import doctor
from fabric.backoff import Outage
from fabric.config import rulebook
from fabric.config.settings import Settings
from fabric.devserver import require_server_url
from fabric.errors import UnavailableError, UnreachableError
from fabric.store.connection import DeniedError
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS
from fabric.store.redis import RedisStore
from fabric.wire import record
from workers import extension, orchestrator, synthesizer
from workers.probe import probed
from workers.replica import MakeHandler, Replica

logger = logging.getLogger("fabric.daemon")

#: Allocations between two looks of the garbage collector at young objects: some batches' worth.
GC_ALLOCATIONS = 50_000

#: What a worker without a rule file says of its rules.
DEFAULT_RULES = "defaults"

#: Worker → its consumer group.
GROUPS = {"orchestrator": ORCHESTRATORS, "synthesizer": SYNTHESIZERS}


def serve(worker: str, settings: Settings, name: str | None = None) -> int:
    """Run a worker until it is told to stop; return the process's exit code.

    The first SIGTERM or SIGINT drains: the worker commits what it has read and gives up its leases.
    The second one stops at once. Nothing is lost: the next holder goes on from the last commit.
    Raises ConfigError when the rule file is faulty, before connecting, and UnsupportedServerError,
    without serving, on a server that may evict state.
    """
    # Reference counts free nearly everything that a worker allocates. The garbage collector need
    # not look at imported modules, nor at every few hundred structs: that was 5 % of the hot path.
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 50)
    form = "%(asctime)s %(name)s %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=form)
    found = rulebook.in_force()
    logger.info("rules: %s", found.path or "the defaults; no configuration file has rules")
    if found.withheld:
        logger.warning("%s", found.withheld)
    if worker == "orchestrator":
        make: MakeHandler = orchestrator.factory(found.rules, settings)
    else:
        reducers = {} if found.withheld else extension.reducers(found.rules)
        refiners = extension.refiners(found.rules)
        make = synthesizer.factory(found.rules, settings, reducers, refiners)
    rules = record.rules_digest(record.rules_document(found.rules)) or DEFAULT_RULES
    try:
        return asyncio.run(_serve(worker, settings, name, make, rules))
    except asyncio.CancelledError:
        return 1


def build() -> str:
    """Return what tells this code from any other: the version, and a digest of the source."""
    digest = sha256()
    for package in (Path(fabric.__file__).parent, Path(__file__).parent):
        for path in sorted(p for p in package.rglob("*") if p.suffix in (".py", ".lua")):
            digest.update(path.read_bytes())
    return f"{fabric.__version__}+{digest.hexdigest()[:8]}"


async def _serve(
    worker: str, settings: Settings, name: str | None, make: MakeHandler, rules: str
) -> int:
    url = require_server_url(settings)
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    store = RedisStore(url, settings.namespace, name=f"fabric-{worker}")
    replica = Replica(store, GROUPS[worker], make, settings, name, rules=rules, build=build())
    stop = asyncio.Event()
    running = asyncio.create_task(_work(worker, store, replica, stop, settings.health_port))

    def on_signal() -> None:
        if stop.is_set():
            logger.warning("%s: stopping at once", worker)
            running.cancel()
        else:
            logger.info("%s: draining; once more stops at once", worker)
            stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    try:
        await running
    finally:
        await store.close()
    logger.info("%s %s: stopped", worker, name)
    return 0


async def _work(
    worker: str, store: RedisStore, replica: Replica, stop: asyncio.Event, port: int | None
) -> None:
    async with probed(replica, port):
        await work(worker, store, replica, stop)


async def work(worker: str, store: RedisStore, replica: Replica, stop: asyncio.Event) -> None:
    """Wait for a server that may be used, and for permission; then serve until told to stop."""
    outage = Outage(f"{worker} {replica.name}")
    while not stop.is_set():
        try:
            await doctor.admit(store)
            await store.require(GROUPS[worker])
        except (UnreachableError, UnavailableError, DeniedError) as error:
            await outage.failed(error, stop)
            continue
        outage.worked()
        logger.info("%s %s: serving namespace %s", worker, replica.name, store.namespace.name)
        await replica.run(stop)
        return
