"""What a log says of each agent, in short: its last words, what it was told, and why.

Fed with log entries in order. It keeps what a person may want to hear about an agent's present
place, not the log: the memory it takes grows with the agents, not with what they have said.
"""

from __future__ import annotations

from array import array
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fabric.core.decision import EVERYONE, Kind
from fabric.core.directive import DIRECTIVES
from fabric.store.port import Entry
from fabric.view.text import cell
from fabric.view.timeline import Timeline, read_ms
from fabric.wire.record import TIMER_TYPE
from fabric.wire.stored import fields_of

#: Entries kept of what an agent said and was told; of what all were told; refusals of an agent.
HISTORY_MAX = 10
EVERYONE_MAX = 50
REFUSALS_MAX = 3

#: Entries kept of what followed from an agent's end.
FOLLOWS_MAX = 5

#: Subjects on which it is remembered what an agent was told last.
SUBJECTS_MAX = 1_000

#: Payloads of our own that are looked into; those of agents may be larger and are not needed.
_PAYLOAD_BYTES_MAX = 65_536

#: Under this and the token, `told` holds the first PROCEED with a token.
GRANT = "grant"

#: Fields of a directive that name what it is about.
_ABOUT = ("on", "dependency", "barrier", "escalation", "dependency_id", "id")

#: A timer, up to its first colon → what has happened when it takes effect.
_TIMERS = {
    "undeclared": "nobody had declared to produce {} in time",
    "barrier": "the deadline of {} has come",
    "hold": "{} had it for too long",
    "silence": "nothing was heard of {} for too long",
}


@dataclass(slots=True)
class Fact:
    """One log entry: who said what, in words, and the entry that it follows from."""

    id: str
    ms: int
    kind: str
    type: str
    speaker: str
    to: str
    words: str
    cause: Fact | None = None
    #: Why it was refused, as a word.
    code: str = ""
    #: Its payload, when the fabric itself says it.
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class End:
    """An agent's last word in an incarnation, and what followed from it, as far as it is kept."""

    fact: Fact
    follows: list[Fact] = field(default_factory=list)
    count: int = 0


@dataclass(slots=True)
class Life:
    """What is kept of one agent."""

    recent: deque[Fact] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    refused: deque[Fact] = field(default_factory=lambda: deque(maxlen=REFUSALS_MAX))
    #: (Directive, what it was about) → the last one.
    told: dict[tuple[str, str], Fact] = field(default_factory=dict)
    last_told: Fact | None = None
    #: Where it comes up first: what all were told before that, it was not.
    first: tuple[int, int] = (0, 0)
    started: Fact | None = None
    end: End | None = None


