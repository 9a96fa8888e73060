"""A session in memory with its log, so that `fabric why` can be tested without a server."""

import json
from dataclasses import dataclass, field
from typing import Any

from fabric.core.event import Decision, Outcome
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.step import fire, step
from fabric.ops.replay import Replay
from fabric.ops.why.explanation import Explanation, explain, explanation_lines
from fabric.ops.why.snapshot import LogIndex, Snapshot
from fabric.store.port import Entry
from fabric.wire import record
from fabric.wire.entry import decode
from fabric.wire.stored import raw
from tests.support.keyspace import session

#: Server time at 0:00, ms.
START_MS = 1_767_123_000_000

KEYS = session("demo")


@dataclass
class LoggedSession:
    """A session, its timers and the log that it writes, entry for entry as the workers do."""

    rules: Rules = field(default_factory=Rules)
    entries: list[Entry] = field(default_factory=list)
    timers: dict[str, int] = field(default_factory=dict)
    #: Agent → the place in its inbox, as agents store it.
    cursors: dict[str, bytes] = field(default_factory=dict)
    clock_ms: int = START_MS

    def __post_init__(self) -> None:
        self.session = SessionState(name="demo")
        if self.rules != Rules():
            document = record.rules_document(self.rules)
            self.session.adopt(record.rules_digest(document), self.clock_ms, self.rules.settle_ms)
            self._write("1-0", *record.logged_rules(document, self.clock_ms))

    def at(self, seconds: float) -> None:
        """Let time pass: what is due takes effect when it is due."""
        now_ms = START_MS + round(seconds * 1000)
        while due := [(ms, timer) for timer, ms in self.timers.items() if ms <= now_ms]:
            ms, timer = min(due)
            del self.timers[timer]
            decision = fire(self.session, timer, self.rules, ms)
            if decision is not None:
                if decision.outcome is not Outcome.POSTPONED:
                    logged = record.logged_timer(timer, self.session.clock_ms)
                    self._write(f"{self.session.log}-0", *logged)
                self._follow(decision)
        self.clock_ms = now_ms

    def say(self, emitter: str, kind: str, payload: Any = None, **more: Any) -> None:
        """A signal."""
        entry = {"session": "demo", "type": kind, "emitter": emitter, **more}
        entry["payload"] = json.dumps(payload or {})
        signal = decode([str(part).encode() for pair in entry.items() for part in pair])
        decision = step(self.session, signal, self.rules, self.clock_ms)
        if decision.outcome is Outcome.REPEATED:
            return
        now_ms = self.session.clock_ms
        if decision.outcome is Outcome.REFUSED:
            logged = record.logged_refusal(signal, decision.code, decision.reason, now_ms)
        else:
            logged = record.logged_signal(signal, now_ms)
        self._write(f"{self.session.log}-0", *logged)
        self._follow(decision)

    def explain(self, agent: str) -> Explanation:
        """What is said of an agent, from the log alone."""
        replay, log_index = Replay(KEYS), LogIndex()
        for entry in self.entries:
            assert replay.take(entry)
            log_index.take(entry)
        replay.finish()
        snapshot = Snapshot(replay.session, replay.rules, log_index, self.clock_ms, self.cursors)
        return explain(snapshot, agent)

    def why(self, agent: str) -> str:
        """The same, as it is printed."""
        return "\n".join(explanation_lines(self.explain(agent)))

    def says(self, agent: str, *sentences: str) -> None:
        """See that these are said of an agent."""
        text = self.why(agent)
        for sentence in sentences:
            assert sentence in text, f"{sentence!r} is not in\n{text}"

    def says_not(self, agent: str, *sentences: str) -> None:
        """See that none of these is said of an agent."""
        text = self.why(agent)
        for sentence in sentences:
            assert sentence not in text, f"{sentence!r} is in\n{text}"

    def _follow(self, decision: Decision) -> None:
        cause = f"{self.session.log}-0"
        for number, message in enumerate(decision.messages, 1):
            logged = record.logged_message(message, cause, self.session.clock_ms)
            self._write(f"{self.session.log}-{number}", *logged)
        for timer, due_ms in decision.timers.items():
            self.timers.pop(timer, None)
            if due_ms is not None:
                self.timers[timer] = due_ms

    def _write(self, entry_id: str, form: record.Form, values: record.Values) -> None:
        flat: list[bytes] = []
        for name, value in zip(form, values, strict=True):
            for item in (name, value):
                flat.append(item if isinstance(item, bytes) else raw(item))
        self.entries.append((entry_id.encode(), flat))
