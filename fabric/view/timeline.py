"""Log entries as the rows of a timeline.

    Time  Signal                    Stream  Action
    0:10  BLOCKED(schema-change)    B       SCHEDULER needs schema-change
    0:15  (auto-resume)             B       SCHEDULER continues: schema-change is there

`fabric tail`, the live view and the reports all show these rows. Three kinds of entries have no
row: the copies of a signal that are passed on, heartbeats, and timers, whose consequences have rows
of their own. A row is a detail if the rows around it imply it; `fabric tail` leaves details out
unless asked. The module is pure: every time comes from the log.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from fabric.core.contradiction import FINDING
from fabric.core.directive import CONFIRMED
from fabric.core.divergence import MERGE
from fabric.core.event import EVERYONE, SYNTHESIZER, Kind
from fabric.view.text import cell, joined
from fabric.wire.record import OUTAGE_TYPE, RULES_KIND, TOKENS_TYPE
from fabric.wire.stored import read_object, text_fields_of

#: Types without a row, unless the entry was refused.
_SILENT = frozenset({"HEARTBEAT", "TIMER", "RULES"})

#: Signals that only prepare an event with a row of its own, or follow from one.
_DETAILS = frozenset({"INTENT", "RELEASE", TOKENS_TYPE})

#: Digits of a time, ms: as many as 64 bits hold. A longer one was written by hand.
MS_DIGITS_MAX = 18

#: Rows of one signal merge if they come within this time of the first. Agents that react to the
#: same cause are that close; separate events are usually seconds apart.
MERGE_MS = 1_000

#: Characters of a list of names within a sentence: 500 names must not push out its end.
NAMES_CHARS_MAX = 100

Payload = Mapping[str, Any]


class Row(NamedTuple):
    """One event of a session, or several shown as one. `ms` is server time.

    `agents` sent it or are addressed by it, `streams` are theirs, each named once. A detail
    follows from the rows around it.
    """

    id: str
    ms: int
    signal: str
    streams: tuple[str, ...]
    agents: tuple[str, ...]
    action: str
    is_detail: bool

    @property
    def stream(self) -> str:
        """The cell of the Stream column: `A, B`."""
        return joined(self.streams)

    @property
    def agent(self) -> str:
        """The agents as one cell."""
        return joined(self.agents)


class Timeline:
    """Turns log entries into rows, in order; learns agents' streams, beyond the given `streams`."""

    def __init__(self, streams: Mapping[str, str] | None = None) -> None:
        self._streams = dict(streams or {})
        self._ms = 0
        #: The event that the present entries follow from, and the agents it has resumed.
        self._cause = ""
        self._resumed: set[str] = set()
        #: Barrier → its members: one entry tells all of them that it is over.
        self._members: dict[str, Any] = {}

    def row(self, entry_id: bytes, flat: list[bytes]) -> Row | None:
        """Return the row of the next entry, None if it has none. Accepts whatever a log holds."""
        fields = text_fields_of(flat)
        kind, word = fields.get("kind", ""), fields.get("type", "")
        sender = fields.get("emitter") or fields.get("from", "")
        if kind == Kind.SIGNAL and fields.get("stream"):
            self._streams[sender] = fields["stream"]
        self._ms = read_ms(fields.get("ms", ""), self._ms)
        if (cause := fields.get("cause", "")) != self._cause:
            self._cause = cause
            self._resumed.clear()
        forwarded = kind == Kind.DIRECTIVE and "payload" not in fields
        if forwarded or (word in _SILENT and kind != Kind.REFUSED):
            return None
        payload = read_object(fields.get("payload", "")) or {}
        if word == "NOTICE" and payload.get("code") == CONFIRMED:
            return None
        signal, agent, action = _sentence(kind, word, sender, payload, fields)
        if kind == Kind.DIRECTIVE and word == "RESUME":
            self._resumed.add(agent)
        barrier = str(payload.get("barrier", ""))
        if word == "PAUSE" and agent == EVERYONE:
            self._members[barrier] = payload.get("members")
        elif word == "RESUME" and agent == EVERYONE:
            payload = {**payload, "members": self._members.pop(barrier, None)}
        agents = _agents(kind, word, agent, payload)
        cells = (cell(self._streams.get(name, "")) for name in agents)
        streams = tuple(dict.fromkeys(filter(None, cells)))
        is_detail = self._is_detail(kind, word, agent, payload)
        id_, named = entry_id.decode("ascii", "replace"), tuple(map(cell, agents))
        return Row(id_, self._ms, cell(signal), streams, named, cell(action), is_detail)

    def _is_detail(self, kind: str, word: str, agent: str, payload: Payload) -> bool:
        if word == "DECIDED" and agent == SYNTHESIZER and payload.get("by"):
            return True  # it repeats a person's decision
        if kind != Kind.DIRECTIVE:
            return kind != Kind.REFUSED and word in _DETAILS
        if word == "PROCEED":
            # A grant is news only if another agent has to wait for it, and no news for an agent
            # that the same event has resumed.
            is_first = _is_contended(payload) and not payload.get("barrier")
            return not is_first or agent in self._resumed
        if word == "PAUSE":
            # The conflict has a row of its own.
            return bool(payload.get("resources")) and not payload.get("barrier")
        return word in ("NUDGE", "WAIT")


