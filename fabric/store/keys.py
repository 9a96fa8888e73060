"""The names of all keys, built in one place. They are a public contract (docs/protocol.md, Keys).

A partition's keys have its number in braces as the hash tag (`fabric:{0}:signals`), so everything
that one commit writes is in one Cluster slot.
"""

from __future__ import annotations

import zlib
from typing import Final

#: Consumer groups, one per kind of worker. The group's position is what has been committed.
ORCHESTRATORS = "orchestrators"
SYNTHESIZERS = "synthesizers"

#: Field of a lease: the id of the last input entry that has taken effect.
COMMITTED: Final = "committed"

#: Fields of the orchestrators' lease: what sessions that were deleted can have handed out at most.
TOKEN_FLOOR: Final = "token_floor"  # noqa: S105 - a fencing token, and no secret
INCARNATION_FLOOR: Final = "incarnation_floor"
FLOORS: Final = (TOKEN_FLOOR, INCARNATION_FLOOR)

#: Field of the lease: every session's tokens go on above it. The server may have gone back, and
#: tokens that it has forgotten are still in use.
TOKEN_EPOCH: Final = "token_epoch"  # noqa: S105 - a fencing token, and no secret
HANDED_OUT: Final = (*FLOORS, TOKEN_EPOCH)


def partition_of(session: str, partitions: int) -> int:
    """Return the partition of a session: CRC-32 of its name, modulo the number of partitions.

    CRC-32 because every language and shell has it.
    """
    return zlib.crc32(session.encode()) % partitions


class Namespace:
    """Names of keys that belong to no partition."""

    __slots__ = ("_partitions", "meta", "name")

    def __init__(self, name: str = "fabric") -> None:
        self.name: Final = name
        #: Hash: number of partitions, version of the layout, which epochs were ever seeded.
        self.meta: Final = f"{name}:meta"
        self._partitions: dict[int, Partition] = {}

    def replicas(self, group: str) -> str:
        """Sorted set: live replicas of a group of workers, by expiry in ms."""
        return f"{self.name}:replicas:{group}"

    def workers(self, group: str) -> str:
        """Hash: worker of a group → what it says of itself, as JSON."""
        return f"{self.name}:workers:{group}"

    def workspace(self, name: str) -> str:
        """Stream: the session that works in a copy of the files, `HOST:TOP`, by its last entry."""
        return f"{self.name}:workspace:{name}"

    def partition(self, number: int) -> Partition:
        """Return the names within a partition."""
        found = self._partitions.get(number)
        if found is None:
            found = self._partitions[number] = Partition(f"{self.name}:{{{number}}}", number)
        return found


class Partition:
    """Names of keys of one partition."""

    __slots__ = ("dead", "deadlines", "number", "prefix", "results", "sessions", "signals")

    def __init__(self, prefix: str, number: int) -> None:
        self.prefix: Final = prefix
        self.number: Final = number
        #: Stream: signals to process (the ingress).
        self.signals: Final = f"{prefix}:signals"
        #: Stream: results for the synthesizer to fold.
        self.results: Final = f"{prefix}:results"
        #: Stream: refused signals, with the reason.
        self.dead: Final = f"{prefix}:dead"
        #: Sorted set: session by last activity, ms.
        self.sessions: Final = f"{prefix}:sessions"
        #: Sorted set: timers of the orchestrators by due time, ms.
        self.deadlines: Final = f"{prefix}:deadlines"

    def timers(self, group: str) -> str:
        """Sorted set: timers of a group of workers. The orchestrators' has the short name."""
        return self.deadlines + ("" if group == ORCHESTRATORS else f":{group}")

    def lease(self, group: str) -> str:
        """Hash: which worker serves this partition. The orchestrators' has the short name."""
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

    def reader(self, stream: str) -> str | None:
        """Return the group of workers that reads a stream; None if it is no input of workers."""
        return {self.signals: ORCHESTRATORS, self.results: SYNTHESIZERS}.get(stream)

    def keeper(self, stream: str) -> str:
        """Return the group of workers that replaces a stream which takes no new entries."""
        is_revisions = stream == self.session(self.session_of(stream) or "").revisions
        return SYNTHESIZERS if is_revisions else ORCHESTRATORS

    def bound(self, stream: str) -> tuple[str, str]:
        """Return the hash, and its field, that says which entries of a stream are the fabric's.

        The field `committed` is an id: what comes after it is still to be read. Any other is the
        number up to which the fabric has written. A stream without a bound has the field "".
        """
        group = self.reader(stream)
        if group is not None:
            return self.lease(group), COMMITTED
        name = self.session_of(stream)
        if name is None:
            return self.lease(ORCHESTRATORS), ""
        keys = self.session(name)
        return (keys.synthesis, "revision") if stream == keys.revisions else (keys.meta, "log")

    def aside(self, stream: str) -> str:
        """Stream: what was there before a worker replaced it. No session has an empty name."""
        return f"{self.prefix}::aside:{stream.removeprefix(f'{self.prefix}:')}"

    def copy(self, stream: str) -> str:
        """Stream: what replaces another one, while it grows."""
        return f"{self.prefix}::copy:{stream.removeprefix(f'{self.prefix}:')}"

    def session(self, name: str) -> SessionKeys:
        """Return the names within a session."""
        return SessionKeys(f"{self.prefix}:{name}", name)


