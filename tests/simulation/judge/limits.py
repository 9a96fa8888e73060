"""Nobody is heard more often than the rules allow, nor in endless replies, nor while kept out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from fabric.core.admission import PARTING
from fabric.core.rules import Rules
from fabric.store.keys import ORCHESTRATORS
from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation

#: Signals that no limit stops, as the log has them.
_PARTING = frozenset(kind.value.encode() for kind in PARTING)

AT_WORK = ("active", "blocked", "paused")

#: Session and agent.
_Who = tuple[str, str]


class Limits(Judge):
    """Counts the signals of each agent in each second of its session's log."""

    def __init__(self, rules: Rules) -> None:
        self._hops_max = rules.hops_max
        # The first signals of an agent do not count where the rules allow as many a second.
        self._rate = rules.signals_per_second_max if rules.signals_per_second_max < 1_000 else 0
        #: Agent → its incarnation: the signal that begins one does not count.
        self._begun: dict[_Who, int] = {}
        self._seconds: dict[_Who, int] = {}
        self._counts: Counter[_Who] = Counter()
        #: Session and question → its state.
        self._questions: dict[tuple[str, str], str] = {}
        #: Agent → its incarnation, and the question that keeps it out.
        self._kept_out: dict[_Who, tuple[int, str]] = {}

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        if commit.lease.group != ORCHESTRATORS:
            return
        prefix = f"{NAMESPACE.partition(commit.lease.partition).prefix}:"
        for key, _, fields in commit.appended:
            if key.endswith(":log") and fields[b"kind"] == b"signal":
                self._hear(key.removeprefix(prefix).removesuffix(":log"), fields)
        before = dict(self._questions)
        for session, changes in commit.hashes("escalations"):
            for name, value in changes.items():
                asked = msgspec.json.decode(value) if value is not None else {}
                self._questions[session, name] = asked.get("state", "")
        for session, changes in commit.hashes("agents"):
            for name, value in changes.items():
                if value is not None:
                    self._look((session, name), msgspec.json.decode(value), before)

    def _hear(self, session: str, fields: dict[bytes, bytes]) -> None:
        who = session, fields[b"emitter"].decode()
        number = int(fields.get(b"incarnation", b"0") or 0)
        is_first = who not in self._begun or number > self._begun[who]
        self._begun[who] = max(number, self._begun.get(who, 0))
        if fields[b"type"] in _PARTING:
            return
        if int(fields.get(b"hops", b"0") or 0) >= self._hops_max:
            raise Violation("replies to replies have an end", f"{who}: {fields}")
        if is_first or fields[b"type"] == b"STARTED" or not self._rate:
            return
        second = int(fields[b"ms"]) // 1000
        self._counts[who] = self._counts[who] + 1 if self._seconds.get(who) == second else 1
        self._seconds[who] = second
        if self._counts[who] > self._rate:
            raise Violation(
                "nobody is heard too often", f"{who}: {self._counts[who]} signals in a second"
            )

    def _look(self, who: _Who, agent: dict[str, Any], before: dict[tuple[str, str], str]) -> None:
        """Check that nobody begins anew while a person is asked whether it may."""
        number, question = self._kept_out.get(who, (0, ""))
        is_asked = question and before.get((who[0], question)) == "open"
        is_still = is_asked and self._questions.get((who[0], question)) == "open"
        if is_still and agent["incarnation"] > number and agent["status"] in AT_WORK:
            raise Violation("who keeps dying has to be let in", f"{who}: {agent}")
        self._kept_out[who] = agent["incarnation"], agent.get("breaker", "")
