"""Log entries as the rows of a timeline, in the columns of the seeds' example session.

    Time  Signal                    Stream  Action
    0:10  BLOCKED(schema-change)    B       SCHEDULER needs schema-change
    0:15  (auto-resume)             B       SCHEDULER continues: schema-change is there

Pure: `fabric tail`, the demo's live view and its report all show these rows. Not every entry is
one: the copies that are passed on repeat their cause, a heartbeat says nothing, and what follows
from a timer has a row of its own. Of the rows, the example leaves out the details.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fabric.core.contradiction import SYNTHESIZER
from fabric.core.decision import EVERYONE, Kind
from fabric.view.row import Row, cell
from fabric.view.wording import ACTIONS, DIRECTIVES, Payload, is_contended, shorthand
from fabric.wire.record import RULES_KIND

#: Types that are no rows, unless they were refused.
_SILENT = frozenset({"HEARTBEAT", "TIMER", "RULES"})

#: Signals that only make ready for what is a row of its own, or follow from one.
_DETAILS = frozenset({"INTENT", "RELEASE"})


#: Digits of a time, ms: what 64 bits hold. More was written by hand.
MS_DIGITS_MAX = 18


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
        self._ms = read_ms(fields.get("ms", ""), self._ms)
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
        if word == "DECIDED" and agent == SYNTHESIZER and payload.get("by"):
            return True  # it repeats what somebody has decided
        if kind != Kind.DIRECTIVE:
            return kind != Kind.REFUSED and word in _DETAILS
        if word == "PROCEED":
            # Who goes first is news only where somebody has to wait, and to go on is no news of
            # whom the same event has told to resume.
            is_first = is_contended(payload) and not payload.get("barrier")
            return not is_first or agent in self._resumed
        if word == "PAUSE":
            # The conflict has a row of its own.
            return bool(payload.get("resources")) and not payload.get("barrier")
        return word in ("NUDGE", "WAIT")


def read_ms(text: str, default: int) -> int:
    """Return the time that a log entry says, ms; another one when it says none of this world."""
    return int(text) if text.isdecimal() and len(text) <= MS_DIGITS_MAX else default


def clock(ms: int, opened_ms: int) -> str:
    """Return the time since a session opened, as the example writes it: `0:05`, `75:12`."""
    seconds = max(0, ms - opened_ms) // 1000
    return f"{seconds // 60}:{seconds % 60:02}"


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
        directive = DIRECTIVES.get(word)
        if directive is None:
            return f"({word.lower()})", told, f"{told} is told {word}"
        name, action = directive
        return name(payload), told, action(told, payload)
    says = ACTIONS.get(word)
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


def _payload(text: str) -> Payload:
    try:
        value = msgspec.json.decode(text or "{}")
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
