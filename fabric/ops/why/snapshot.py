"""What is known when somebody asks why, and how it is put into words: times, places, agents."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from fabric.client.mailbox import parse_cursor
from fabric.core.decision import EVERYONE
from fabric.core.liveness import limit_ms
from fabric.core.record import ENDED, AgentStatus, ClaimRecord, EscalationRecord
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.ops.why.log_index import GRANT, Fact, LogIndex
from fabric.store.value import parse_id
from fabric.view.text import clock, joined

#: Causes listed below one cause; how many more there are is said after them.
WIDTH_MAX = 5

#: Characters of one sentence. What agents say can be long; the log has all of it.
LINE_CHARS_MAX = 500


class Cause(Struct, omit_defaults=True):
    """One reason why an agent is where it is, and below it the reasons of that reason.

    `kind` is dependency, lock, question or barrier for a wait; agent, person or nobody for whom it
    needs; cycle for a deadlock; end, kept-out, told, holds, awaited or note for the rest. `log` is
    the entry that it follows from, `at_ms` when that was. `frees` says what would end it.
    """

    kind: str
    text: str
    agent: str = ""
    log: str = ""
    at_ms: int = 0
    frees: str = ""
    children: list[Cause] = []


@dataclass(slots=True)
class Snapshot:
    """A session rebuilt from its log, and what else is asked of it.

    `cursors` is agent → the stored place in its inbox; `now_ms` is the time of asking.
    """

    session: SessionState
    rules: Rules
    log_index: LogIndex
    now_ms: int
    cursors: Mapping[str, bytes] = field(default_factory=dict)

    def at(self, ms: int) -> str:
        """Return a time as `fabric tail` shows it."""
        return clock(ms, self.session.opened_ms)

    def when(self, ms: int, entry_id: str = "") -> str:
        """Return a time and the log entry that tells of it: `0:25 (9-0)`."""
        return f"{self.at(ms)} ({entry_id})" if entry_id else self.at(ms)

    def of(self, entry_id: str) -> str:
        """Return when a log entry was written, and its id."""
        ms = self.log_index.time_of(entry_id)
        return entry_id if ms is None else self.when(ms, entry_id)

    def ago(self, ms: int) -> str:
        """Say how long ago a time was."""
        return f"{span(self.now_ms - ms)} ago"

    def standing(self, name: str, subject: str = "It") -> str:
        """Say how an agent is doing."""
        agent = self.session.agents.get(name)
        if agent is None:
            return f"{subject} has not been heard of yet"
        words = [f"{subject} is {agent.status.value}"]
        if agent.percent is not None and agent.status not in ENDED:
            words.append(f"at {agent.percent:g} %")
        if agent.checkpoint and agent.status not in ENDED:
            words.append(f"past the checkpoint {agent.checkpoint}")
        words.append(f"last heard of {self.ago(agent.seen_ms)}")
        return line(", ".join(words))

    def silent_until(self, name: str) -> str:
        """Say what silence would lead to."""
        agent = self.session.agents.get(name)
        if agent is None or agent.status in ENDED:
            return ""
        allowed_ms = limit_ms(agent, self.rules)
        due_ms = agent.seen_ms + allowed_ms
        if due_ms < self.now_ms:
            late = self.at(due_ms)
            return f"is given up for dead (it has been silent for too long since {late})"
        return f"is given up for dead (after {span(allowed_ms)} of silence, at {self.at(due_ms)})"

    def has_read(self, name: str, fact: Fact) -> str:
        """Say whether an agent has read a message: the one thing that is not in the log."""
        stored = self.cursors.get(name)
        if stored is None:
            return "; whether it has read that is not known"
        place = parse_cursor(stored)[1 if fact.to == EVERYONE else 0]
        is_read = parse_id(place) >= parse_id(fact.id.encode())
        return ", and has read that" if is_read else ", and has not read that yet"

    def aware(self, name: str, kinds: Sequence[str], about: Sequence[str]) -> str:
        """Say whether an agent was told that others wait for something, and has read it."""
        found = [
            fact
            for kind in kinds
            for subject in about
            if (fact := self.log_index.told(name, kind, subject)) is not None
        ]
        if not found:
            return "It was not told that somebody waits"
        last = max(found, key=lambda fact: parse_id(fact.id.encode()))
        when = self.when(last.ms, last.id)
        return f"It was told at {when} that somebody waits{self.has_read(name, last)}"

    def granted(self, claim: ClaimRecord) -> str:
        """Return when a claim was granted, by which entry, and its token."""
        told = self.log_index.told(claim.agent, GRANT, str(claim.token))
        when = self.at(claim.granted_ms)
        log = f"{told.id}, " if told is not None else ""
        return f"{when} ({log}token {claim.token})"

    def is_at_work(self, name: str) -> bool:
        """Whether an agent is there and has not ended."""
        agent = self.session.agents.get(name)
        return agent is not None and agent.status not in ENDED

    def is_active(self, name: str) -> bool:
        """Whether an agent is at work and waits for nothing."""
        agent = self.session.agents.get(name)
        return agent is not None and agent.status is AgentStatus.ACTIVE


def span(ms: int) -> str:
    """Say how long a time is: `4 s`, `5 min`, `3 h`."""
    seconds = max(0, ms) / 1000
    for unit, length in (("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def names(several: Sequence[str]) -> str:
    """Return names as part of a sentence, the first of them when there are many."""
    shown = [line(name) for name in several[:WIDTH_MAX]]
    more = len(several) - len(shown)
    return f"{joined(shown)} and {more} more" if more > 0 else joined(shown)


def waits(several: Sequence[str]) -> str:
    """Return names as who waits: `A waits`, `A, B wait`."""
    return f"{names(several)} {'waits' if len(several) == 1 else 'wait'}"


def line(text: str) -> str:
    """Return a sentence as one line of bounded length, without control characters."""
    flat = "".join(c if c.isprintable() else "·" for c in " ".join(text.split()))
    return flat if len(flat) <= LINE_CHARS_MAX else flat[: LINE_CHARS_MAX - 1] + "…"


def answering(question_id: str, question: EscalationRecord) -> str:
    """Return the command that answers a question."""
    dashed = "-- " if question_id.startswith("-") else ""
    options = f" (ANSWER is one of: {names(question.options)})" if question.options else ""
    return line(f"fabric decide {dashed}{shlex.quote(question_id)} ANSWER{options}")


def open_question(snapshot: Snapshot, question_id: str, question: EscalationRecord) -> Cause:
    """Return the cause that a person has to decide."""
    asked = snapshot.when(question.asked_ms, question.cause)
    by = f"{question.asker} has" if question.asker else "the fabric has"
    text = line(f'{by} asked a person, at {asked}: "{question.question}"')
    frees = f"decided with: {answering(question_id, question)}"
    return Cause("person", text, "", question.cause, question.asked_ms, frees)


def said_of(snapshot: Snapshot, fact: Fact, kind: str) -> Cause:
    """Return a log entry, and the one it follows from, as a cause."""
    text = f"{fact.words} [{fact.code}]" if fact.code else fact.words
    cause = Cause(kind, line(text), fact.to or fact.speaker, fact.id, fact.ms)
    if fact.cause is not None:
        because = fact.cause
        told = f"because of {because.id}: {because.words}"
        cause.children = [Cause("because", line(told), because.speaker, because.id, because.ms)]
    return cause
