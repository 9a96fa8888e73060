"""Checks of the servers: the commands they take, their settings, their clocks.

A managed server may not let us ask for something. The finding is then "not known", which is no
failure. The functions that take `Facts` judge what was asked before, without I/O.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final
from uuid import uuid4

from fabric.devserver.build import HOLES, open_holes, parse
from fabric.errors import FabricError, UnreachableError, UnsupportedServerError
from fabric.store import permission
from fabric.store.connection import Caller, DeniedError
from fabric.store.redis import RedisStore

#: Share of maxmemory in use above which it is time to act: emitters are refused at 1.
MEMORY_SHARE_MAX: Final = 0.8

#: Connections of an agent that is a process of its own: calls, signals, inbox.
AGENT_CONNECTIONS: Final = 3

#: Connections of a worker process, and additional ones for each partition it serves.
WORKER_CONNECTIONS: Final = 1
PARTITION_CONNECTIONS: Final = 3

#: Settings to ask CONFIG GET for, one at a time: before 7.0 it takes no more.
SETTINGS: Final = (
    *("maxmemory", "maxmemory-policy", "maxclients"),
    *("appendonly", "appendfsync", "save", "min-replicas-to-write"),
)

#: Time after which a scratch key expires by itself, ms: longer than the slowest doctor.
SCRATCH_MS: Final = 60_000

#: Difference between this host's clock and the server's that needs no warning, ms. Leases, timers
#: and log times use the server's clock alone; beyond a second, logs of several hosts disagree.
CLOCK_SKEW_MS_MAX: Final = 1_000

#: How often we ask for the time: the quickest answer counts.
CLOCK_SAMPLES: Final = 5

#: Commands newer than 6.2 that some servers have. None is needed.
NEWER: Final = ("WAITAOF", "XACKDEL", "XDELEX", "XNACK")

#: The user may not run a command, or the server has none of that name: what needs no such command
#: can be checked all the same.
REFUSED: Final = (DeniedError, UnsupportedServerError)

_NOT_KNOWN: Final = "not known: neither INFO nor CONFIG tells"
_NO_INFO: Final = "not known: INFO is not permitted"
_FILE_TOO: Final = "and the same in the server's configuration file"

#: appendfsync → what a crash loses.
_LOST: Final = {
    "always": "nothing that was acknowledged is lost",
    "everysec": "a crash of its host loses the last second or two; "
    "a crash of the server alone loses nothing",
    None: "how much a crash loses is not known (appendfsync)",
}


class Level(StrEnum):
    """The result of one check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    #: The server does not let us ask.
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its name, its result, what was found, and what to do about it."""

    check: str
    level: Level
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says about itself, as far as it lets us ask: INFO, and CONFIG GET."""

    info: dict[str, str]
    config: dict[str, str]

    def get(self, setting: str) -> str | None:
        """Return a setting, from CONFIG, else from the INFO field of that name; or None."""
        return self.config.get(setting, self.info.get(setting.replace("-", "_")))

    @property
    def version(self) -> str:
        """Name and version for people: "redis 7.0.15", "valkey 8.0.1"."""
        if "valkey_version" in self.info:
            return f"valkey {self.info['valkey_version']}"
        return f"redis {self.info['redis_version']}" if "redis_version" in self.info else "unnamed"


async def ask(store: RedisStore) -> dict[str, Facts]:
    """Ask every server that has keys about itself; by its address, "" when there is only one.

    Raises as PING does. What a server does not tell is left out.
    """
    return {name: await _facts(caller) for name, caller in (await store.servers()).items()}


async def _facts(caller: Caller) -> Facts:
    await caller.call("PING")
    info = _fields(await _reply(caller.call("INFO")))
    if info.get("cluster_enabled") == "1":
        info |= _fields(await _reply(caller.call("CLUSTER", "INFO")))
    config: dict[str, str] = {}
    for name in SETTINGS:
        flat = await _reply(caller.call("CONFIG", "GET", name)) or []
        config |= {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}
    return Facts(info, config)


def _fields(reply: bytes | None) -> dict[str, str]:
    rows = (reply or b"").decode(errors="replace").splitlines()
    return dict(row.split(":", 1) for row in rows if ":" in row)


def each(known: Mapping[str, Facts], judge: Callable[[Facts], Finding]) -> list[Finding]:
    """Judge every server; name the servers in a finding, unless it is true of all."""
    alike: dict[Finding, list[str]] = {}
    for name, facts in known.items():
        alike.setdefault(judge(facts), []).append(name)
    if len(alike) == 1:
        return list(alike)
    return [replace(one, found=f"{', '.join(of)}: {one.found}") for one, of in alike.items()]


