"""The checks of `fabric doctor`, in order: installation, server, keys, leases, dead letters.

Nothing is concluded from a version: we try what the fabric needs on a scratch key of the namespace
and delete that key at the end (it expires by itself if that fails). `server.py` checks the servers
and their settings, `content.py` the keys and their content, `partition.py` leases, backlogs and
dead letters.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final, NamedTuple

from fabric import devserver
from fabric.doctor import content, partition, server
from fabric.doctor.server import Finding, Level, each
from fabric.errors import FabricError, ServerError, UnsupportedServerError
from fabric.store.redis import RedisStore

__all__ = ["Finding", "Level", "Report", "admit", "examine"]

#: Bytes of a program that we read to recognise it: the script of an entry point has some 250.
LAUNCHER_BYTES: Final = 4_096

_OURS = "signal-fabric"


class Report(NamedTuple):
    """All findings, and the exit code of `fabric doctor`.

    The exit code is 0, or 1 when a check failed, or that of the error that stopped the checks.
    """

    findings: list[Finding]
    exit_code: int


async def examine(
    store: RedisStore | None, where: str, partitions: int | None, *, reseed: bool = False
) -> Report:
    """Check everything; with `reseed`, first give every partition that lost its epoch a new one.

    `store` is None when no server is configured and the project's private server does not run.
    `where` is the server's URL as people may see it. `partitions` applies when the namespace does
    not say how many it has. Apart from `reseed`, only a scratch key is written.
    """
    findings = [program(), private_server(is_configured=store is not None)]
    code = 0
    try:
        if store is None:
            raise ServerError(
                "none: FABRIC_REDIS_URL is not set, and the project's private server is not running"
            )
        # One by one: if the server goes away half-way, we still report what was found.
        async with aclosing(_check(store, where, partitions, reseed=reseed)) as found:
            async for finding in found:
                findings.append(finding)
    except FabricError as error:
        code = error.exit_code
        check = "finished" if any(one.check == "reachable" for one in findings) else "reachable"
        findings.append(Finding(check, Level.FAIL, str(error), _access_advice(error, where)))
    if not code and any(finding.level is Level.FAIL for finding in findings):
        code = 1
    return Report(findings, code)


async def admit(store: RedisStore) -> str:
    """Return the servers' names and versions.

    Raises ServerError when a server cannot be reached or may evict state, NotAllowedError when it
    does not let us in.
    """
    known = await server.ask(store)
    for evicting in each(known, server.eviction):
        if evicting.level is Level.FAIL:
            raise UnsupportedServerError(f"server: {evicting.found}; {evicting.advice}")
    return ", ".join(sorted({facts.version for facts in known.values()}))


async def _check(
    store: RedisStore, where: str, default: int | None, *, reseed: bool
) -> AsyncGenerator[Finding, None]:
    known = await server.ask(store)
    yield Finding("reachable", Level.OK, where)
    for finding in each(known, lambda facts: Finding("server", Level.OK, facts.version)):
        yield finding
    if await store.is_cluster():
        yield server.coverage(known)
    yield await server.commands(store)
    yield await server.newer_commands(store)
    now_s = int(time.time())
    for judge in (
        server.eviction,
        server.memory,
        lambda facts: server.persistence(facts, now_s),
        server.replication,
    ):
        for finding in each(known, judge):
            yield finding
    for name, caller in (await store.servers()).items():
        yield await server.clock(caller, name)
    partitions = await content.partitions(store, default or await store.partitions_default())
    for finding in each(known, lambda facts: server.clients(facts, partitions)):
        yield finding
    if reseed:
        for finding in await partition.reseed(store, partitions):
            yield finding
    for finding in await content.keys(store, partitions):
        yield finding
    for finding in await partition.leases(store, partitions):
        yield finding
    yield await partition.dead_letters(store, partitions)


def _access_advice(error: FabricError, where: str) -> str:
    if not where:
        return "`fabric up` starts one, or set FABRIC_REDIS_URL"
    if isinstance(error, ServerError):
        return f"does the server at {where} run, and can it be reached from here?"
    return "check user and password in FABRIC_REDIS_URL, and what the server allows them (ACL)"


def program() -> Finding:
    """Whether `fabric` on PATH is ours: the remote-execution tool Fabric has the same name."""
    owners = {name.lower().replace("_", "-") for name in packages_distributions().get("fabric", ())}
    if owners - {_OURS}:
        return Finding(
            "program", Level.WARN,
            f"{', '.join(sorted(owners - {_OURS}))} is installed here too, and its package is also "
            "called fabric: the files of one overwrite the other's",
            f"give {_OURS} an environment of its own",
        )  # fmt: skip
    path = shutil.which("fabric")
    if path is None:
        return Finding(
            "program", Level.OK, "no `fabric` on PATH; `python -m fabric.cli` is the same"
        )
    try:
        with Path(path).open("rb") as script:
            is_ours = b"fabric.cli" in script.read(LAUNCHER_BYTES)
    except OSError:
        is_ours = False
    if is_ours:
        return Finding("program", Level.OK, f"`fabric` is {path}")
    return Finding(
        "program", Level.WARN, f"`fabric` is {path}, which does not look like ours",
        f"call `{_OURS}`, which is the same as our `fabric`",
    )  # fmt: skip


def private_server(*, is_configured: bool) -> Finding:
    """Whether the project's private server runs and is used.

    `is_configured`: we already have a server, so none needs to be started.
    """
    check = "private server"
    found = devserver.find()
    if found is None and is_configured:
        return Finding(
            check, Level.OK, "none runs for this project; FABRIC_REDIS_URL names another server"
        )
    if found is None:
        try:
            path, origin = devserver.binary()
        except FabricError as error:
            return Finding(
                check, Level.WARN, "none runs, and `fabric up` has no program to start", str(error)
            )
        return Finding(
            check, Level.OK, f"none runs; `fabric up` would start {path} (from {origin})"
        )
    where = f"{found.version} of {found.root} (pid {found.pid})"
    try:
        users = devserver.users(found.root)
    except OSError as error:
        return Finding(check, Level.UNKNOWN, f"{where}; its users are not known ({error.strerror})")
    if users:
        return Finding(check, Level.OK, f"{where}, used by {', '.join(map(str, users))}")
    return Finding(
        check, Level.WARN, f"{where} runs, and no live process uses it",
        "`fabric demo --keep`, or a process that was killed, left it running; `fabric up` takes it "
        "over, `fabric down` stops it and keeps its data",
    )  # fmt: skip
