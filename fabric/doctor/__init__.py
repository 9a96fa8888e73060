"""What `fabric doctor` looks at, in order: installation, server, keys, leases, dead letters.

Nothing is concluded from a version: what the fabric needs is tried, on a scratch key of the
namespace that is deleted at the end (and goes by itself if that fails). Beside this file:
`diagnosis.py` (what the server's settings mean), `tamper.py` (the keys and what is in them),
`standing.py` (leases, backlogs, dead letters), `installation.py` (this machine).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, suppress
from typing import Any, Final, NamedTuple
from uuid import uuid4

from fabric.doctor import diagnosis, installation, tamper
from fabric.doctor import partition as standing
from fabric.doctor.diagnosis import SETTINGS, Facts, Finding, Level
from fabric.doctor.nodes import each
from fabric.errors import FabricError, ServerError, UnreachableError, UnsupportedServerError
from fabric.store.connection import Caller
from fabric.store.redis import RedisStore

#: Time after which a scratch key goes by itself, ms: longer than the slowest doctor.
SCRATCH_MS: Final = 60_000

#: Skew between this host's clock and the server's that is not worth a word, ms. Leases, timers and
#: log times go by the server's clock alone; beyond a second, logs of hosts no longer fit together.
CLOCK_SKEW_MS_MAX: Final = 1_000

#: Times that the clock is asked for: the quickest answer counts.
CLOCK_SAMPLES: Final = 5

#: Commands newer than 6.2 that some servers have. None is needed.
NEWER: Final = ("WAITAOF", "XACKDEL", "XDELEX", "XNACK")

#: What the fabric sends besides its scripts: each command in one form, all on the scratch key.
_TRIALS: Final = (
    *("XADD <key> 1-1 f v", "XADD <key> 1-2 f v", f"PEXPIRE <key> {SCRATCH_MS}", "TYPE <key>"),
    *("XREAD COUNT 1 STREAMS <key> 0", "XRANGE <key> (1-1 +", "XREVRANGE <key> + -"),
    *("XLEN <key>", "XGROUP CREATE <key> g 0 MKSTREAM", "XGROUP SETID <key> g 1-1"),
    *("XINFO STREAM <key>", "XPENDING <key> g", "XACK <key> g 1-1", "XTRIM <key> MINID = 1-2"),
    *("XDEL <key> 1-2", "DEL <key>"),
    *("HSET <key> f v", f"PEXPIRE <key> {SCRATCH_MS}", "HSETNX <key> g v", "HGET <key> f"),
    *("HMGET <key> f g", "HGETALL <key>", "HEXISTS <key> f", "HDEL <key> g", "DEL <key>"),
    *("ZADD <key> 1 m", f"PEXPIRE <key> {SCRATCH_MS}", "ZRANGE <key> 0 -1"),
    *("ZREVRANGE <key> 0 -1 WITHSCORES", "ZRANGEBYSCORE <key> -inf 0 WITHSCORES LIMIT 0 1"),
    *("ZREMRANGEBYSCORE <key> -inf 0", "ZREM <key> m", "DEL <key>"),
)


class Report(NamedTuple):
    """All findings, and the exit code of `fabric doctor`: 0, 1 when a check failed, or that of the
    error on which no more could be checked."""

    findings: list[Finding]
    exit_code: int


async def examine(
    store: RedisStore | None, where: str, partitions: int | None, *, reseed: bool = False
) -> Report:
    """Check everything; with `reseed`, first give every partition that lost its epoch a new one.

    `store` is None when no server is named and the project's own does not run; `where` says to
    people where it is. `partitions` counts when the namespace does not say how many it has. Writes
    nothing else but a scratch key.
    """
    findings = [installation.program(), installation.private_server(is_named=store is not None)]
    code = 0
    try:
        if store is None:
            raise ServerError("none: FABRIC_REDIS_URL is not set, the project's own is not running")
        # One by one: when the server goes half-way, what was found so far is told.
        async with aclosing(_look(store, where, partitions, reseed=reseed)) as found:
            async for finding in found:
                findings.append(finding)
    except FabricError as error:
        code = error.exit_code
        check = "finished" if any(one.check == "reachable" for one in findings) else "reachable"
        findings.append(Finding(check, Level.FAIL, str(error), _way_in(error, where)))
    if not code and any(finding.level is Level.FAIL for finding in findings):
        code = 1
    return Report(findings, code)


async def admit(store: RedisStore) -> str:
    """Return the servers' names and versions. Raises ServerError when one cannot be reached, or may
    evict state; NotAllowedError when it does not let us in."""
    known = await ask(store)
    for evicting in each(known, diagnosis.eviction):
        if evicting.level is Level.FAIL:
            raise UnsupportedServerError(f"server: {evicting.found}; {evicting.advice}")
    return ", ".join(sorted({facts.version for facts in known.values()}))


def public(url: str) -> str:
    """Return a server's URL as it may be shown: without user, password and options."""
    scheme, _, rest = url.partition("://")
    if not rest.startswith("/"):
        # The last @ ends the password, in which others may not have been escaped.
        rest = rest.rpartition("@")[2]
    place, _, query = rest.partition("?")
    kept = [option for option in query.split("&") if option.startswith("db=")]
    return f"{scheme}://{place}" + (f"?{kept[0]}" if kept else "")