class LogIndex:
    """Takes log entries; answers what an agent was told, and when."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}
        self.everyone: deque[Fact] = deque(maxlen=EVERYONE_MAX)
        #: Log number → when that was, ms; the first event has number 1.
        self._times = array("q", [0])
        #: CONFLICT_DETECTED → who saw it: the claims that it makes nobody has asked for.
        self.conflicts: dict[str, str] = {}
        self._timeline = Timeline()
        self._event: Fact | None = None
        self._ending: End | None = None
        #: What the event is about; what the timer was for, when it is one.
        self._about: dict[str, Any] = {}
        self._timed = ""

    def take(self, entry: Entry) -> None:
        """Take the next entry of the log."""
        entry_id, flat = entry
        fields = fields_of(flat)
        fact = self._fact(entry, fields)
        if entry_id.endswith(b"-0"):
            self._times.append(fact.ms)
            self._event, self._ending = fact, None
            self._about = {"id": fact.id}
            self._timed = fields.get(b"timer", b"").decode("utf-8", "replace").partition(":")[2]
            raw = fields.get(b"payload", b"")
            if len(raw) <= _PAYLOAD_BYTES_MAX and fact.kind == Kind.SIGNAL:
                said = _document(raw)
                self._about |= {name: said[name] for name in _ABOUT if said.get(name)}
            self._happened(fact)
            return
        fact.cause = self._event
        raw = fields.get(b"payload", b"")
        if len(raw) <= _PAYLOAD_BYTES_MAX:
            fact.payload = _document(raw)
        if not raw and fact.cause is not None:
            # Passed on: what it is about stands in its cause.
            fact.payload = self._about
        self._followed(fact, is_passed_on=not raw)

    def time_of(self, entry_id: str) -> int | None:
        """Return when an entry was logged, ms; None when there is no such entry."""
        number = entry_id.partition("-")[0]
        known = number.isdecimal() and 0 < int(number) < len(self._times)
        return self._times[int(number)] if known else None

    def life(self, agent: str) -> Life:
        """Return what is kept of an agent; nothing yet, of one that has not spoken."""
        return self.lives.get(agent) or Life()

    def last_told(self, agent: str) -> Fact | None:
        """Return the last directive to an agent, to it alone or to all, since it started."""
        own = self.life(agent).last_told
        mine = [fact for fact in self._to_all(agent) if fact.type in DIRECTIVES]
        return max(filter(None, [own, *mine[-1:]]), key=_order, default=None)

    def told(self, agent: str, kind: str, about: str) -> Fact | None:
        """Return the last directive of a kind on a subject, to an agent alone or to all."""
        own = self.life(agent).told.get((kind, about))
        for fact in reversed(self.everyone):
            if fact.type == kind and about in _subjects(fact):
                return max(filter(None, [own, fact]), key=_order)
        return own

    def history(self, agent: str) -> list[Fact]:
        """Return what an agent said and was told, newest first."""
        found = {fact.id: fact for fact in [*self.life(agent).recent, *self._to_all(agent)]}
        return sorted(found.values(), key=_order, reverse=True)[:HISTORY_MAX]

    def _to_all(self, agent: str) -> list[Fact]:
        """What all were told since an agent is there."""
        first = self.life(agent).first
        return [fact for fact in self.everyone if _order(fact) > first]

    def _fact(self, entry: Entry, fields: dict[bytes, bytes]) -> Fact:
        def text(name: bytes) -> str:
            return fields.get(name, b"").decode("utf-8", "replace")

        row = self._timeline.row(*entry)
        kind, word, to = text(b"kind"), text(b"type"), text(b"to")
        speaker = text(b"emitter") or text(b"from")
        if row is not None:
            words = row.action
            if words.startswith(f"{EVERYONE} "):
                words = f"everybody{words.removeprefix(EVERYONE)}"
        elif word == TIMER_TYPE:
            words = _of_timer(text(b"timer"))
        else:
            words = f"{to} hears of {word} from {speaker}" if to else f"{speaker} says {word}"
        ms = read_ms(text(b"ms"), 0)
        return Fact(entry[0].decode(), ms, kind, word, speaker, to, cell(words), code=text(b"code"))

    def _happened(self, fact: Fact) -> None:
        if fact.kind == Kind.REFUSED:
            self._life(fact).refused.append(fact)
        elif fact.kind == Kind.SIGNAL and fact.type != "HEARTBEAT":
            if fact.type == "CONFLICT_DETECTED":
                self.conflicts[fact.id] = fact.speaker
            life = self._life(fact)
            if life.recent and life.recent[-1].type == fact.type == "PROGRESS":
                life.recent.pop()  # of several in a row the last says it all
            life.recent.append(fact)
            if fact.type == "STARTED":
                life.started = fact
            elif fact.type in ("COMPLETED", "FAILED"):
                life.end = self._ending = End(fact)

    def _followed(self, fact: Fact, *, is_passed_on: bool) -> None:
        if fact.type == "FAILED" and not fact.to and self._ending is None:
            life = self._life(fact)
            fact.words = cell(
                f"{fact.speaker} is given up for dead: {fact.payload.get('error', '')}"
            )
            life.recent.append(fact)
            life.end = self._ending = End(fact)
            return
        if self._ending is not None and fact.to:
            self._ending.count += 1
            if len(self._ending.follows) < FOLLOWS_MAX:
                self._ending.follows.append(fact)
        if fact.to == EVERYONE:
            if not is_passed_on:
                self.everyone.append(fact)
        elif fact.to:
            life = self._life(fact, fact.to)
            life.recent.append(fact)
            if fact.type in DIRECTIVES:
                life.last_told = fact
            if fact.payload.get("token"):
                life.told.setdefault((GRANT, str(fact.payload["token"])), fact)
            for about in filter(None, [*_subjects(fact), self._timed]):
                life.told.pop((fact.type, about), None)
                life.told[fact.type, about] = fact
            while len(life.told) > SUBJECTS_MAX:
                del life.told[next(iter(life.told))]

    def _life(self, fact: Fact, agent: str = "") -> Life:
        agent = agent or fact.speaker
        life = self.lives.get(agent)
        if life is None:
            life = self.lives[agent] = Life(first=_order(fact))
        return life


def _document(raw: bytes) -> dict[str, Any]:
    with suppress(msgspec.MsgspecError, ValueError, RecursionError):
        document = msgspec.json.decode(raw)
        return document if isinstance(document, dict) else {}
    return {}


def _order(fact: Fact) -> tuple[int, int]:
    number, _, part = fact.id.partition("-")
    return int(number), int(part)


def _subjects(fact: Fact) -> list[str]:
    """Name what a directive is about."""
    named = [str(fact.payload[name]) for name in _ABOUT if fact.payload.get(name)]
    several = fact.payload.get("resources")
    return [*named, *map(str, several)] if isinstance(several, list) else named


def _of_timer(timer: str) -> str:
    kind, _, subject = timer.partition(":")
    if kind == "barrier":
        subject = subject.partition(":")[2]
    elif kind == "hold":
        number, _, agent = subject.partition(":")
        subject = f"what {agent} asked for in {number}-0 is taken back: {agent}"
    return _TIMERS.get(kind, f"{kind} {{}}").format(subject)
