"""Every key name there is, built in one place: a public contract for redis-cli (design, section 4).

`{p}` is the partition and the hash tag: all that one commit writes lies in one Cluster slot.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

#: Consumer groups, one per kind of worker: the group's position is what has been committed.
ORCHESTRATORS = "orchestrators"
SYNTHESIZERS = "synthesizers"


def partition_of(session: str, partitions: int) -> int:
    """Return the partition of a session: CRC-32 of its name, modulo the number of partitions.

    CRC-32 because every language and shell has it.
    """
    return zlib.crc32(session.encode()) % partitions


@dataclass(frozen=True, slots=True)
class Namespace:
    """Names of keys that belong to no partition."""

    name: str = "fabric"

    @property
    def meta(self) -> str:
        """Hash: number of partitions, layout version, which epochs were ever seeded."""
        return f"{self.name}:meta"

    def replicas(self, group: str) -> str:
        """Sorted set: live replicas of a group of workers, by expiry in ms."""
        return f"{self.name}:replicas:{group}"

    def partition(self, number: int) -> Partition:
        """Return the names within a partition."""
        return Partition(f"{self.name}:{{{number}}}", number)


@dataclass(frozen=True, slots=True)
class Partition:
    """Names of keys of one partition."""

    prefix: str
    number: int

    @property
    def signals(self) -> str:
        """Stream: ingress."""
        return f"{self.prefix}:signals"

    @property
    def results(self) -> str:
        """Stream: what the synthesizer folds."""
        return f"{self.prefix}:results"

    @property
    def dead(self) -> str:
        """Stream: refused signals, with the reason."""
        return f"{self.prefix}:dead"

    @property
    def sessions(self) -> str:
        """Sorted set: session by last activity, ms."""
        return f"{self.prefix}:sessions"

    @property
    def deadlines(self) -> str:
        """Sorted set: timers by due time, ms."""
        return f"{self.prefix}:deadlines"

    def timers(self, group: str) -> str:
        """Sorted set: timers of a group of workers. The orchestrators' has the short name."""
        return self.deadlines + ("" if group == ORCHESTRATORS else f":{group}")

    def lease(self, group: str) -> str:
        """Hash: who reads this partition. The orchestrators' has the short name."""
        return f"{self.prefix}:lease" + ("" if group == ORCHESTRATORS else f":{group}")

    def source(self, group: str) -> str:
        """Return the stream that a group of workers reads."""
        return self.signals if group == ORCHESTRATORS else self.results

    def session_of(self, key: str) -> str | None:
        """Return the session that a key belongs to; None for a key of the partition itself."""
        if key in (self.lease(SYNTHESIZERS), self.timers(SYNTHESIZERS)):
            return None
        name, separator, _ = key.removeprefix(f"{self.prefix}:").partition(":")
        return name if separator else None

    def session(self, name: str) -> SessionKeys:
        """Return the names within a session."""
        return SessionKeys(f"{self.prefix}:{name}", name)


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Names of keys of one session."""

    prefix: str
    name: str

    @property
    def log(self) -> str:
        """Stream: every accepted signal and every decision."""
        return f"{self.prefix}:log"

    @property
    def broadcast(self) -> str:
        """Stream: messages to all agents."""
        return f"{self.prefix}:broadcast"

    def inbox(self, agent: str) -> str:
        """Stream: messages to one agent."""
        return f"{self.prefix}:inbox:{agent}"

    @property
    def meta(self) -> str:
        """Hash: how many signals the log holds, the session's clock, when it was opened."""
        return f"{self.prefix}:meta"

    @property
    def agents(self) -> str:
        """Hash: agent → JSON."""
        return f"{self.prefix}:agents"

    @property
    def tasks(self) -> str:
        """Hash: task → JSON."""
        return f"{self.prefix}:tasks"

    @property
    def dependencies(self) -> str:
        """Hash: dependency → JSON."""
        return f"{self.prefix}:dependencies"

    @property
    def claims(self) -> str:
        """Hash: claim → JSON; who has asked for which resources, held and waiting."""
        return f"{self.prefix}:claims"

    def lock(self, resource: str) -> str:
        """Hash: who holds a resource, under which fencing token, since when."""
        return f"{self.prefix}:lock:{resource}"

    def queue(self, resource: str) -> str:
        """Sorted set: agents that wait for a resource, the first one next."""
        return f"{self.prefix}:queue:{resource}"

    @property
    def barriers(self) -> str:
        """Hash: barrier → JSON."""
        return f"{self.prefix}:barriers"

    def barrier(self, name: str) -> str:
        """Hash: generation, leader, members, deadline and state of a barrier."""
        return f"{self.prefix}:barrier:{name}"

    def arrived(self, name: str) -> str:
        """Sorted set: members that have arrived at a barrier, by time in ms."""
        return f"{self.prefix}:arrived:{name}"

    @property
    def escalations(self) -> str:
        """Hash: question → JSON; open and decided."""
        return f"{self.prefix}:escalations"

    @property
    def cursors(self) -> str:
        """Hash: agent → id of the last message it has read."""
        return f"{self.prefix}:cursors"

    @property
    def incarnations(self) -> str:
        """Hash: agent → incarnation last handed out."""
        return f"{self.prefix}:incarnations"

    @property
    def synthesis(self) -> str:
        """Hash: the current synthesis in parts: `<section>:<name>` → JSON."""
        return f"{self.prefix}:synthesis"

    @property
    def revisions(self) -> str:
        """Stream: the revisions of the synthesis, each a JSON Patch; the n-th has the id `n-0`."""
        return f"{self.prefix}:revisions"

    def said(self, agent: str) -> str:
        """Sorted set, by name: the parts of the synthesis that an agent has spoken of."""
        return f"{self.prefix}:said:{agent}"
