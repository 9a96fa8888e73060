"""The session at the moment of asking, and the phrases of an answer: times, names, agents."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from fabric.client.mailbox import parse_cursor
from fabric.core.event import EVERYONE
from fabric.core.liveness import limit_ms
from fabric.core.record import ENDED, ClaimRecord
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.ops.why.log_index import GRANT, IndexedEntry, LogIndex
from fabric.store.value import parse_id
from fabric.view.text import clock, joined, plain, span
from fabric.wire.printable import shortened as cut

#: Causes listed below one cause; a note counts the rest.
WIDTH_MAX = 5

#: Characters of one sentence. Agents may send long texts; the log has all of them.
LINE_CHARS_MAX = 500


class Cause(Struct, omit_defaults=True):
    """One reason for an agent's state; its `children` are the reasons for this reason.

    `kind` is dependency, lock, question or barrier for a wait; agent, person or nobody for what
    could end it; cycle for a deadlock; end, kept-out, told, holds, awaited or note for the rest.
    `log` is the log entry that it follows from, `at_ms` the time of that. `frees` says what would
    end it.
    """

    kind: str
    text: str
    agent: str = ""
    log: str = ""
    at_ms: int = 0
    frees: str = ""
    children: list[Cause] = []

    def __post_init__(self) -> None:
        self.text = line(self.text)


@dataclass(slots=True)
class Snapshot:
    """A session rebuilt from its log, the index of that log, and the time of asking.

    `cursors` is agent → the place in its inbox that Redis stores for it.
    """

    session: SessionState
    rules: Rules
    log_index: LogIndex
    now_ms: int
    cursors: Mapping[str, bytes] = field(default_factory=dict)

    def at(self, ms: int) -> str:
        """Return a time as `fabric tail` prints it: `0:25`."""
        return clock(ms, self.session.opened_ms)

    def when(self, ms: int, entry_id: str = "") -> str:
        """Return a time and the log entry of that time: `0:25 (9-0)`."""
        return f"{self.at(ms)} ({entry_id})" if entry_id else self.at(ms)

    def ago(self, ms: int) -> str:
        """Return the time since a moment: `15 s ago`."""
        return f"{span(self.now_ms - ms)} ago"

    def status(self, name: str, subject: str = "It") -> str:
        """Return an agent's status, progress and last sign of life as a sentence."""
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

    def death_of(self, name: str) -> str:
        """Return when silence would end an agent: `is declared dead (after 10 min of …)`."""
        agent = self.session.agents.get(name)
        if agent is None or agent.status in ENDED:
            return ""
        allowed_ms = limit_ms(agent, self.rules)
        due_ms = agent.seen_ms + allowed_ms
        why = f"after {span(allowed_ms)} of silence, at {self.at(due_ms)}"
        if due_ms < self.now_ms:
            why = f"its silence has been too long since {self.at(due_ms)}"
        return f"is declared dead ({why})"

    def has_read(self, name: str, entry: IndexedEntry) -> str:
        """Return whether an agent has read a message: the one fact that the log does not have."""
        stored = self.cursors.get(name)
        if stored is None:
            return "; it is not known whether it has read that"
        place = parse_cursor(stored)[1 if entry.to == EVERYONE else 0]
        is_read = parse_id(place) >= parse_id(entry.id.encode())
        return ", and has read that" if is_read else ", and has not read that yet"

    def aware(self, name: str, kinds: Sequence[str], subjects: Sequence[str]) -> str:
        """Return whether an agent was told that others wait, and whether it has read that."""
        found = [self.log_index.told(name, kind, one) for kind in kinds for one in subjects]
        last = max(filter(None, found), key=lambda one: parse_id(one.id.encode()), default=None)
        if last is None:
            return "It was not told that others wait"
        when = self.when(last.ms, last.id)
        return f"It was told at {when} that others wait{self.has_read(name, last)}"

    def granted(self, claim: ClaimRecord) -> str:
        """Return the time at which a claim was granted, the log entry and the token."""
        told = self.log_index.told(claim.agent, GRANT, str(claim.token))
        log = f"{told.id}, " if told is not None else ""
        return f"{self.at(claim.granted_ms)} ({log}token {claim.token})"

    def decide_command(self, question_id: str) -> str:
        """Return the command that answers a question."""
        options = self.session.escalations.records[question_id].options
        dashed = "-- " if question_id.startswith("-") else ""
        choice = f" (ANSWER is one of: {names(options)})" if options else ""
        return line(f"fabric decide {dashed}{shlex.quote(question_id)} ANSWER{choice}")

    def unanswered(self, question_id: str) -> Cause:
        """Return the cause that a person has not decided yet."""
        question = self.session.escalations.records[question_id]
        asked = self.when(question.asked_ms, question.cause)
        by = question.asker or "the orchestrator"
        text = f'{by} has asked a person, at {asked}: "{question.question}"'
        frees = f"to decide: {self.decide_command(question_id)}"
        return Cause("person", text, "", question.cause, question.asked_ms, frees)


def names(several: Sequence[str]) -> str:
    """Return names as part of a sentence; if there are many, the first ones and a count."""
    shown = joined([line(name) for name in several[:WIDTH_MAX]])
    more = len(several) - WIDTH_MAX
    return f"{shown} and {more} more" if more > 0 else shown


def wait_phrase(several: Sequence[str]) -> str:
    """Return names and the verb: `A waits`, `A, B wait`."""
    return f"{names(several)} {'waits' if len(several) == 1 else 'wait'}"


def shortened(found: list[Cause], count: int = 0) -> list[Cause]:
    """Return the first causes, and a note that counts the rest of `count`, by default of them."""
    more = max(count, len(found)) - WIDTH_MAX
    return [*found[:WIDTH_MAX], *([Cause("note", f"and {more} more")] if more > 0 else [])]


def line(text: str) -> str:
    """Return a sentence as one line of bounded length, without control characters."""
    return cut(plain(" ".join(text.split())), LINE_CHARS_MAX)


def logged(entry: IndexedEntry, kind: str) -> Cause:
    """Return a log entry as a cause, with the entry that it follows from below it."""
    text = f"{entry.words} [{entry.code}]" if entry.code else entry.words
    cause = Cause(kind, text, entry.to or entry.sender, entry.id, entry.ms)
    if (before := entry.cause) is not None:
        because = f"because of {before.id}: {before.words}"
        cause.children = [Cause("because", because, before.sender, before.id, before.ms)]
    return cause
