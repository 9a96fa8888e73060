"""Plays a scenario: a text file of signals, and below each line the core's answer.

    # A comment. Empty lines and comments stay where they are.
    rules agents_max=2 undeclared_grace_ms=5000 priorities={"A":5}
    0:10  B  BLOCKED(schema-change)  {"reason": "no table yet"}
        4-0  accepted
        4-1  NUDGE to A: {"on":"schema-change","waiting":["B"]}
    0:45  (time)
        undeclared:schema-change: nothing to report
    show agents

`(time)` fires all timers that are due; `(timer)  barrier:1:release` fires one that was cancelled
too late; `(outage)  60` ends an outage of 60 s. `peers 5 1`: from here on, timers that need it are
told of five silent and one heard agent in other sessions. `read 7-2 5-1`: they are told that the
agent has read so far, in its inbox and of what everyone is told.

Two spaces or more separate time, speakers, signal and payload. A speaker is `B`, or `B/2` for its
incarnation 2, or `B@UI` on stream UI (otherwise its stream has its own name), or `B #5` for its
signal number 5, or `B ^3` for a signal at the end of a chain of 3 replies; or all of these:
`B/2@UI #5 ^3`. `B !p2` is the living process p2 under that name, `B/reader` a sub-agent. `A, B`
both send the same, one after the other.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fabric.core.event import (
    EVERYONE,
    NO_PEERS,
    NOTHING_READ,
    Decision,
    Kind,
    Message,
    Outcome,
    Peers,
    Reading,
)
from fabric.core.rules import Rules
from fabric.core.session import SessionState, Table
from fabric.core.step import fire, skip, step
from fabric.core.task import TaskRecord
from fabric.errors import SignalError
from fabric.store.value import parse_id
from fabric.wire.entry import decode

#: Server time at 0:00 of every scenario, ms: 2025-12-30T19:30:00Z.
START_MS = 1_767_123_000_000

SPEAKER = re.compile(
    r"(?P<name>[^/@#^! ]+(/[^\d/@#^! ][^/@#^! ]*)*)(/(?P<incarnation>\d+))?(@(?P<stream>\S+))?"
    r"( #(?P<seq>\d+))?( \^(?P<hops>\d+))?( !(?P<instance>\S+))?"
)
TIME = re.compile(r"(?P<minutes>\d+):(?P<seconds>\d\d)(\.(?P<ms>\d{3}))?")


class ScenarioError(Exception):
    """A line that the runner does not understand, or that leaves something out."""


class Line(NamedTuple):
    """A line that is not an answer: a command, a comment, or an empty one."""

    number: int
    text: str


def play(path: Path) -> str:
    """Return the scenario with the answers that the core gives now."""
    stage = Stage()
    played: list[str] = []
    for line in commands(path.read_text(encoding="utf-8")):
        played.append(line.text)
        if line.text and not line.text.startswith("#"):
            try:
                played += [f"    {answer}" for answer in stage.perform(line.text)]
            except (ScenarioError, msgspec.MsgspecError) as error:
                raise ScenarioError(f"{path.name}:{line.number}: {error}") from error
    return "\n".join(played) + "\n"


def commands(text: str) -> Iterator[Line]:
    """Leave out the answers: lines that begin with a space."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith(" "):
            yield Line(number, line.rstrip())


