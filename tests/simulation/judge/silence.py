"""An agent that has sent something, or could not be heard, is not declared dead.

Silence is measured in the log's time, which stands still while no worker decides: a waiting signal
that is older than the decision was overlooked; a newer one came after it. The time in which nobody
could commit for longer than a lease is no silence either.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.store.keys import ORCHESTRATORS
from fabric.store.port import Lease
from fabric.wire.record import OUTAGE_TYPE
from fabric.wire.stored import fields_of
from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation

#: A worker cannot know what arrives between its last read and the end of its commit: the duration
#: of slow requests and replies, ms. For a frozen worker its lease is added.
UNDER_WAY_MS = 20_000


class Silence(Judge):
    """Looks for a waiting signal of an agent when a timer declares the agent dead."""

    def __init__(self, lease_ms: int) -> None:
        self._unknown_ms = lease_ms + UNDER_WAY_MS

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        if commit.lease.group != ORCHESTRATORS or not commit.waiting:
            return
        for session, changes in commit.hashes("agents"):
            for name, value in changes.items():
                agent = msgspec.json.decode(value) if value is not None else {}
                if _is_silent_death(agent):
                    self._look(commit, session, name, agent["incarnation"], _decided_ms(commit))

    def _look(
        self, commit: Commit, session: str, name: str, incarnation: int, decided_ms: int
    ) -> None:
        sender = session.encode(), name.encode(), b"%d" % incarnation
        for entry_id, flat in commit.waiting:
            fields = fields_of(flat)
            said = fields.get(b"session"), fields.get(b"emitter"), fields.get(b"incarnation")
            age_ms = decided_ms - int(entry_id.partition(b"-")[0])
            if said == sender and age_ms > self._unknown_ms:
                raise Violation(
                    "who has spoken is not taken for silent",
                    f"{session}: {name} has spoken {age_ms} ms before it was declared dead",
                )


class Outages(Judge):
    """Counts the silence of an agent that is declared dead, less the outages meanwhile."""

    def __init__(self, lease_ms: int, silence_ms_min: int, *, is_told_time: bool) -> None:
        self._lease_ms = lease_ms
        self._is_told_time = is_told_time
        self._silence_ms_min = silence_ms_min
        #: Partition → when its lease was last taken, renewed, given up, or used for a commit.
        self._served_ms: dict[int, int] = {}
        #: Partition → start and end of each time in which nobody did so for longer than a lease.
        self._outages: dict[int, list[tuple[int, int]]] = {}
        #: Session → time of the last event in its log.
        self._logged_ms: dict[str, int] = {}
        #: Session and agent → time of its last signal in the log.
        self._heard_ms: dict[tuple[str, str], int] = {}

    def acquired(self, lease: Lease, now_ms: int) -> None:
        """See Judge."""
        if lease.group != ORCHESTRATORS:
            return
        served_ms = self._served_ms.get(lease.partition, now_ms)
        if now_ms - served_ms > self._lease_ms:
            self._outages.setdefault(lease.partition, []).append((served_ms, now_ms))
        self._served_ms[lease.partition] = now_ms

    def renewed(self, lease: Lease, expires_ms: int, now_ms: int) -> None:
        """See Judge."""
        if lease.group == ORCHESTRATORS:
            self._served_ms[lease.partition] = now_ms

    def lost(self, partition: int, group: str) -> None:
        """See Judge. A lease without an epoch does not tell when it was last held."""
        if group == ORCHESTRATORS:
            self._served_ms.pop(partition, None)

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        if commit.lease.group != ORCHESTRATORS:
            return
        partition = commit.lease.partition
        self._served_ms[partition] = commit.now_ms
        prefix = NAMESPACE.partition(partition).prefix
        for key, _, fields in commit.appended:
            if not key.endswith(":log"):
                continue
            session = key.removeprefix(f"{prefix}:").removesuffix(":log")
            if fields[b"type"] == OUTAGE_TYPE.encode() and self._is_told_time:
                self._count(partition, session, int(fields[b"outage_ms"]))
            self._logged_ms[session] = int(fields[b"ms"])
            if fields[b"kind"] == b"signal":
                self._hear(session, fields)
        for session, changes in commit.hashes("agents"):
            for name, value in changes.items():
                agent = msgspec.json.decode(value) if value is not None else {}
                if _is_silent_death(agent):
                    self._look(partition, session, name, _decided_ms(commit))

    def _count(self, partition: int, session: str, outage_ms: int) -> None:
        """Check that a session takes up each outage once: those since its last event."""
        last_ms = self._logged_ms.get(session, 0)
        since = [(max(start, last_ms), end) for start, end in self._outages.get(partition, ())]
        away_ms = sum(max(0, end_ms - start_ms) for start_ms, end_ms in since)
        if outage_ms > away_ms:
            raise Violation(
                "an outage counts once", f"{session}: {outage_ms} ms, nobody decided for {away_ms}"
            )

    def _hear(self, session: str, fields: dict[bytes, bytes]) -> None:
        """Note a signal, and what it announces; only a HEARTBEAT leaves that in force."""
        name = session, fields[b"emitter"].decode()
        said = msgspec.json.decode(fields.get(b"payload") or b"{}")
        heard_ms = int(fields[b"ms"]) + (said.get("expect_ms") or 0)
        if fields[b"type"] == b"HEARTBEAT":
            heard_ms = max(heard_ms, self._heard_ms.get(name, 0))
        self._heard_ms[name] = heard_ms

    def _look(self, partition: int, session: str, name: str, decided_ms: int) -> None:
        heard_ms = self._heard_ms.get((session, name))
        if heard_ms is None:
            return
        away_ms = sum(
            max(0, min(end_ms, decided_ms) - max(start_ms, heard_ms))
            for start_ms, end_ms in self._outages.get(partition, ())
        )
        silent_ms = decided_ms - heard_ms - away_ms
        if silent_ms < self._silence_ms_min:
            raise Violation(
                "an outage is no silence",
                f"{session}: {name} was silent for {silent_ms} ms, and unheard for {away_ms} more",
            )


def _is_silent_death(agent: dict[str, Any]) -> bool:
    """Whether an agent was declared dead by a timer: a person may give up any agent."""
    return agent.get("status") == "dead" and str(agent.get("error")).startswith("silent for")


def _decided_ms(commit: Commit) -> int:
    """Return the latest time in the commit's log entries."""
    return max(int(fields[b"ms"]) for key, _, fields in commit.appended if key.endswith(":log"))


