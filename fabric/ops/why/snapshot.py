"""The session at the moment of asking, an index of its log by agent, and the phrases of an answer.

The index is fed the log entries in order: what each agent said last, what it was told, and because
of what. It keeps what explains an agent's present state, not the whole log: its size grows with the
number of agents, not with the number of entries.
"""

from __future__ import annotations

import shlex
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from fabric.core.directive import DIRECTIVES
from fabric.core.event import EVERYONE, Kind
from fabric.core.liveness import idle_from_ms, is_silent, is_spared, limit_ms, silent_since_ms
from fabric.core.record import ENDED, ClaimRecord, EscalationState
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.store.port import Entry
from fabric.store.value import parse_cursor, parse_id
from fabric.view.text import cell, clock, joined, plain, span
from fabric.view.timeline import Timeline, read_ms
from fabric.wire.record import TIMER_TYPE
from fabric.wire.stored import read_object, text_fields_of
from fabric.wire.stored import shortened as cut

#: Causes listed below one cause; a note counts the rest.
WIDTH_MAX = 5

#: Characters of one sentence. Agents may send long texts; the log has all of them.
LINE_CHARS_MAX = 500

#: Entries kept of what an agent said and was told; of messages to everyone; refusals of an agent.
HISTORY_MAX = 10
EVERYONE_MAX = 50
REFUSALS_MAX = 3

#: Consequences kept of an agent's end.
FOLLOWS_MAX = 5

#: Subjects for which the last directive to an agent is kept.
SUBJECTS_MAX = 1_000

#: Length of the payloads that are decoded. Ours are shorter; longer ones are not needed here.
_PAYLOAD_CHARS_MAX = 65_536

#: `told` keeps the first PROCEED with a token under this kind and the token.
GRANT = "grant"

#: Fields of a directive that name its subject.
_SUBJECTS = ("on", "dependency", "barrier", "escalation", "dependency_id", "id")

#: Kind of a timer → what has happened when it takes effect.
_TIMERS = {
    "undeclared": "no agent declared in time that it produces {}",
    "barrier": "the deadline of {} has passed",
    "hold": "{} held it for too long",
    "silence": "nothing was heard of {} for too long",
    "answer": "nobody had answered {} by its deadline",
    "mass_silence": "many are still silent (question {})",
}


@dataclass(slots=True)
class IndexedEntry:
    """A log entry: sender, recipient, its meaning in words, and the entry that it follows from."""

    id: str
    ms: int
    kind: str
    type: str
    sender: str
    to: str
    words: str
    cause: IndexedEntry | None = None
    #: Code of the refusal, if it was refused.
    code: str = ""
    #: Payload, if the fabric itself is the sender.
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class AgentEnd:
    """The entry that ended an incarnation, and its first consequences."""

    entry: IndexedEntry
    follows: list[IndexedEntry] = field(default_factory=list)
    count: int = 0


@dataclass(slots=True)
class AgentHistory:
    """What is kept of one agent."""

    recent: deque[IndexedEntry] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    refused: deque[IndexedEntry] = field(default_factory=lambda: deque(maxlen=REFUSALS_MAX))
    #: (Directive, subject) → the last one.
    told: dict[tuple[str, str], IndexedEntry] = field(default_factory=dict)
    last_told: IndexedEntry | None = None
    #: Place of its first entry: messages to everyone before that did not reach it.
    first: tuple[int, int] = (0, 0)
    started: IndexedEntry | None = None
    end: AgentEnd | None = None