class RowMerger:
    """Merges adjacent rows of the same signal into one: `STARTED  A, B  A begins; B begins`.

    Holds back the last row until `flush`. Feeding rows in smaller portions gives the same result,
    as long as nothing is flushed in between.
    """

    def __init__(self) -> None:
        #: Rows held back: of one signal, and of about one second.
        self._rows: list[Row] = []

    def feed(self, rows: Iterable[Row]) -> list[Row]:
        """Take the next rows; return those that are finished, in order."""
        finished = []
        for row in rows:
            first = self._rows[0] if self._rows else row
            if row.signal != first.signal or abs(row.ms - first.ms) > MERGE_MS:
                finished += self.flush()
            self._rows.append(row)
        return finished

    def flush(self) -> list[Row]:
        """Return the row that was held back, if there is one."""
        rows, self._rows = self._rows, []
        if not rows:
            return []
        # Repeats count once, or are counted.
        streams = tuple(dict.fromkeys(chain.from_iterable(row.streams for row in rows)))
        agents = tuple(dict.fromkeys(chain.from_iterable(row.agents for row in rows)))
        counts = Counter(row.action for row in rows)
        said = [f"{one} ({n:,} times)" if n > 1 else one for one, n in counts.items()]
        return [rows[0]._replace(streams=streams, agents=agents, action=joined(said, "; "))]


def merge(rows: Iterable[Row]) -> list[Row]:
    """Return rows with adjacent rows of the same signal merged into one."""
    merger = RowMerger()
    return [*merger.feed(rows), *merger.flush()]


def read_ms(text: str, default: int) -> int:
    """Return the time of a log entry, ms; the default if its text is no plausible time."""
    return int(text) if text.isdecimal() and len(text) <= MS_DIGITS_MAX else default


def shorthand(word: str, payload: Payload) -> str:
    """Return a signal in its short form: `PROGRESS(25%)`, `BLOCKED(schema-change)`."""
    if word == "PROGRESS" and isinstance(payload.get("percent"), int | float):
        return f"PROGRESS({payload['percent']:g}%)"
    if word == "BLOCKED" and payload.get("on"):
        return f"BLOCKED({payload['on']})"
    return word