class Pace(Judge):
    """Counts those that are declared dead for their silence while the question about many is open.

    Then only one is given up at a time, and the next one some time later.
    """

    def __init__(self, silence_ms_min: int) -> None:
        self._pause_ms = silence_ms_min
        #: Session → ids of its open questions about many silent agents.
        self._open: dict[str, set[str]] = {}
        #: Session → when the last one was given up while such a question was open.
        self._last_ms: dict[str, int] = {}
        #: Session, agent and incarnation of the dead: a record can change after the death.
        self._dead: set[tuple[str, str, int]] = set()

    def _has_died(self, session: str, name: str, value: bytes | None) -> bool:
        agent = msgspec.json.decode(value) if value is not None else {}
        who = session, name, agent.get("incarnation", 0)
        if not _is_silent_death(agent) or who in self._dead:
            return False
        self._dead.add(who)
        return True

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        if commit.lease.group != ORCHESTRATORS:
            return
        before = {session: set(names) for session, names in self._open.items()}
        for session, changes in commit.hashes("escalations"):
            for name, value in changes.items():
                asked = msgspec.json.decode(value) if value is not None else {}
                is_open = asked.get("subject") == "mass_silence" and asked["state"] == "open"
                known = self._open.setdefault(session, set())
                (known.add if is_open else known.discard)(name)
        for session, changes in commit.hashes("agents"):
            deaths = sum(self._has_died(session, *change) for change in changes.items())
            if not deaths or not before.get(session) or self._open[session] != before[session]:
                continue
            # A timer decides at the time of its event, which is that of its log entries.
            now_ms, last_ms = _decided_ms(commit), self._last_ms.get(session)
            self._last_ms[session] = now_ms
            if deaths > 1 or (last_ms is not None and now_ms - last_ms < self._pause_ms):
                raise Violation(
                    "many are given up one by one", f"{session}: {deaths}, {now_ms} after {last_ms}"
                )