class LogIndex:
    """Takes log entries in order; answers what an agent was told, and when."""

    def __init__(self) -> None:
        self.agents: dict[str, AgentHistory] = {}
        self.everyone: deque[IndexedEntry] = deque(maxlen=EVERYONE_MAX)
        #: Log number → time, ms; the first event has number 1.
        self._times = array("q", [0])
        #: CONFLICT_DETECTED → its sender: no agent has asked for the claims that it makes.
        self.conflicts: dict[str, str] = {}
        self._timeline = Timeline()
        self._event: IndexedEntry | None = None
        self._ending: AgentEnd | None = None
        #: Subjects of the event, and of its timer if it is one.
        self._about: dict[str, Any] = {}
        self._timed = ""

    def take(self, entry: Entry) -> None:
        """Take the next entry of the log."""
        entry_id, flat = entry
        fields = text_fields_of(flat)
        found = self._indexed(entry, fields)
        raw = fields.get("payload", "")
        payload = (read_object(raw) if len(raw) <= _PAYLOAD_CHARS_MAX else None) or {}
        if entry_id.endswith(b"-0"):
            self._times.append(found.ms)
            self._event, self._ending = found, None
            self._timed = fields.get("timer", "").partition(":")[2]
            self._about = {"id": found.id}
            if found.kind == Kind.SIGNAL:
                self._about |= {name: payload[name] for name in _SUBJECTS if payload.get(name)}
            self._add_event(found)
            return
        found.cause = self._event
        # A signal that is passed on has no payload of its own: its cause has the subjects.
        found.payload = payload if raw or found.cause is None else self._about
        self._add_consequence(found, is_passed_on=not raw)

    def time_of(self, entry_id: str) -> int | None:
        """Return the time of an entry, ms; None when there is no such entry."""
        number = entry_id.partition("-")[0]
        known = number.isdecimal() and 0 < int(number) < len(self._times)
        return self._times[int(number)] if known else None

    def history_of(self, agent: str) -> AgentHistory:
        """Return what is kept of an agent; it is empty if the agent has not been heard of."""
        return self.agents.get(agent) or AgentHistory()

    def last_told(self, agent: str) -> IndexedEntry | None:
        """Return the last directive to an agent, to it alone or to everyone, since it started."""
        own = self.history_of(agent).last_told
        mine = [entry for entry in self._to_everyone(agent) if entry.type in DIRECTIVES]
        return max(filter(None, [own, *mine[-1:]]), key=_order, default=None)

    def told(self, agent: str, kind: str, subject: str) -> IndexedEntry | None:
        """Return the last directive of a kind on a subject, to an agent alone or to everyone."""
        own = self.history_of(agent).told.get((kind, subject))
        for entry in reversed(self.everyone):
            if entry.type == kind and subject in _subjects(entry):
                return max(filter(None, [own, entry]), key=_order)
        return own

    def history(self, agent: str) -> list[IndexedEntry]:
        """Return what an agent said and was told, newest first."""
        recent = self.history_of(agent).recent
        found = {entry.id: entry for entry in [*recent, *self._to_everyone(agent)]}
        return sorted(found.values(), key=_order, reverse=True)[:HISTORY_MAX]

    def _to_everyone(self, agent: str) -> list[IndexedEntry]:
        """Return the messages to everyone since an agent's first entry."""
        first = self.history_of(agent).first
        return [entry for entry in self.everyone if _order(entry) > first]

    def _indexed(self, entry: Entry, fields: dict[str, str]) -> IndexedEntry:
        row = self._timeline.row(*entry)
        kind, word, to, code = (fields.get(name, "") for name in ("kind", "type", "to", "code"))
        sender = fields.get("emitter") or fields.get("from", "")
        if row is not None:
            words = row.action
            if words.startswith(f"{EVERYONE} "):
                words = f"everyone{words.removeprefix(EVERYONE)}"
        elif word == TIMER_TYPE:
            words = _timer_words(fields.get("timer", ""))
        else:
            words = f"{to} is told of {word} from {sender}" if to else f"{sender} says {word}"
        ms = read_ms(fields.get("ms", ""), 0)
        return IndexedEntry(entry[0].decode(), ms, kind, word, sender, to, cell(words), code=code)

    def _add_event(self, entry: IndexedEntry) -> None:
        if entry.kind == Kind.REFUSED:
            self._history(entry).refused.append(entry)
        elif entry.kind == Kind.SIGNAL and entry.type != "HEARTBEAT":
            if entry.type == "CONFLICT_DETECTED":
                self.conflicts[entry.id] = entry.sender
            history = self._history(entry)
            if history.recent and history.recent[-1].type == entry.type == "PROGRESS":
                history.recent.pop()  # of several in a row the last one is enough
            history.recent.append(entry)
            if entry.type == "STARTED":
                history.started = entry
            elif entry.type in ("COMPLETED", "FAILED"):
                history.end = self._ending = AgentEnd(entry)

    def _add_consequence(self, entry: IndexedEntry, *, is_passed_on: bool) -> None:
        if entry.type == "FAILED" and not entry.to and self._ending is None:
            history = self._history(entry)
            error = entry.payload.get("error", "")
            entry.words = cell(f"{entry.sender} is declared dead: {error}")
            history.recent.append(entry)
            history.end = self._ending = AgentEnd(entry)
            return
        if self._ending is not None and entry.to:
            self._ending.count += 1
            if len(self._ending.follows) < FOLLOWS_MAX:
                self._ending.follows.append(entry)
        if entry.to == EVERYONE:
            if not is_passed_on:
                self.everyone.append(entry)
        elif entry.to:
            history = self._history(entry, entry.to)
            history.recent.append(entry)
            if entry.type in DIRECTIVES:
                history.last_told = entry
            if entry.payload.get("token"):
                history.told.setdefault((GRANT, str(entry.payload["token"])), entry)
            for subject in filter(None, [*_subjects(entry), self._timed]):
                history.told.pop((entry.type, subject), None)
                history.told[entry.type, subject] = entry
            while len(history.told) > SUBJECTS_MAX:
                del history.told[next(iter(history.told))]

    def _history(self, entry: IndexedEntry, agent: str = "") -> AgentHistory:
        agent = agent or entry.sender
        if agent not in self.agents:
            self.agents[agent] = AgentHistory(first=_order(entry))
        return self.agents[agent]


def _order(entry: IndexedEntry) -> tuple[int, int]:
    return parse_id(entry.id.encode())


def _subjects(entry: IndexedEntry) -> list[str]:
    """Return the names of what a directive is about."""
    named = [str(entry.payload[name]) for name in _SUBJECTS if entry.payload.get(name)]
    several = entry.payload.get("resources")
    return [*named, *map(str, several)] if isinstance(several, list) else named