class Stage:
    """One session, its rules and its timers."""

    def __init__(self) -> None:
        self.session = SessionState(name="demo")
        self.rules = Rules()
        self.timers: dict[str, int] = {}
        self.peers = NO_PEERS
        self.reading = NOTHING_READ
        #: Agents have timers for their silence, and tasks for their progress: only a scenario about
        #: one of the two shows them.
        self.is_about_silence = False

    def perform(self, text: str) -> Iterator[str]:
        """Carry out one line and yield its answers."""
        word, _, rest = text.partition(" ")
        if word == "rules":
            self._set_rules(rest)
        elif word == "peers":
            self.peers = Peers(*map(int, rest.split()))
        elif word == "read":
            self.reading = Reading(*map(parse_id, map(str.encode, rest.split())))
        elif word == "show":
            yield from self._show(*rest.split())
        else:
            yield from self._at(*re.split(r"\s{2,}", text, maxsplit=3))

    def _set_rules(self, text: str) -> None:
        given: dict[str, Any] = dict(word.split("=", 1) for word in text.split())
        for name, value in given.items():
            if value[:1] in "{[":
                given[name] = msgspec.json.decode(value)
        self.is_about_silence = self.is_about_silence or "silence" in text or "progress" in text
        self.rules = msgspec.convert(
            {**msgspec.to_builtins(self.rules), **given}, Rules, strict=False
        )

    def _at(self, time: str, who: str, signal: str = "", payload: str = "") -> Iterator[str]:
        now_ms = read_time(time)
        if who == "(time)":
            yield from self._pass(now_ms)
            return
        if who == "(timer)":
            yield from self._ring(signal, now_ms)
            return
        if who == "(outage)":
            yield from self._skip(float(signal), now_ms)
            return
        self._look_at_the_silent(now_ms)
        late = [timer for timer, due_ms in self.timers.items() if due_ms <= now_ms]
        if late:
            raise ScenarioError(f"{late[0]} is due before that: add a (time) line")
        for speaker in who.split(", "):
            yield from self._say(now_ms, speaker, signal, payload)

    def _look_at_the_silent(self, now_ms: int) -> None:
        """Skip the looks at agents and tasks that only set the next timer: they are no events."""
        while due := sorted(
            (at, timer)
            for timer, at in self.timers.items()
            if at <= now_ms and timer.startswith(("silence:", "progress:"))
        ):
            at, timer = due[0]
            del self.timers[timer]
            decision = fire(self.session, timer, self.rules, at, self.peers, self.reading)
            if decision is not None and decision.outcome is not Outcome.POSTPONED:
                raise ScenarioError(f"{timer} takes effect before that: add a (time) line")
            for name, due_ms in decision.timers.items() if decision is not None else ():
                assert due_ms is not None
                self.timers[name] = due_ms

    def _say(self, now_ms: int, speaker: str, signal: str, payload: str) -> Iterator[str]:
        match = SPEAKER.fullmatch(speaker)
        if match is None or not signal:
            raise ScenarioError(f"not a speaker and a signal: {speaker} {signal}")
        entry = {
            "session": self.session.name,
            "type": signal,
            "emitter": match["name"],
            "stream": match["stream"] or match["name"],
            "incarnation": match["incarnation"],
            "seq": match["seq"],
            "hops": match["hops"],
            "instance": match["instance"],
            "payload": payload,
        }
        fields = [part.encode() for pair in entry.items() if pair[1] for part in pair if part]
        try:
            decision = step(self.session, decode(fields), self.rules, now_ms)
        except SignalError as error:
            yield f"not a signal, {error.reason_code}: {error}"
            return
        yield from self._tell(decision, signal.partition("(")[0])

    def _pass(self, now_ms: int) -> Iterator[str]:
        due = sorted((due_ms, timer) for timer, due_ms in self.timers.items() if due_ms <= now_ms)
        for _, timer in due:
            del self.timers[timer]
            yield from self._ring(timer, now_ms)

    def _ring(self, timer: str, now_ms: int) -> Iterator[str]:
        decision = fire(self.session, timer, self.rules, now_ms, self.peers, self.reading)
        if decision is None:
            yield f"{timer}: nothing to report"
        elif decision.outcome is Outcome.POSTPONED:
            yield from self._follow(decision)
        else:
            yield f"{self.session.log}-0  {timer}"
            yield from self._follow(decision)

    def _skip(self, outage_s: float, now_ms: int) -> Iterator[str]:
        decision = skip(self.session, int(outage_s * 1000), now_ms, self.rules)
        if decision is None:
            yield "no agent is alive: no event"
            return
        yield f"{self.session.log}-0  outage"
        yield from self._follow(decision)

    def _tell(self, decision: Decision, word: str) -> Iterator[str]:
        if decision.outcome is Outcome.REPEATED:
            yield "repeated: dropped"
            return
        if decision.outcome is Outcome.REFUSED:
            yield f"{self.session.log}-0  refused, {decision.code}: {decision.reason}"
            yield from self._follow(decision)
            return
        yield f"{self.session.log}-0  accepted"
        yield from self._follow(decision)
        if decision.to_results:
            result = f": {decision.result.decode()}" if decision.result else ""
            yield f"{word} to the results{result}"

    def _follow(self, decision: Decision) -> Iterator[str]:
        for number, message in enumerate(decision.messages, 1):
            yield f"{self.session.log}-{number}  {describe(message)}"
        if decision.fallen:
            yield f"the end of {decision.fallen} to the results"
        if decision.roster:
            yield f"the roster to the results: {decision.roster.decode()}"
        for timer, due_ms in decision.timers.items():
            if timer.startswith(("silence:", "progress:")) and not self.is_about_silence:
                continue
            if due_ms is None:
                self.timers.pop(timer, None)
                yield f"timer {timer} cancelled"
            else:
                self.timers[timer] = due_ms
                yield f"timer {timer} at {show_time(due_ms)}"

    def _show(self, kind: str, *names: str) -> Iterator[str]:
        tables: dict[str, Table[Any]] = {
            "agents": self.session.agents,
            "dependencies": self.session.dependencies,
            "tasks": self.session.tasks,
            "claims": self.session.claims,
            "barriers": self.session.barriers,
            "questions": self.session.escalations,
            "written": self.session.written,
            "roster": self.session.roster,
        }
        if kind not in tables:
            raise ScenarioError(f"nothing to show called {kind}")
        for name, record in tables[kind].records.items():
            if not names or name in names:
                yield f"{name}: {show_record(record, rhythm=self.is_about_silence)}"