class SessionKeys:
    """Names of keys of one session."""

    __slots__ = (
        *("agents", "barriers", "broadcast", "claims", "cursors", "dependencies", "escalations"),
        *(
            "incarnations",
            "lease",
            "log",
            "meta",
            "name",
            "prefix",
            "retired",
            "revisions",
            "roster",
        ),
        *("synthesis", "tasks", "written"),
    )

    def __init__(self, prefix: str, name: str) -> None:
        self.prefix: Final = prefix
        self.name: Final = name
        #: Hash: which worker serves the session's partition.
        self.lease: Final = f"{prefix.removesuffix(f':{name}')}:lease"
        #: Stream: every accepted signal and every decision.
        self.log: Final = f"{prefix}:log"
        #: Stream: messages to all agents.
        self.broadcast: Final = f"{prefix}:broadcast"
        #: Hash: number of signals in the log, the session's clock, when it was opened.
        self.meta: Final = f"{prefix}:meta"
        #: Hash: agent → JSON.
        self.agents: Final = f"{prefix}:agents"
        #: Hash: task → JSON.
        self.tasks: Final = f"{prefix}:tasks"
        #: Hash: dependency → JSON.
        self.dependencies: Final = f"{prefix}:dependencies"
        #: Hash: claim → JSON; the resources that agents hold or wait for.
        self.claims: Final = f"{prefix}:claims"
        #: Hash: barrier → JSON.
        self.barriers: Final = f"{prefix}:barriers"
        #: Hash: question → JSON; open and decided.
        self.escalations: Final = f"{prefix}:escalations"
        #: Hash: agent → id of the last message it has read.
        self.cursors: Final = f"{prefix}:cursors"
        #: Hash: agent that is no longer kept → JSON: its last incarnation.
        self.retired: Final = f"{prefix}:retired"
        #: Hash: path → JSON: the copies of the files that it was written in.
        self.written: Final = f"{prefix}:written"
        #: Hash: agent that the run expects → JSON: whether it has come.
        self.roster: Final = f"{prefix}:roster"
        #: Hash: agent → last incarnation handed out.
        self.incarnations: Final = f"{prefix}:incarnations"
        #: Hash: the current synthesis in parts: `<section>:<name>` → JSON.
        self.synthesis: Final = f"{prefix}:synthesis"
        #: Stream: the revisions of the synthesis, each a JSON Patch; the n-th has the id `n-0`.
        self.revisions: Final = f"{prefix}:revisions"

    def inbox(self, agent: str) -> str:
        """Stream: messages to one agent."""
        return f"{self.prefix}:inbox:{agent}"

    def lock(self, resource: str) -> str:
        """Hash: holder of a resource, its fencing token, since when, until when."""
        return f"{self.prefix}:lock:{resource}"

    def queue(self, resource: str) -> str:
        """Sorted set: agents that wait for a resource, the next one first."""
        return f"{self.prefix}:queue:{resource}"

    def barrier(self, name: str) -> str:
        """Hash: generation, leader, members, deadline and state of a barrier."""
        return f"{self.prefix}:barrier:{name}"

    def arrived(self, name: str) -> str:
        """Sorted set: members that have arrived at a barrier, by time in ms."""
        return f"{self.prefix}:arrived:{name}"

    def said(self, agent: str) -> str:
        """Sorted set, by name: the parts of the synthesis that an agent has contributed to."""
        return f"{self.prefix}:said:{agent}"