def _timer_words(timer: str) -> str:
    kind, _, subject = timer.partition(":")
    if kind == "barrier":
        subject = subject.partition(":")[2]
    elif kind == "hold":
        number, _, agent = subject.partition(":")
        subject = f"what {agent} asked for in {number}-0 is taken back: {agent}"
    return _TIMERS.get(kind, f"{kind} {{}}").format(subject)


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

    def when(self, ms: int, entry_id: str = "") -> str:
        """Return a time as `fabric tail` prints it, and the log entry of it: `0:25 (9-0)`."""
        return clock(ms, self.session.opened_ms) + (f" ({entry_id})" if entry_id else "")

    def ago(self, ms: int) -> str:
        """Return the time since a moment: `15 s ago`."""
        return f"{span(self.now_ms - ms)} ago"

    def status(self, name: str, subject: str = "It") -> str:
        """Return an agent's status, progress and last sign of life as a sentence."""
        agent = self.session.agents.get(name)
        if agent is None:
            return self.absence(name, subject)
        text = f"{subject} is {agent.shown_status}"
        if agent.percent is not None and agent.status not in ENDED:
            text += f", at {agent.percent:g} %"
        if agent.checkpoint and agent.status not in ENDED:
            text += f", past the checkpoint {agent.checkpoint}"
        text += f", last heard of {self.ago(agent.seen_ms)}"
        return line(f"{text}, with {stuck}" if (stuck := self.stuck(name)) else text)

    def absence(self, name: str, subject: str = "It") -> str:
        """Say of an agent that has not come whether it is expected, as a sentence."""
        one = self.session.roster.get(name)
        if one is None or one.came_ms:
            return f"{subject} has not been heard of yet"
        if one.absent_ms:
            return f"{subject} was expected until {self.when(one.absent_ms)} and has not come"
        until = f" until {self.when(one.until_ms)}" if one.until_ms else ""
        return f"{subject} is expected{until} and has not come yet"

    def stuck(self, name: str) -> str:
        """Return since when an agent has sent only heartbeats, if others were told to wait."""
        agent = self.session.agents.get(name)
        if agent is None or not agent.is_stuck:
            return ""
        return f"nothing but heartbeats since {self.when(idle_from_ms(agent))}"

    def doubts(self, name: str) -> list[str]:
        """Return the open questions whether to wait on: for one stuck, silent, or not reading."""
        agent = self.session.agents.get(name)
        if agent is None or agent.status in ENDED:
            return []
        silent = is_silent(self.session, agent, self.rules, self.now_ms)
        found = [agent.wedged, agent.unread, self.session.mass_silence if silent else ""]
        return [*filter(self.is_open, found)]

    def death_of(self, name: str) -> str:
        """Return when silence would end an agent: `is declared dead (after 10 min of …)`."""
        agent = self.session.agents.get(name)
        if agent is None or agent.status in ENDED:
            return ""
        many = self.session.mass_silence
        if many in self.doubts(name):
            why = f"if question {many} is decided so, or before that if others need it"
            return f"is declared dead {why}"
        allowed_ms = limit_ms(agent, self.rules)
        due_ms = silent_since_ms(self.session, agent) + allowed_ms
        asked = self.session.escalations.get(many)
        if asked is not None and not asked.is_open and is_spared(self.session, agent, self.rules):
            due_ms = max(due_ms, asked.decided_ms + self.rules.silence_ms_max)
            waiting = f"{asked.by} has decided to wait until then"
            return f"is declared dead (at {self.when(due_ms)}: {waiting})"
        if due_ms < self.now_ms:
            return f"is declared dead (its silence has been too long since {self.when(due_ms)})"
        announced = ""
        if agent.quiet_until_ms > self.now_ms:
            announced = f"; it has announced its silence until {self.when(agent.quiet_until_ms)}"
        why = f"after {span(allowed_ms)} of silence, at {self.when(due_ms)}{announced}"
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
        return f"{self.when(claim.granted_ms)} ({log}token {claim.token})"

    def is_open(self, question_id: str) -> bool:
        """Whether there is such a question, and nobody has decided it yet."""
        question = self.session.escalations.get(question_id)
        return question is not None and question.state is EscalationState.OPEN

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

    def asked(self, question_id: str) -> list[Cause]:
        """Return the cause that a person has not decided a question, or what was decided."""
        question = self.session.escalations.get(question_id)
        if question is None or question.is_open:
            return [self.unanswered(question_id)] if question is not None else []
        at = self.when(question.decided_ms)
        text = f"{question.by} decided at {at}: {question.decision}"
        return [Cause("note", text, at_ms=question.decided_ms)]


def names(several: Sequence[str]) -> str:
    """Return names as part of a sentence; if there are many, the first ones and a count."""
    shown = joined([line(name) for name in several[:WIDTH_MAX]])
    more = len(several) - WIDTH_MAX
    return f"{shown} and {more} more" if more > 0 else shown


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
