"""A handoff: what it holds, what is taken from the log for it, and the part that a file carries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from fabric.core.record import (
    AgentRecord,
    BarrierRecord,
    ClaimRecord,
    DependencyRecord,
    DependencyStatus,
    EscalationRecord,
)
from fabric.core.signal import SignalType
from fabric.core.task import TaskRecord, TaskSpec
from fabric.errors import CallerError

#: Entries of the log that the document shows, the last ones.
LOG_SHOWN_MAX = 50

#: Notes and checkpoints kept of the log, the last ones.
NOTES_MAX = 100

#: Bytes of a handoff that is read: 50,000 tasks with texts fit.
FILE_BYTES_MAX = 64 * 1024 * 1024

#: The line of the document that the next session is made from, between its fences.
_CARRIED = re.compile(r'^(`{3,})json\n(\{"fabric_handoff":.*\})\n\1$', re.MULTILINE)


class Output(Struct, frozen=True):
    """What an agent has produced, and where it is."""

    name: str
    location: str | None = None


class Question(Struct, frozen=True):
    """An agent's question, with the decision if there is one."""

    id: str
    question: str
    asker: str
    options: list[str] = []
    decision: str = ""
    by: str = ""


class Carried(Struct, frozen=True):
    """What the next session is made from; `fabric_handoff` is the format's version."""

    fabric_handoff: int
    session: str
    tasks: list[TaskSpec]
    outputs: list[Output]
    questions: list[Question]


class Told(Struct):
    """What the log tells besides the records: as agents have reported it, by agent."""

    #: Agent → the last `git` object of its payloads: branch, base, commit, files.
    git: dict[str, dict[str, Any]] = {}
    files: dict[str, None] = {}
    #: Log id, time, agent, text.
    notes: list[tuple[str, int, str, str]] = []
    checkpoints: list[tuple[str, int, str, str]] = []
    entries: list[tuple[str, int, str, str, str]] = []
    ms: int = 0


class Handoff(Struct):
    """All of a session's handoff; `log` and `ms` are those of its last event."""

    session: str
    log: str
    opened_ms: int
    agents: dict[str, AgentRecord]
    tasks: dict[str, TaskRecord]
    dependencies: dict[str, DependencyRecord]
    claims: dict[str, ClaimRecord]
    barriers: dict[str, BarrierRecord]
    questions: dict[str, EscalationRecord]
    told: Told = field(default_factory=Told)


def read(text: bytes, name: str) -> Carried:
    """Return what a handoff's document carries. Raises CallerError if it is none."""
    if len(text) > FILE_BYTES_MAX:
        raise CallerError(f"{name} is no handoff: over {FILE_BYTES_MAX:,} bytes")
    found = _CARRIED.findall(text.decode("utf-8", "replace").replace("\r\n", "\n"))
    if not found:
        raise CallerError(f"{name} is no handoff: it lacks the JSON that `fabric handoff` writes")
    try:
        return msgspec.json.decode(found[-1][1], type=Carried)
    except msgspec.MsgspecError as error:
        raise CallerError(f"{name} is no handoff: {error}") from None


def note(told: Told, entry_id: str, fields: Mapping[str, str]) -> None:
    """Take from a log entry what the document needs."""
    ms = int(fields["ms"]) if fields.get("ms", "").isdecimal() else told.ms
    told.ms = max(told.ms, ms)
    kind, who = fields.get("type", ""), fields.get("emitter", "")
    if not entry_id.endswith("-0"):
        return
    told.entries = [
        *told.entries[1 - LOG_SHOWN_MAX :],
        (entry_id, ms, who, kind, fields.get("payload", "")),
    ]
    try:
        payload = msgspec.json.decode(fields.get("payload") or "{}")
    except msgspec.MsgspecError:
        return
    if not isinstance(payload, dict):
        return
    if isinstance(payload.get("note"), str):
        told.notes = [*told.notes[1 - NOTES_MAX :], (entry_id, ms, who, payload["note"])]
    if kind == SignalType.CHECKPOINT_REACHED:
        name = str(payload.get("checkpoint") or "")
        told.checkpoints = [*told.checkpoints[1 - NOTES_MAX :], (entry_id, ms, who, name)]
    git = payload.get("git")
    if isinstance(git, dict):
        known = told.git.setdefault(who, {})
        known.update({name: one for name, one in git.items() if isinstance(one, str)})
        files = git.get("files")
        told.files.update(dict.fromkeys(map(str, files if isinstance(files, list) else ())))


def waits(handoff: Handoff) -> Iterable[tuple[str, str, list[str]]]:
    """Yield what agents wait for: its name, its status, and the agents."""
    for name, one in handoff.dependencies.items():
        if one.waiters and one.status is not DependencyStatus.RESOLVED:
            yield name, str(one.status), list(one.waiters)
    for name, asked in handoff.questions.items():
        if asked.is_open:
            yield name, "question", asked.waiting or [asked.asker]
