"""What is said of each signal and directive, in words: the last column of a timeline. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fabric.core.contradiction import FINDING, SYNTHESIZER
from fabric.core.decision import EVERYONE
from fabric.view.row import listed

#: Characters of names within a sentence, so that its end is not cut off with 500 of them.
NAMES_CHARS_MAX = 100

Payload = Mapping[str, Any]


def shorthand(word: str, payload: Payload) -> str:
    """Return a signal as the example writes it: `PROGRESS(25%)`, `BLOCKED(schema-change)`."""
    if word == "PROGRESS" and isinstance(payload.get("percent"), int | float):
        return f"PROGRESS({payload['percent']:g}%)"
    if word == "BLOCKED" and payload.get("on"):
        return f"BLOCKED({payload['on']})"
    return word


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


def is_contended(payload: Payload) -> bool:
    """Whether a grant keeps others waiting."""
    waiting = payload.get("waiting")
    return isinstance(waiting, int) and waiting > 0


def _proceed(payload: Payload) -> str:
    if payload.get("barrier"):
        return "(integrate)"
    return "(serialize)" if is_contended(payload) else "(proceed)"


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


def _decides(agent: str, payload: Payload) -> str:
    return f"{agent} decides {payload.get('escalation', '')}"


def _conflict(agent: str, payload: Payload) -> str:
    over = _listed(payload.get("resources"))
    if not payload.get("agents"):
        return f"{agent} sees a conflict" + (f": {over}" if over else "")
    who = _listed(payload["agents"])
    if payload.get("kind") == FINDING:
        return f"{who} say different things of {over or 'the same'}"
    return f"{who} want {over or 'the same'}"


_Name = Callable[[Payload], str]
_Action = Callable[[str, Payload], str]

#: Directive → what stands in the Signal column, and what it means for whom it is told.
DIRECTIVES: dict[str, tuple[_Name, _Action]] = {
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
ACTIONS: dict[str, _Action] = {
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
    "CONFLICT_DETECTED": _conflict,
    "INTEGRATION_REQUIRED": lambda a, p: f"{a} calls for integration" + _because(p, "name"),
    "EARLY_COMPLETION": lambda a, p: f"{a} is ahead and has capacity",
    "ESCALATE": lambda a, p: f"{a} asks" + _because(p, "question"),
    "INTENT": lambda a, p: (
        f"{a} is about to write {_listed(p.get('writes')) or 'nothing'}"
        + (f" and read {_listed(p['reads'])}" if p.get("reads") else "")
    ),
    "RELEASE": lambda a, p: f"{a} gives up {_listed(p.get('resources')) or 'what it waits for'}",
    "INTEGRATED": lambda a, p: f"{a} has integrated" + _after(p, "name", " "),
    "DECIDED": lambda a, p: (
        (f"{p.get('escalation', '')} is settled" if a == SYNTHESIZER else _decides(a, p))
        + _because(p, "decision")
    ),
    "SYNTHESIZED": lambda a, p: f"the synthesis is final: revision {p.get('revision', '')}",
    "REFINED": lambda a, p: f"{p.get('refiner', a)} has refined revision {p.get('revision', '')}",
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