async def ask(store: RedisStore) -> dict[str, Facts]:
    """Ask every server that has keys about itself; by its address, "" when there is but one.

    Raises as PING does; what a server does not tell is left out.
    """
    return {name: await _facts(server) for name, server in (await store.servers()).items()}


async def _facts(server: Caller) -> Facts:
    await server.call("PING")
    said = await _answer(server.call("INFO")) or b""
    rows = said.decode(errors="replace").splitlines()
    info = dict(row.split(":", 1) for row in rows if ":" in row)
    if info.get("cluster_enabled") == "1":
        said = await _answer(server.call("CLUSTER", "INFO")) or b""
        rows = said.decode(errors="replace").splitlines()
        info |= dict(row.split(":", 1) for row in rows if ":" in row)
    config: dict[str, str] = {}
    for name in SETTINGS:
        flat = await _answer(server.call("CONFIG", "GET", name)) or []
        config |= {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}
    return Facts(info, config)


async def _look(
    store: RedisStore, where: str, default: int | None, *, reseed: bool
) -> AsyncGenerator[Finding, None]:
    known = await ask(store)
    yield Finding("reachable", Level.OK, where)
    for finding in each(known, lambda facts: Finding("server", Level.OK, facts.version)):
        yield finding
    if await store.is_cluster():
        yield diagnosis.coverage(known)
    yield await commands(store)
    yield await newer(store)
    now_s = int(time.time())
    for judge in (
        diagnosis.eviction,
        diagnosis.memory,
        lambda facts: diagnosis.persistence(facts, now_s),
        diagnosis.replication,
    ):
        for finding in each(known, judge):
            yield finding
    for name, server in (await store.servers()).items():
        yield await clock(server, name)
    partitions = await tamper.partitions(store, default or await store.partitions_default())
    for finding in each(known, lambda facts: diagnosis.clients(facts, partitions)):
        yield finding
    if reseed:
        for finding in await standing.reseed(store, partitions):
            yield finding
    for finding in await tamper.keys(store, partitions):
        yield finding
    for finding in await standing.leases(store, partitions):
        yield finding
    yield await standing.dead_letters(store, partitions)


async def commands(store: RedisStore) -> Finding:
    """Try every command that the fabric sends, on a scratch key."""
    key = f"{store.namespace.name}:doctor:{uuid4().hex}"
    refused: dict[str, str] = {}
    try:
        for trial in _TRIALS:
            words = [key if word == "<key>" else word for word in trial.split()]
            name = " ".join(words[:2]) if words[0] in ("XGROUP", "XINFO") else words[0]
            reason = await _refusal(store.call(*words, at=key))
            if reason:
                refused.setdefault(name, reason)
        reason = await _refusal(store.attempt(key, SCRATCH_MS))
        if reason:
            refused["EVAL"] = reason
    finally:
        with suppress(FabricError):
            await store.call("DEL", key, at=key)
    if not refused:
        return Finding("commands", Level.OK, "all that the fabric sends were tried, and work")
    advice = "allow them to this user (ACL), or use Redis 6.2 or newer, or Valkey 8 or newer"
    if list(refused) == ["EVAL"]:
        advice = "the fabric cannot do without Lua scripts: allow them, or load the server's module"
    first = next(iter(refused.values()))
    return Finding("commands", Level.FAIL, f"refused: {', '.join(refused)} ({first})", advice)


async def newer(store: RedisStore) -> Finding:
    """Ask which of the newer commands the server has. For information."""
    rows = await _answer(store.call("COMMAND", "INFO", *NEWER))
    if rows is None:
        return Finding("newer commands", Level.UNKNOWN, "not known: COMMAND is not permitted")
    there = [name for name, row in zip(NEWER, rows, strict=True) if row]
    found = f"{', '.join(there) or 'none'}, of {', '.join(NEWER)}; none is needed"
    return Finding("newer commands", Level.OK, found)


async def clock(server: Caller, name: str = "") -> Finding:
    """Compare this host's clock with a server's: half the round trip is not held against it."""
    samples = []
    for _ in range(CLOCK_SAMPLES):
        before, began = time.time() * 1000, time.monotonic()
        seconds, micros = await server.call("TIME")
        half_trip = (time.monotonic() - began) * 500
        samples.append((half_trip, int(seconds) * 1000 + int(micros) / 1000 - before - half_trip))
    half_trip, skew = min(samples)
    side = "ahead of" if skew > 0 else "behind"
    whose = f"that of {name}" if name else "the server's"
    found = f"{whose} is {abs(skew):.0f} ms {side} this host's, give or take {half_trip:.1f}"
    if abs(skew) - half_trip <= CLOCK_SKEW_MS_MAX:
        return Finding("clock", Level.OK, found)
    advice = "run NTP on both hosts: their logs do not fit together"
    return Finding("clock", Level.WARN, found, advice)


def _way_in(error: FabricError, where: str) -> str:
    if not where:
        return "`fabric up` starts one, or set FABRIC_REDIS_URL"
    if isinstance(error, ServerError):
        return f"does the server at {where} run, and can it be reached from here?"
    return "check user and password in FABRIC_REDIS_URL, and what the server allows them (ACL)"


async def _answer(asked: Awaitable[Any]) -> Any:
    """Return the reply; None when the server does not let us ask."""
    try:
        return await asked
    except UnreachableError:
        raise
    except FabricError:
        return None


async def _refusal(trial: Awaitable[Any]) -> str | None:
    try:
        await trial
    except UnreachableError:
        raise
    except FabricError as error:
        return str(error)
    return None
