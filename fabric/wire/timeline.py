"""Log entries as the rows of a timeline, in the columns of the seeds' example session.

    Time  Signal                    Stream  Action
    0:10  BLOCKED(schema-change)    B       SCHEDULER needs schema-change
    0:15  (auto-resume)             B       SCHEDULER continues: schema-change is there

Pure: `fabric tail`, the demo's live view and its report all show these rows. Not every entry is
one: the copies that are passed on repeat their cause, a heartbeat says nothing, and what follows
from a timer has a row of its own. Of the rows, the example leaves out the details.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from fabric.core.decision import EVERYONE, Kind
from fabric.wire.record import RULES_KIND
from fabric.wire.row import Row, cell, listed

#: Characters of names within a sentence, so that its end is not cut off with 500 of them.
NAMES_CHARS_MAX = 100

#: Types that are no rows, unless they were refused.
_SILENT = frozenset({"HEARTBEAT", "TIMER", "RULES"})

#: Signals that only make ready for what is a row of its own, or follow from one.
_DETAILS = frozenset({"INTENT", "RELEASE"})

Payload = Mapping[str, Any]


class Timeline:
    """Turns log entries into rows, in order; learns from them which agent is in which stream.

    `streams` is what is known before the first entry: agent → stream.
    """

    def __init__(self, streams: Mapping[str, str] | None = None) -> None:
        self._streams = dict(streams or {})
        self._ms = 0
        #: The event that entries are read of, and whom it has told to resume.
        self._cause = ""
        self._resumed: set[str] = set()
        #: Barrier → its members: all are told together when it is over.
        self._members: dict[str, Any] = {}

    def row(self, entry_id: bytes, flat: list[bytes]) -> Row | None:
        """Return the row of the next entry; None when it is none. Takes whatever a log holds."""
        fields = {
            _text(name): _text(value) for name, value in zip(flat[::2], flat[1::2], strict=False)
        }
        kind, word = fields.get("kind", ""), fields.get("type", "")
        speaker = fields.get("emitter") or fields.get("from", "")
        if kind == Kind.SIGNAL and fields.get("stream"):
            self._streams[speaker] = fields["stream"]
        if fields.get("ms", "").isdecimal():
            self._ms = int(fields["ms"])
        if fields.get("cause", "") != self._cause:
            self._cause = fields.get("cause", "")
            self._resumed.clear()
        forwarded = kind == Kind.DIRECTIVE and "payload" not in fields
        if forwarded or (word in _SILENT and kind != Kind.REFUSED):
            return None
        payload = _payload(fields.get("payload", ""))
        signal, agent, action = _say(kind, word, speaker, payload, fields)
        if kind == Kind.DIRECTIVE and word == "RESUME":
            self._resumed.add(agent)
        barrier = str(payload.get("barrier", ""))
        if word == "PAUSE" and agent == EVERYONE:
            self._members[barrier] = payload.get("members")
        elif word == "RESUME" and agent == EVERYONE:
            payload = {**payload, "members": self._members.pop(barrier, None)}
        agents = _concerned(kind, word, agent, payload)
        streams = (cell(self._streams.get(name, "")) for name in agents)
        return Row(
            entry_id.decode("ascii", "replace"),
            self._ms,
            cell(signal),
            tuple(dict.fromkeys(filter(None, streams))),
            tuple(map(cell, agents)),
            cell(action),
            is_detail=self._is_detail(kind, word, agent, payload),
        )

    def _is_detail(self, kind: str, word: str, agent: str, payload: Payload) -> bool:
        """Say whether a row is one that the example leaves out."""
        if kind != Kind.DIRECTIVE:
            return kind != Kind.REFUSED and word in _DETAILS
        if word == "PROCEED":
            # Who goes first is news only where somebody has to wait, and to go on is no news of
            # whom the same event has told to resume.
            is_first = _is_contended(payload) and not payload.get("barrier")
            return not is_first or agent in self._resumed
        if word == "PAUSE":
            # The conflict has a row of its own.
            return bool(payload.get("resources")) and not payload.get("barrier")
        return word in ("NUDGE", "WAIT")


def clock(ms: int, opened_ms: int) -> str:
    """Return the time since a session opened, as the example writes it: `0:05`, `75:12`."""
    seconds = max(0, ms - opened_ms) // 1000
    return f"{seconds // 60}:{seconds % 60:02}"


def shorthand(word: str, payload: Payload) -> str:
    """Return a signal as the example writes it: `PROGRESS(25%)`, `BLOCKED(schema-change)`."""
    if word == "PROGRESS" and isinstance(payload.get("percent"), int | float):
        return f"PROGRESS({payload['percent']:g}%)"
    if word == "BLOCKED" and payload.get("on"):
        return f"BLOCKED({payload['on']})"
    return word


def _say(
    kind: str, word: str, speaker: str, payload: Payload, fields: Mapping[str, str]
) -> tuple[str, str, str]:
    """Return signal, agent and action of an entry."""
    if kind == Kind.REFUSED:
        return "(refused)", speaker, f"{word} of {speaker}: {fields.get('reason', '')}"
    if kind == RULES_KIND:
        return "(rules)", "", "other rules are in force from here on"
    if word == "STARTED" and fields.get("task"):
        payload = {"task": fields["task"], **payload}
    told = fields.get("to", "")
    if kind == Kind.DIRECTIVE:
        directive = _DIRECTIVES.get(word)
        if directive is None:
            return f"({word.lower()})", told, f"{told} is told {word}"
        name, action = directive
        return name(payload), told, action(told, payload)
    says = _ACTIONS.get(word)
    said = says(speaker, payload) if says is not None else f"{speaker} says {word}"
    if kind == Kind.DERIVED and told:
        said += " (to all)" if told == EVERYONE else f" (to {told})"
    return shorthand(word, payload), speaker, said


def _concerned(kind: str, word: str, agent: str, payload: Payload) -> tuple[str, ...]:
    """Return the agents of whom a row tells: a conflict and a barrier have several."""
    several: Any = None
    if word == "CONFLICT_DETECTED" and kind != Kind.REFUSED:
        several = payload.get("agents")
    elif word in ("PAUSE", "RESUME") and agent == EVERYONE:
        several = payload.get("members")
    if isinstance(several, list) and several:
        return tuple(dict.fromkeys(map(str, several)))
    return (agent,)


def _resume(payload: Payload) -> str:
    return "(auto-resume)" if payload.get("dependency") else "(resume)"


def _continues(agent: str, payload: Payload) -> str:
    if payload.get("dependency"):
        return f"{agent} continues: {payload['dependency']} is there"
    if payload.get("resources"):
        return f"{agent} continues with {_listed(payload['resources'])}"
    if payload.get("barrier"):
        who = "all continue" if agent == EVERYONE else f"{agent} continues"
        return f"{who}: the integration {payload['barrier']} is over"
    return f"{agent} continues" + _because(payload, "reason")


def _is_contended(payload: Payload) -> bool:
    waiting = payload.get("waiting")
    return isinstance(waiting, int) and waiting > 0


def _proceed(payload: Payload) -> str:
    if payload.get("barrier"):
        return "(integrate)"
    return "(serialize)" if _is_contended(payload) else "(proceed)"


def _proceeds(agent: str, payload: Payload) -> str:
    if payload.get("barrier"):
        return f"{agent} integrates {payload['barrier']}"
    token = payload.get("token")
    end = f" (token {token})" if token is not None else ""
    return f"{agent} gets {_listed(payload.get('resources'))}{end}"


def _waits(agent: str, payload: Payload) -> str:
    text = f"{agent} waits for {_listed(payload.get('resources'))}"
    if payload.get("holder"):
        text += f", which {payload['holder']} has"
    if payload.get("position") is not None:
        text += f" (position {payload['position']})"
    return text


def _pauses(agent: str, payload: Payload) -> str:
    if payload.get("barrier"):
        if agent != EVERYONE:
            return f"{agent} goes on to its next checkpoint, for {payload['barrier']}"
        given = payload.get("members")
        members = _listed(given) or "all"
        is_one = isinstance(given, list) and len(given) == 1
        how = "goes on to its" if is_one else "go on to their"
        return f"{members} {how} next checkpoint, for {payload['barrier']}"
    return f"{agent} pauses" + _because(payload, "reason")


_Name = Callable[[Payload], str]
_Action = Callable[[str, Payload], str]

#: Directive → what stands in the Signal column, and what it means for whom it is told.
_DIRECTIVES: dict[str, tuple[_Name, _Action]] = {
    "RESUME": (_resume, _continues),
    "PROCEED": (_proceed, _proceeds),
    "WAIT": (lambda p: "(wait)", _waits),
    "PAUSE": (lambda p: "(barrier)" if p.get("barrier") else "(pause)", _pauses),
    "NUDGE": (
        lambda p: "(nudge)",
        lambda a, p: f"{a} hears that {_listed(p.get('waiting'))} needs {p.get('on', '')}",
    ),
    "ASSIGN": (
        lambda p: "(assign)",
        lambda a, p: f"{a} is given {p.get('task', 'work')}" + _after(p, "from_stream", " of "),
    ),
    "CANCEL": (lambda p: "(cancel)", lambda a, p: f"{a} is to stop" + _because(p, "reason")),
    "DECISION": (
        lambda p: "(decision)",
        lambda a, p: f"{a} is told: {p.get('decision', '')}" + _after(p, "by", ", says "),
    ),
    "NOTICE": (lambda p: "(notice)", lambda a, p: f"{a} hears" + _because(p, "reason")),
}

#: Signal → what its emitter does.
_ACTIONS: dict[str, _Action] = {
    "STARTED": lambda a, p: f"{a} begins work" + _after(p, "task", " on "),
    "PROGRESS": lambda a, p: f"{a} reports progress" + _because(p, "checkpoint"),
    "PARTIAL_RESULT": lambda a, p: f"{a} hands over findings" + _because(p, "checkpoint"),
    "BLOCKED": lambda a, p: f"{a} needs {p.get('on', '')}" + _because(p, "reason"),
    "COMPLETED": lambda a, p: f"{a} is done",
    "FAILED": lambda a, p: f"{a} fails" + _because(p, "error"),
    "CHECKPOINT_REACHED": lambda a, p: f"{a} reaches a safe point" + _because(p, "checkpoint"),
    "DEPENDENCY_RESOLVED": lambda a, p: (
        f"{a} completes {p.get('dependency_id', '')}" + _because(p, "output_location")
    ),
    "CONFLICT_DETECTED": lambda a, p: (
        f"{_listed(p['agents'])} want {_listed(p.get('resources')) or 'the same'}"
        if p.get("agents")
        else f"{a} sees a conflict" + _because({"over": _listed(p.get("resources"))}, "over")
    ),
    "INTEGRATION_REQUIRED": lambda a, p: f"{a} calls for integration" + _because(p, "name"),
    "EARLY_COMPLETION": lambda a, p: f"{a} is ahead and has capacity",
    "ESCALATE": lambda a, p: f"{a} asks" + _because(p, "question"),
    "INTENT": lambda a, p: (
        f"{a} is about to write {_listed(p.get('writes')) or 'nothing'}"
        + (f" and read {_listed(p['reads'])}" if p.get("reads") else "")
    ),
    "RELEASE": lambda a, p: f"{a} gives up {_listed(p.get('resources')) or 'what it waits for'}",
    "INTEGRATED": lambda a, p: f"{a} has integrated" + _after(p, "name", " "),
    "DECIDED": lambda a, p: f"{a} decides {p.get('escalation', '')}" + _because(p, "decision"),
}


def _because(payload: Payload, field: str) -> str:
    return _after(payload, field, ": ")


def _after(payload: Payload, field: str, separator: str) -> str:
    value = payload.get(field)
    return f"{separator}{value}" if value not in (None, "") else ""


def _listed(value: Any) -> str:
    if not isinstance(value, list):
        return str(value or "")
    return listed([str(item) for item in value], chars_max=NAMES_CHARS_MAX)


def _payload(text: str) -> Payload:
    try:
        value = msgspec.json.decode(text or "{}")
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