async def commands(store: RedisStore) -> Finding:
    """Try every command that the fabric sends, on a scratch key."""
    key = f"{store.namespace.name}:doctor:{uuid4().hex}"

    async def call(*words: str) -> Any:
        return await store.call(*words, at=key)

    try:
        # HSETNX has no form without an effect.
        made = ("HSETNX <key> f v", f"PEXPIRE <key> {SCRATCH_MS}")
        needed = await permission.refused(call, key, (*made, *permission.NEEDED))
        other = await permission.refused(call, key, (*permission.OTHERS, "DEL <key>"))
        try:
            await store.attempt(key, SCRATCH_MS)
        except UnreachableError:
            raise
        except FabricError as error:
            if not needed | other:
                needed["eval"] = error
    finally:
        with suppress(FabricError):
            await store.call("DEL", key, at=key)
    refused = needed | other
    if not refused:
        return Finding("commands", Level.OK, "every command that the fabric sends works")
    if any(isinstance(error, DeniedError) and error.is_key for error in refused.values()):
        # What each command may do cannot be seen before.
        pattern = f"~{store.namespace.name}:*"
        found = f"the user has no permission for keys such as {key}"
        return Finding("commands", Level.FAIL, found, f"ACL SETUSER … {pattern}")
    rules = " ".join(f"+{name}" for name in refused)
    advice = f"ACL SETUSER … {rules}, or use Redis 6.2 or newer, or Valkey 8 or newer"
    if refused.keys() <= {"eval", "evalsha"}:
        advice = "the fabric cannot do without Lua scripts: allow them, or load the server's module"
    names = ", ".join(name.upper().replace("|", " ") for name in refused)
    found = f"refused: {names} ({next(iter(refused.values()))})"
    if needed:
        return Finding("commands", Level.FAIL, found, advice)
    return Finding("commands", Level.WARN, f"{found}; workers and agents do without", advice)


async def newer_commands(store: RedisStore) -> Finding:
    """Ask which of the newer commands the server has. For information."""
    rows = await _reply(store.call("COMMAND", "INFO", *NEWER))
    if rows is None:
        return Finding("newer commands", Level.UNKNOWN, "not known: COMMAND is not permitted")
    there = [name for name, row in zip(NEWER, rows, strict=True) if row]
    found = f"{', '.join(there) or 'none'}, of {', '.join(NEWER)}; none is needed"
    return Finding("newer commands", Level.OK, found)


async def clock(caller: Caller, name: str = "") -> Finding:
    """Compare this host's clock with a server's, allowing for half the round trip."""
    samples = []
    for _ in range(CLOCK_SAMPLES):
        before, began = time.time() * 1000, time.monotonic()
        seconds, micros = await caller.call("TIME")
        half_trip = (time.monotonic() - began) * 500
        samples.append((half_trip, int(seconds) * 1000 + int(micros) / 1000 - before - half_trip))
    half_trip, skew = min(samples)
    side = "ahead of" if skew > 0 else "behind"
    whose = f"that of {name}" if name else "the server's"
    found = f"{whose} is {abs(skew):.0f} ms {side} this host's, give or take {half_trip:.1f}"
    if abs(skew) - half_trip <= CLOCK_SKEW_MS_MAX:
        return Finding("clock", Level.OK, found)
    advice = "run NTP on both hosts; until then the times in their logs do not agree"
    return Finding("clock", Level.WARN, found, advice)


async def _reply(asked: Awaitable[Any]) -> Any:
    """Return the reply; None when the server does not let us ask."""
    try:
        return await asked
    except UnreachableError:
        raise
    except FabricError:
        return None


def coverage(known: Mapping[str, Facts]) -> Finding:
    """Whether the cluster serves every slot; if not, by default it refuses all commands."""
    failing = [name for name, facts in known.items() if facts.get("cluster_state") != "ok"]
    lonely = [name for name, facts in known.items() if facts.get("connected_slaves") == "0"]
    found = f"cluster of {len(known)} primaries"
    if failing:
        found += f"; {', '.join(failing)} says that its state is not ok"
        advice = "see CLUSTER NODES there: no node serves some slot, or nodes do not see each other"
        return Finding("cluster", Level.FAIL, found, advice)
    if lonely:
        then = "when it ends, its sessions stop until it is back"
        found += f"; {', '.join(lonely)} has no replica: {then}"
        return Finding("cluster", Level.WARN, found, "give each primary a replica")
    return Finding("cluster", Level.OK, f"{found}, each with a replica; all slots are served")


def known_holes(known: Facts) -> Finding:
    """Whether the server's version has a hole through which a client runs code of its own in it."""
    check = "known holes"
    build = parse(known.version)
    if build is None:
        return Finding(check, Level.UNKNOWN, "not known: INFO does not name redis or valkey")
    if holes := open_holes(build):
        found = f"{build} has {', '.join(holes)}, by its number"
        advice = (
            "upgrade it, unless its distribution or vendor has mended that number: through these, "
            "an agent that may run scripts can take over the server"
        )
        return Finding(check, Level.WARN, found, advice)
    return Finding(check, Level.OK, f"{build} has none of {', '.join(HOLES)}")


