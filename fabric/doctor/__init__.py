"""The checks of `fabric doctor`, in order: installation, server, keys, leases, dead letters.

Only known holes are concluded from a version. Everything else that the fabric needs we try on a
scratch key of the namespace, and delete that key at the end (it expires by itself if that fails).
`server.py` checks the servers and their settings, `content.py` the keys and their content,
`partition.py` leases, backlogs and dead letters.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable
from functools import partial
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final, NamedTuple

from fabric import devserver
from fabric.devserver.server import PrivateServer
from fabric.doctor import content, partition, sentinel, server
from fabric.doctor.server import REFUSED, Finding, Level, each
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
    store: RedisStore | None,
    where: str,
    partitions: int | None,
    *,
    reseed: bool = False,
    strict: bool = False,
) -> Report:
    """Check everything; with `reseed`, first give every partition that lost its epoch a new one.

    `store` is None when no server is configured and the project's private server does not run.
    `where` is the server's URL as people may see it. `partitions` applies when the namespace does
    not say how many it has. Apart from `reseed`, only a scratch key is written. `strict`: a fabric
    that does not work now has failed: no worker is alive, or what waits grows.
    """
    findings = [program(), private_server(is_configured=store is not None)]
    code = 0
    try:
        if store is None:
            raise ServerError(
                "none: FABRIC_REDIS_URL is not set, and the project's private server is not running"
            )
        await _check(findings, store, where, partitions, reseed=reseed, strict=strict)
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
    findings: list[Finding],
    store: RedisStore,
    where: str,
    default: int | None,
    *,
    reseed: bool,
    strict: bool,
) -> None:
    """Add one finding after the other: if the server goes away half-way, those so far count.

    What the user may not look at is "not known", with the permission that is missing.
    """

    async def look(check: str, looking: Awaitable[Finding | list[Finding]]) -> None:
        found: Finding | list[Finding]
        try:
            found = await looking
        except REFUSED as error:
            found = Finding(check, Level.UNKNOWN, f"not known: {error}")
        findings.extend(found if isinstance(found, list) else [found])

    known = await server.ask(store)
    findings.append(Finding("reachable", Level.OK, where))
    findings += each(known, lambda facts: Finding("server", Level.OK, facts.version))
    findings += each(known, server.known_holes)
    if await store.is_cluster():
        findings.append(server.coverage(known))
    await look("sentinels", sentinel.sentinels(store))
    findings.append(await server.commands(store))
    findings.append(await server.newer_commands(store))
    for judge in (server.eviction, server.memory, server.persistence, server.replication):
        findings += each(known, judge)
    for name, caller in (await store.servers()).items():
        await look("clock", server.clock(caller, name))
    partitions = await content.partitions(store, default or await store.partitions_default())
    findings += each(known, partial(server.clients, partitions=partitions))
    if reseed:
        findings += await partition.reseed(store, partitions)
    await look("keys", content.keys(store, partitions))
    for group in partition.GROUPS:
        await look(group, partition.leases(store, group, partitions))
        await look(group, partition.peers(store, group))
        if strict:
            await look(group, partition.backlog(store, group, partitions))
    await look("dead letters", partition.dead_letters(store, partitions))


def _access_advice(error: FabricError, where: str) -> str:
    if not where:
        return devserver.advice()
    if isinstance(error, ServerError):
        return f"does the server at {where} run, and can it be reached from here?"
    return ""  # the error says it


def program() -> Finding:
    """Whether `fabric` on PATH is ours: the remote-execution tool Fabric has the same name."""
    owners = {
        one.metadata["Name"].lower().replace("_", "-")
        for one in distributions()
        if _brings_fabric(one)
    }
    if others := ", ".join(sorted(owners - {_OURS})):
        found = (
            f"{others} is installed here too, and its package is also called fabric: the files of "
            "one overwrite the other's"
        )
        return Finding("program", Level.WARN, found, f"give {_OURS} an environment of its own")
    path = shutil.which("fabric")
    if path is None:
        found = "no `fabric` on PATH; `python -m fabric.cli` is the same"
        return Finding("program", Level.OK, found)
    try:
        with Path(path).open("rb") as script:
            is_ours = b"fabric.cli" in script.read(LAUNCHER_BYTES)
    except OSError:
        is_ours = False
    if is_ours:
        return Finding("program", Level.OK, f"`fabric` is {path}")
    found = f"`fabric` is {path}, which does not look like ours"
    advice = f"call `{_OURS}`, which is the same as our `fabric`"
    return Finding("program", Level.WARN, found, advice)


def _brings_fabric(one: Distribution) -> bool:
    """Whether a distribution has a package `fabric`; to ask for every package takes 0.3 s."""
    named, files = one.read_text("top_level.txt"), one.read_text("RECORD")
    return "fabric" in (named or "").split() or "\nfabric/" in f"\n{files or ''}"


def private_server(*, is_configured: bool) -> Finding:
    """Whether the project's private server runs and is used.

    `is_configured`: we already have a server, so none needs to be started.
    """
    level, advice = Level.OK, ""
    found = devserver.find()
    if found is not None:
        level, said, advice = _users(found)
    elif is_configured:
        said = "none runs for this project; another server is named"
    elif (near := devserver.advice()) != devserver.START:
        level, said, advice = Level.WARN, "none that can be used here", near
    else:
        try:
            path, origin = devserver.binary()
            said = f"none runs; `fabric up` would start {path} (from {origin})"
        except FabricError as error:
            said, advice = "none runs, and `fabric up` has no program to start", str(error)
            level = Level.WARN
    return Finding("private server", level, said, advice)


def _users(found: PrivateServer) -> tuple[Level, str, str]:
    where = f"{found.version} of {found.root} (pid {found.pid})"
    try:
        users = devserver.users(found.root)
    except OSError as error:
        return Level.UNKNOWN, f"{where}; its users are not known ({error.strerror})", ""
    if users:
        return Level.OK, f"{where}, used by {', '.join(map(str, users))}", ""
    advice = (
        "`fabric demo --keep`, or a process that was killed, left it running; `fabric up` takes it "
        "over, `fabric down` stops it and keeps its data"
    )
    return Level.WARN, f"{where} runs, and no live process uses it", advice
