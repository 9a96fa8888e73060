"""Questions: their deadlines are kept, and an asker is told whom a question goes to instead."""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.store.keys import ORCHESTRATORS, SessionKeys
from fabric.testing.store import MemoryStore
from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation

#: A timer is late by no more than this when nothing is wrong, ms.
LATE_MS = 5_000

AT_WORK = ("active", "blocked", "paused")

#: A record, as it is stored.
_Record = dict[str, Any]


class Questions(Judge):
    """Compares each change of a question with what the agents concerned are told in the commit."""

    def __init__(self, grace_ms: int) -> None:
        self._grace_ms = grace_ms
        #: Session → when its digest was asked or renewed last, ms.
        self._digests: dict[str, int] = {}
        #: Session and id → the question; session and name → the agent.
        self._questions: dict[tuple[str, str], _Record] = {}
        self._agents: dict[tuple[str, str], _Record] = {}

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        if commit.lease.group != ORCHESTRATORS:
            return
        agents = dict(self._agents)
        for session, changes in commit.hashes("agents"):
            _note(self._agents, session, changes)
        for session, changes in commit.hashes("escalations"):
            before = {name: self._questions.get((session, name), {}) for name in changes}
            _note(self._questions, session, changes)
            for name in changes:
                now = self._questions.get((session, name), {})
                if now:
                    self._look_at_addressee(commit, session, name, before[name], now)
                self._look_at_grace(commit, session, name, before[name], now)
                if before[name].get("deadline_ms") and before[name]["cause"] == now.get("cause"):
                    self._look_at_deadline(commit, session, name, before[name], now, agents)

    def _look_at_addressee(
        self, commit: Commit, session: str, name: str, before: _Record, now: _Record
    ) -> None:
        """Check that the asker is told when a person is asked in place of an agent."""
        is_same = before.get("cause") == now["cause"]
        asked = before if is_same else _asked(commit, session, now["cause"])
        if asked.get("to") and not now.get("to") and now["state"] == "open":
            told = _told(commit, session, now["asker"], "ESCALATE")
            if not any(one.get("id") == name for one in told):
                raise Violation(
                    "who asks is told that nobody is there", f"{session}: {name} was for {asked}"
                )

    def _look_at_grace(
        self, commit: Commit, session: str, name: str, before: _Record, now: _Record
    ) -> None:
        """Check that a contradiction is named when its grace time is over, and none that is closed.

        And that the question that names them does not come more often than that.
        """
        at_ms = max((int(one[b"ms"]) for _, _, one in _logged(commit, session)), default=0)
        if now.get("digest") and now["digest"] != before.get("digest"):
            is_closed = before.get("state") == "decided" and before["cause"] == now["cause"]
            if at_ms < now["named_ms"] or is_closed:
                raise Violation("agents have a grace time", f"{session}: {name} at {at_ms}: {now}")
        is_new = now.get("subject") == "digest" and now["cause"] != before.get("cause")
        if is_new and now["state"] == "open":
            if at_ms < self._digests.get(session, 0) + self._grace_ms:
                raise Violation("one question a grace time", f"{session}: {name} at {at_ms}")
            self._digests[session] = at_ms

    def _look_at_deadline(
        self,
        commit: Commit,
        session: str,
        name: str,
        before: _Record,
        now: _Record,
        agents: dict[tuple[str, str], _Record],
    ) -> None:
        """Check that a deadline ends the waits, by the asker's default, and not too early."""
        is_answered = now["state"] == "decided" and now.get("by") == "ORCHESTRATOR"
        is_over = now["state"] == "open" and not now.get("deadline_ms")
        if not is_answered and not is_over:
            return
        times = [int(fields[b"ms"]) for key, _, fields in _logged(commit, session)]
        if max(times) < before["deadline_ms"]:
            raise Violation("deadlines are kept", f"{session}: {name} too early: {now}")
        if now.get("decision", "") != before.get("default", ""):
            raise Violation("deadlines are kept", f"{session}: {name} is decided otherwise: {now}")
        if is_answered or commit.consumed:
            return  # another event of a larger batch may have ended a wait
        for who in dict.fromkeys([before["asker"], *before.get("waiting", [])]):
            agent = agents.get((session, who), {})
            if name not in agent.get("asks", []) or agent["status"] not in AT_WORK:
                continue
            told = _told(commit, session, who, "CANCEL")
            is_freed = name not in self._agents[session, who].get("asks", [])
            if not is_freed or all(one.get("escalation") != name for one in told):
                raise Violation("a deadline ends the waits", f"{session}: {who} for {name}")


async def check_questions(
    store: MemoryStore, keys: SessionKeys, now_ms: int, grace_ms: int
) -> None:
    """Check, some time after all faults, that no deadline has passed unseen, and no wait either.

    Nor a contradiction: a digest names it within three grace times.

    A wait for an output that no agent at work is to produce is one that nobody will end: a person
    is asked about it after a grace time, once as long as it lasts.
    """
    questions, outputs, agents = (
        {name.decode(): msgspec.json.decode(value) for name, value in found.items()}
        for found in await store.hashes([keys.escalations, keys.dependencies, keys.agents])
    )
    for name, one in questions.items():
        due_ms = one.get("deadline_ms", 0)
        if one["state"] == "open" and 0 < due_ms < now_ms - LATE_MS:
            raise Violation("deadlines are kept", f"{keys.name}: {name} since {due_ms}: {one}")
        late_ms = one.get("named_ms", now_ms) + 2 * grace_ms + LATE_MS
        if one["state"] == "open" and not one.get("digest") and late_ms < now_ms:
            raise Violation("contradictions are named", f"{keys.name}: {name}: {one}")
        named = [
            other
            for other in questions.values()
            if (other["state"], other.get("digest")) == ("open", name)
        ]
        if (one["state"], one.get("subject")) == ("open", "digest") and not named:
            raise Violation("a digest that names nothing is closed", f"{keys.name}: {name}: {one}")
    at_work = {name for name, one in agents.items() if one["status"] in AT_WORK}
    for name, one in outputs.items():
        is_endless = one.get("waiters") and at_work.isdisjoint(one.get("producers", []))
        if not is_endless or one.get("status") == "resolved" or one.get("question"):
            continue
        if one.get("report_ms", 0) < now_ms - LATE_MS:
            raise Violation("endless waits are named", f"{keys.name}: {name}: {one}")


def _note(known: dict[tuple[str, str], _Record], session: str, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        known.pop((session, name), None)
        if value is not None:
            known[session, name] = msgspec.json.decode(value)


def _logged(commit: Commit, session: str) -> list[tuple[str, bytes, dict[bytes, bytes]]]:
    log = NAMESPACE.partition(commit.lease.partition).session(session).log
    return [one for one in commit.appended if one[0] == log]


def _asked(commit: Commit, session: str, cause: str) -> _Record:
    """Return the payload of the ESCALATE that has asked; {} for the fabric's own questions."""
    for _, entry_id, fields in _logged(commit, session):
        if entry_id.decode() == cause and fields[b"kind"] == b"signal":
            payload: _Record = msgspec.json.decode(fields[b"payload"])
            return payload
    return {}


def _told(commit: Commit, session: str, name: str, kind: str) -> list[_Record]:
    """Return the payloads of one type of messages that an agent gets in a commit."""
    inbox = NAMESPACE.partition(commit.lease.partition).session(session).inbox(name)
    return [
        msgspec.json.decode(fields[b"payload"])
        for key, _, fields in commit.appended
        if key == inbox and fields[b"type"] == kind.encode()
    ]