def eviction(known: Facts) -> Finding:
    """Whether the server may evict state: only noeviction will do, even without a memory limit."""
    policy = known.get("maxmemory-policy")
    if policy is None:
        advice = "make sure that maxmemory-policy is noeviction"
        return Finding("eviction", Level.UNKNOWN, _NOT_KNOWN, advice)
    if policy == "noeviction":
        return Finding("eviction", Level.OK, "noeviction")
    found = f"maxmemory-policy is {policy}, which may delete any state"
    advice = f"CONFIG SET maxmemory-policy noeviction, {_FILE_TOO}"
    return Finding("eviction", Level.FAIL, found, advice)


def memory(known: Facts) -> Finding:
    """Whether memory runs out. A full server refuses writes: emitters wait, nothing is lost."""
    limit, used = known.get("maxmemory"), known.get("used_memory")
    if limit is None or used is None:
        return Finding("memory", Level.UNKNOWN, _NO_INFO)
    if limit == "0":
        return Finding("memory", Level.OK, f"{_megabytes(used)} MB used, no limit (maxmemory 0)")
    found = f"{_megabytes(used)} of {_megabytes(limit)} MB used"
    if int(used) <= MEMORY_SHARE_MAX * int(limit):
        return Finding("memory", Level.OK, found)
    found += "; when it is full, the server refuses every signal"
    advice = "raise maxmemory, or delete sessions that are finished"
    return Finding("memory", Level.WARN, found, advice)


def persistence(known: Facts) -> Finding:
    """What would be lost if the server ended now (redis.io, "Redis persistence")."""
    said, sync = known.get("appendonly") or known.get("aof_enabled"), known.get("appendfsync")
    is_appended = said in ("yes", "1")
    level, advice = Level.WARN, f"CONFIG SET appendonly yes, {_FILE_TOO}"
    if not is_appended and said not in ("no", "0"):
        level, found, advice = Level.UNKNOWN, _NOT_KNOWN, ""
    elif is_appended and known.get("aof_last_write_status") == "err":
        level, found = Level.FAIL, "the append-only file could not be written"
        advice = "see the server's log"
    elif is_appended and sync in _LOST:
        level, advice = Level.OK, ""
        found = f"append-only file, appendfsync {sync or 'not known'}: {_LOST[sync]}"
    elif is_appended:
        lost = "a crash of its host loses what the system had not written yet, some 30 seconds"
        found = f"append-only file, appendfsync no: {lost}"
        advice = "CONFIG SET appendfsync everysec"
    elif (save := known.get("save")) == "":
        lost = (
            "every session, signal, lock and lease epoch is lost, and agents go on without knowing"
        )
        found = f"NONE: whenever the server ends, {lost}"
    else:
        unknown = "no append-only file, and whether it snapshots is not known"
        now_s = int(known.get("server_time_usec") or 0) // 1_000_000
        age = max(0, now_s - int(known.get("rdb_last_save_time") or now_s))
        lost = f"everything since the last snapshot ({age} s ago) is lost"
        found = f"{'snapshots only' if save else unknown}: if the server ends now, {lost}"
        found += "; epochs too, so partitions may have to be re-seeded"
    return Finding("persistence", level, found, advice)


def replication(known: Facts) -> Finding:
    """Whether a failover may lose writes that no replica had received."""
    role, replicas = known.get("role"), known.get("connected_slaves") or "0"
    least = known.get("min-replicas-to-write")
    if role is None:
        return Finding("replication", Level.UNKNOWN, _NO_INFO)
    if role != "master":
        found = "this server is a replica, and takes no writes"
        return Finding("replication", Level.FAIL, found, "give the fabric its primary's URL")
    if replicas == "0":
        found = "no replicas, so none can take over without some of the data"
        return Finding("replication", Level.OK, found)
    if least not in ("0", None):
        return Finding("replication", Level.OK, f"{replicas} replicas, writes need {least}")
    lost = "a failover loses what no replica had"
    found = f"{replicas} replicas, and writes need none of them: {lost}"
    return Finding("replication", Level.WARN, found, "CONFIG SET min-replicas-to-write 1")


def clients(known: Facts, partitions: int) -> Finding:
    """How large a fleet the server has connections for. For information."""
    limit, connected = known.get("maxclients"), known.get("connected_clients") or "0"
    if limit is None:
        return Finding("connections", Level.UNKNOWN, _NOT_KNOWN)
    workers = 2 * (WORKER_CONNECTIONS + PARTITION_CONNECTIONS * partitions)
    room = max(0, int(limit) - workers) // AGENT_CONNECTIONS
    left = f"which leaves room for {room} agents with a process each"
    found = f"{connected} of {limit} in use; two workers need {workers}, {left}"
    return Finding("connections", Level.OK, found)


def _megabytes(count: str) -> int:
    return int(count) // 1_000_000