def _sentence(
    kind: str, word: str, sender: str, payload: Payload, fields: Mapping[str, str]
) -> tuple[str, str, str]:
    """Return the cells of an entry: signal, agent, action."""
    if kind == Kind.REFUSED:
        return "(refused)", sender, f"{word} of {sender}: {fields.get('reason', '')}"
    if kind == RULES_KIND:
        return "(rules)", "", "new rules apply from here on"
    if word == OUTAGE_TYPE and kind == Kind.DERIVED:
        length = f"{read_ms(fields.get('outage_ms', ''), 0) / 1000:.0f} s"
        return "(outage)", "", f"no signal could be decided for {length}; all timers move by that"
    if word == TOKENS_TYPE and kind == Kind.DERIVED:
        return "(tokens)", "", f"fencing tokens go on above {fields.get('token', '')}"
    if word == "STARTED" and fields.get("task"):
        payload = {"task": fields["task"], **payload}
    if word == "TASKS_ADDED" and isinstance(tasks := payload.get("tasks"), list):
        named = [task.get("id") for task in tasks if isinstance(task, dict)]
        payload = {**payload, "tasks": named}
    to = fields.get("to", "")
    if kind == Kind.DIRECTIVE:
        said = _said(_DIRECTIVES.get(word, (f"{{a}} is told {word}",)), to, payload)
        return _directive_name(word, payload), to, said
    which = word
    if word == "DECIDED" and sender == SYNTHESIZER:
        which = "closed"
    elif word == "CONFLICT_DETECTED" and payload.get("kind") == FINDING:
        which = "contradiction"
    elif word == "CONFLICT_DETECTED" and payload.get("kind") == MERGE:
        which = "tried" if payload.get("copies") else "copies"
    elif word == "SAME_AS" and isinstance(keys := payload.get("keys"), list) and keys:
        verb = "is" if len(keys) == 2 else "are"
        same = f"{verb} not the same as" if payload.get("distinct") else f"{verb} the same as"
        payload = {**payload, "key": keys[0], "others": keys[1:], "same": same}
    said = _said(_SIGNALS.get(which, (f"{{a}} says {word}",)), sender, payload)
    if kind == Kind.DERIVED and to:
        said += " (to all)" if to == EVERYONE else f" (to {to})"
    return shorthand(word, payload), sender, said


def _agents(kind: str, word: str, agent: str, payload: Payload) -> tuple[str, ...]:
    """Return the agents of a row: a conflict and a barrier have several."""
    several: Any = None
    if word == "CONFLICT_DETECTED" and kind != Kind.REFUSED:
        several = payload.get("agents")
    elif word in ("PAUSE", "RESUME") and agent == EVERYONE:
        several = payload.get("members")
    if isinstance(several, list) and several:
        return tuple(dict.fromkeys(map(str, several)))
    return (agent,)


def _is_contended(payload: Payload) -> bool:
    """Whether other agents wait for what this grant gives."""
    waiting = payload.get("waiting")
    return isinstance(waiting, int) and waiting > 0


def _directive_name(word: str, payload: Payload) -> str:
    if word == "RESUME" and payload.get("dependency"):
        return "(auto-resume)"
    if word == "PAUSE" and payload.get("barrier"):
        return "(barrier)"
    if word == "PROCEED" and payload.get("barrier"):
        return "(integrate)"
    return "(serialize)" if word == "PROCEED" and _is_contended(payload) else f"({word.lower()})"


# Sentences: fields of the payload in braces; a part in brackets is left out if its field is empty.
# Of several, the first one holds whose fields outside of brackets are all given, or else the last.
# {a} is the agent.

#: Directive → sentences about its recipient.
_DIRECTIVES = {
    "RESUME": (
        "{a} continues: {dependency} is there",
        "{a} continues with {resources}",
        "{continuing}: the integration {barrier} is over",
        "{a} continues[: {reason}]",
    ),
    "PROCEED": ("{a} integrates {barrier}", "{a} gets {resources}[ (token {token})]"),
    "WAIT": ("{a} waits for {resources}[, which {holder} has][ (position {position})]",),
    "PAUSE": ("{continuing} to {whose} next checkpoint, for {barrier}", "{a} pauses[: {reason}]"),
    "NUDGE": ("{a} is told that {waiting} needs {on}",),
    "ASSIGN": (
        "{a} is offered {task}[ of {from_stream}]",
        "{a} is offered work[ of {from_stream}]",
    ),
    "CANCEL": ("{a} is refused {refused}[: {reason}]", "{a} must stop[: {reason}]"),
    "DECISION": ("{a} gets the answer: {decision}[, from {by}]",),
    "NOTICE": ("{a} is told[: {reason}]",),
}

