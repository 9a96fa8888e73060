"""Log entries as the rows of a timeline, in the columns of the seeds' example session.

    Time  Signal                    Stream  Action
    0:10  BLOCKED(schema-change)    B       SCHEDULER needs schema-change
    0:15  (auto-resume)             B       SCHEDULER continues: schema-change is there

Pure: `fabric tail`, the demo's live view and its report all show these rows. Not every entry is
one: the copies that are passed on repeat their cause, a heartbeat says nothing, and what follows
from a timer has a row of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from fabric.core.decision import EVERYONE, Kind

#: Characters of one cell. What agents say can be long; the log has all of it.
CELL_CHARS_MAX = 200

#: Types that are no rows, unless they were refused.
_SILENT = frozenset({"HEARTBEAT", "TIMER"})

Payload = Mapping[str, Any]


class Row(NamedTuple):
    """One event of a session. `ms` is server time; `agent` who speaks, or who is spoken to."""

    id: str
    ms: int
    signal: str
    stream: str
    agent: str
    action: str


class Timeline:
    """Turns log entries into rows, in order; learns from them which agent is in which stream.

    `streams` is what is known before the first entry: agent → stream.
    """

    def __init__(self, streams: Mapping[str, str] | None = None) -> None:
        self._streams = dict(streams or {})
        self._ms = 0

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
        forwarded = kind == Kind.DIRECTIVE and "payload" not in fields
        if forwarded or (word in _SILENT and kind != Kind.REFUSED):
            return None
        signal, agent, action = _say(kind, word, speaker, fields)
        return Row(
            entry_id.decode("ascii", "replace"),
            self._ms,
            _cell(signal),
            _cell(self._streams.get(agent, "")),
            _cell(agent),
            _cell(action),
        )


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


def _say(kind: str, word: str, speaker: str, fields: dict[str, str]) -> tuple[str, str, str]:
    """Return signal, agent and action of an entry."""
    payload = _payload(fields.get("payload", ""))
    if kind == Kind.REFUSED:
        return "(refused)", speaker, f"{word} of {speaker}: {fields.get('reason', '')}"
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


def _resume(payload: Payload) -> str:
    return "(auto-resume)" if payload.get("dependency") else "(resume)"


def _continues(agent: str, payload: Payload) -> str:
    if payload.get("dependency"):
        return f"{agent} continues: {payload['dependency']} is there"
    if payload.get("resources"):
        return f"{agent} continues with {_listed(payload['resources'])}"
    if payload.get("barrier"):
        return f"{agent} continues: the integration {payload['barrier']} is over"
    return f"{agent} continues" + _because(payload, "reason")


def _proceeds(agent: str, payload: Payload) -> str:
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
        return f"{agent} goes on to its next checkpoint, for {payload['barrier']}"
    return f"{agent} pauses" + _because(payload, "reason")


_Name = Callable[[Payload], str]
_Action = Callable[[str, Payload], str]

#: Directive → what stands in the Signal column, and what it means for whom it is told.
_DIRECTIVES: dict[str, tuple[_Name, _Action]] = {
    "RESUME": (_resume, _continues),
    "PROCEED": (lambda p: "(serialize)", _proceeds),
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
        f"{_listed(p.get('agents')) or a} want {_listed(p.get('resources')) or 'the same'}"
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
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _payload(text: str) -> Payload:
    try:
        value = msgspec.json.decode(text or "{}")
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _cell(text: str) -> str:
    """Return a text as one line: agents may have put anything into it, for a terminal too."""
    line = " ".join(text.split()) if not text.isprintable() else text
    line = "".join(c if c.isprintable() else "·" for c in line)
    return line if len(line) <= CELL_CHARS_MAX else line[: CELL_CHARS_MAX - 1] + "…"
