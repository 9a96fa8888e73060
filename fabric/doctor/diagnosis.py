"""How it stands with a server: what INFO and CONFIG say, and what that means for the fabric.

What a managed server does not let us ask is "not known", which is no failure. Everything here is a
pure reading of what was asked in `inspect.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: Share of maxmemory in use above which it is time to act: emitters are refused at 1.
MEMORY_SHARE_MAX: Final = 0.8

#: Connections of an agent that is a process of its own: calls, signals, inbox.
AGENT_CONNECTIONS: Final = 3

#: Connections of a worker process, and more of them for each partition it serves.
WORKER_CONNECTIONS: Final = 1
PARTITION_CONNECTIONS: Final = 3

#: Settings that CONFIG GET is asked for, one at a time: before 7.0 it takes no more.
SETTINGS: Final = (
    "maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "save", "maxclients",
    "min-replicas-to-write",
)  # fmt: skip


class Level(StrEnum):
    """How it stands with one thing."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    #: The server does not let us ask.
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, how it stands, what was found, and what to do about it."""

    check: str
    level: Level
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of itself, as far as it lets us ask: INFO, and CONFIG GET."""

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


def coverage(known: Mapping[str, Facts]) -> Finding:
    """A cluster that does not serve every slot refuses everything, unless told otherwise."""
    failing = [name for name, facts in known.items() if facts.get("cluster_state") != "ok"]
    lonely = [name for name, facts in known.items() if facts.get("connected_slaves") == "0"]
    found = f"cluster of {len(known)} primaries"
    if failing:
        return Finding(
            "cluster", Level.FAIL, f"{found}; state is not ok as {', '.join(failing)} sees it",
            "see CLUSTER NODES there: a slot is served by nobody, or nodes do not see each other",
        )  # fmt: skip
    if lonely:
        return Finding(
            "cluster", Level.WARN, f"{found}; no replica of {', '.join(lonely)}: when it ends, its "
            "sessions stand still until it is back", "give each primary a replica",
        )  # fmt: skip
    return Finding("cluster", Level.OK, f"{found}, each with a replica; all slots are served")


def eviction(known: Facts) -> Finding:
    """Evicted state is lost state: only noeviction will do, even without a limit in force now."""
    policy = known.get("maxmemory-policy")
    if policy is None:
        return Finding(
            "eviction", Level.UNKNOWN, "not known: neither INFO nor CONFIG tells",
            "see to it that maxmemory-policy is noeviction",
        )  # fmt: skip
    if policy == "noeviction":
        return Finding("eviction", Level.OK, "noeviction")
    return Finding(
        "eviction", Level.FAIL, f"maxmemory-policy is {policy}, which may delete any state",
        "CONFIG SET maxmemory-policy noeviction, and the same in the server's configuration file",
    )  # fmt: skip


def memory(known: Facts) -> Finding:
    """With noeviction a full server refuses writes: emitters wait, nothing is lost."""
    limit, used = known.get("maxmemory"), known.get("used_memory")
    if limit is None or used is None:
        return Finding("memory", Level.UNKNOWN, "not known: INFO is not permitted")
    if limit == "0":
        return Finding("memory", Level.OK, f"{_megabytes(used)} MB used, no limit (maxmemory 0)")
    found = f"{_megabytes(used)} of {_megabytes(limit)} MB used"
    if int(used) <= MEMORY_SHARE_MAX * int(limit):
        return Finding("memory", Level.OK, found)
    return Finding(
        "memory", Level.WARN, f"{found}; when it is full, no signal is taken any more",
        "raise maxmemory, or delete sessions that are done with",
    )  # fmt: skip


def persistence(known: Facts, now_s: int) -> Finding:
    """What would be lost if the server ended now (redis.io, "Redis persistence")."""
    sync, save = known.get("appendfsync"), known.get("save")
    aof = {"yes": True, "no": False, "1": True, "0": False}.get(
        known.get("appendonly") or known.get("aof_enabled") or ""
    )
    check = "persistence"
    advice = "CONFIG SET appendonly yes, and the same in the server's configuration file"
    if aof is None:
        return Finding(check, Level.UNKNOWN, "not known: neither INFO nor CONFIG tells")
    if aof and known.get("aof_last_write_status") == "err":
        return Finding(
            check, Level.FAIL, "the append-only file could not be written", "see the server's log"
        )
    if aof and sync in ("always", "everysec", None):
        lost = {
            "always": "nothing that was acknowledged is lost",
            "everysec": "a crash of its host loses the last second or two, its own nothing",
        }.get(sync or "", "how much a crash loses is not known (appendfsync)")
        return Finding(
            check, Level.OK, f"append-only file, appendfsync {sync or 'not known'}: {lost}"
        )
    if aof:
        lost = "a crash of its host loses what the system had not written, some 30 seconds"
        return Finding(
            check,
            Level.WARN,
            f"append-only file, appendfsync no: {lost}",
            "CONFIG SET appendfsync everysec",
        )
    if save == "":
        return Finding(
            check, Level.WARN, "NONE: whenever the server ends, every session, signal, lock and "
            "lease epoch is lost, and agents go on without knowing", advice,
        )  # fmt: skip
    age = max(0, now_s - int(known.get("rdb_last_save_time") or now_s))
    kept = (
        "snapshots only" if save else "no append-only file, and whether it snapshots is not known"
    )
    return Finding(
        check, Level.WARN, f"{kept}: if the server ends now, all since the last snapshot "
        f"({age} s ago) is lost; epochs too, so partitions may have to be re-seeded", advice,
    )  # fmt: skip


def replication(known: Facts) -> Finding:
    """A failover forgets what the replica had not heard of."""
    role, replicas = known.get("role"), known.get("connected_slaves") or "0"
    least = known.get("min-replicas-to-write")
    if role is None:
        return Finding("replication", Level.UNKNOWN, "not known: INFO is not permitted")
    if role != "master":
        return Finding(
            "replication", Level.FAIL, "this server is a replica, and takes no writes",
            "give the fabric its primary's URL",
        )  # fmt: skip
    if replicas == "0":
        return Finding(
            "replication", Level.OK, "no replicas: none can take over with less than all"
        )
    if least not in ("0", None):
        return Finding("replication", Level.OK, f"{replicas} replicas, writes need {least}")
    return Finding(
        "replication", Level.WARN,
        f"{replicas} replicas, and writes go on without any: a failover loses what had not arrived",
        "CONFIG SET min-replicas-to-write 1",
    )  # fmt: skip


def clients(known: Facts, partitions: int) -> Finding:
    """How large a fleet the connections are enough for. For information."""
    limit, connected = known.get("maxclients"), known.get("connected_clients") or "0"
    if limit is None:
        return Finding("connections", Level.UNKNOWN, "not known: neither INFO nor CONFIG tells")
    workers = 2 * (WORKER_CONNECTIONS + PARTITION_CONNECTIONS * partitions)
    room = max(0, int(limit) - workers) // AGENT_CONNECTIONS
    return Finding(
        "connections", Level.OK,
        f"{connected} of {limit} in use; two workers need {workers}, which leaves room for {room} "
        "agents with a process each",
    )  # fmt: skip


def _megabytes(count: str) -> int:
    return int(count) // 1_000_000