#: Signal → sentences about its sender.
_SIGNALS = {
    "STARTED": ("{a} begins work[ on {task}]",),
    "PROGRESS": ("{a} reports progress[: {checkpoint}]",),
    "PARTIAL_RESULT": ("{a} hands over findings[: {checkpoint}]",),
    "BLOCKED": ("{a} needs {on}[: {reason}]",),
    "COMPLETED": ("{a} is done",),
    "FAILED": ("{a} fails[: {error}]",),
    "CHECKPOINT_REACHED": ("{a} reaches a safe point[: {checkpoint}]",),
    "DEPENDENCY_RESOLVED": ("{a} completes {dependency_id}[: {output_location}]",),
    "CONFLICT_DETECTED": (
        "{agents} want {resources}",
        "{agents} want the same resources",
        "{a} reports a conflict[: {resources}]",
    ),
    "copies": ("{agents} write {resources}, each in a copy", "{a} reports a conflict"),
    "tried": (
        "git cannot merge {resources} of {agents}",
        "git cannot merge {resources}[; it can merge {clean}]",
        "git can merge {clean}",
    ),
    "contradiction": (
        "{agents} give different values for {resources}",
        "{agents} give different values for one thing",
        "{a} reports a conflict[: {resources}]",
    ),
    "INTEGRATION_REQUIRED": ("{a} calls for integration[: {name}]",),
    "EARLY_COMPLETION": ("{a} is ahead and has capacity",),
    "ESCALATE": ("{a} asks[: {question}]",),
    "INTENT": (
        "{a} is about to write {writes}[ and read {reads}]",
        "{a} is about to write nothing[ and read {reads}]",
    ),
    "RELEASE": ("{a} releases {resources}", "{a} releases everything"),
    "INTEGRATED": ("{a} has integrated[ {name}]",),
    "DECIDED": ("{a} decides {escalation}[: {decision}]",),
    "closed": ("{escalation} is closed[: {decision}]",),
    "SYNTHESIZED": ("the synthesis is final: revision {revision}",),
    "TASKS_ADDED": ("{a} adds {tasks} to the board",),
    "TASK_DONE": ("{a} has done {task}", "{a} has done a task"),
    "TASK_RETRY": ("{a} has {task} done again", "{a} has a task done again"),
    "RUN_CLOSED": ("{a} closes the run[: {reason}]",),
    "RUN_OPENED": ("{a} opens a new run",),
    "AGENTS_EXPECTED": ("{a} expects {agents}",),
    "RENAMED": ("{a}: {from} is now {to}",),
    "SAME_AS": ("{a}: {others} {same} {key}", "{a} relates findings to each other[: {keys}]"),
    "RUN_PURGED": ("{a} deletes the session",),
    "REFINED": ("{refiner} has refined revision {revision}",),
}

#: A part in brackets with its one field; or a field alone.
_PART = re.compile(r"\[([^{]*)\{(\w+)\}(.*?)\]|\{(\w+)\}")


def _said(sentences: Sequence[str], agent: str, payload: Payload) -> str:
    """Return the first sentence that fits, with its fields filled in."""
    values: dict[str, Any] = {"refiner": agent, **payload, "a": agent}
    named = ("resources", "dependency", "barrier", "escalation", "task")
    values["refused"] = next((payload[name] for name in named if payload.get(name)), None)
    members = payload.get("members")
    is_one = agent != EVERYONE or (isinstance(members, list) and len(members) == 1)
    who = agent if agent != EVERYONE else _names(members) or "all"
    values["continuing"] = f"{who} continues" if is_one else f"{who} continue"
    values["whose"] = "its" if is_one else "their"

    def fits(sentence: str) -> bool:
        needed = {found[4] for found in _PART.finditer(sentence)} - {None, "a"}
        return all(map(values.get, needed))

    def fill(found: re.Match[str]) -> str:
        before, name, after, alone = found.groups()
        text = _names(values.get(name or alone))
        return text if alone or not text else before + text + after

    return _PART.sub(fill, next(filter(fits, sentences), sentences[-1]))


def _names(value: Any) -> str:
    """Return the text of a field; of a list, its items within the limit."""
    if not isinstance(value, list):
        return "" if value is None else str(value)
    return joined([str(item) for item in value], chars_max=NAMES_CHARS_MAX)