def describe(message: Message) -> str:
    """Write a message in a line: type, sender, recipient, payload."""
    sender = "" if message.kind is Kind.DIRECTIVE and not message.forwarded else message.sender
    return (
        message.type
        + (f" from {sender}" if sender else "")
        + {EVERYONE: " to everyone", "": ", logged only"}.get(message.to, f" to {message.to}")
        + (f": {message.payload.decode()}" if message.payload != b"{}" else "")
    )


def read_time(text: str) -> int:
    """Read `m:ss` or `m:ss.mmm` as server time in ms."""
    match = TIME.fullmatch(text)
    if match is None:
        raise ScenarioError(f"no time (m:ss): {text}")
    seconds = int(match["minutes"]) * 60 + int(match["seconds"])
    return START_MS + seconds * 1000 + int(match["ms"] or 0)


def show_time(ms: int) -> str:
    """Write server time as `m:ss`, with milliseconds where there are some; `-m:ss` before 0:00."""
    sign = "-" if ms < START_MS else ""
    minutes, rest = divmod(abs(ms - START_MS), 60_000)
    seconds, thousandths = divmod(rest, 1000)
    return f"{sign}{minutes}:{seconds:02}" + (f".{thousandths:03}" if thousandths else "")


def show_record(record: msgspec.Struct, *, rhythm: bool) -> str:
    """Write a record's fields, without those that have their default."""
    known = msgspec.json.decode(msgspec.json.encode(record))
    if not rhythm:
        known.pop("intervals", None)
        known.pop("resumed_ms", None)
        known.pop("spared_ms", None)
    if isinstance(record, TaskRecord):
        for field in ("added", "place", *(() if rhythm else ("paces", "progressed_ms"))):
            known.pop(field, None)
    return "  ".join(
        f"{field.removesuffix('_ms')}={show_value(field, value)}" for field, value in known.items()
    )


def show_value(field: str, value: Any) -> str:
    if field in ("limit_ms", "estimate_ms", "heartbeat_ms"):
        return f"{value / 1000:g} s"
    if field == "arrived":
        value = {name: show_time(ms) for name, ms in value.items()}
    if isinstance(value, int) and field.endswith("_ms"):
        return show_time(value)
    if isinstance(value, msgspec.Raw):
        return bytes(value).decode()
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
