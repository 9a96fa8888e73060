"""A session's handoff as one Markdown document."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec

from fabric.core.escalation import DIGEST
from fabric.core.limits import listed
from fabric.core.record import ENDED, BarrierState, ClaimState, DependencyStatus
from fabric.core.task import Backlog, TaskStatus
from fabric.view.markdown import block, prose, table, text
from fabric.view.text import clock, rfc3339
from fabric.wire.handoff import Carried, Handoff, waits

#: Characters shown of a payload of the signal log.
PAYLOAD_CHARS_MAX = 120


def document(handoff: Handoff, carried: Carried) -> list[str]:
    """Return the lines of the document; its last block is what the next session is made from."""
    lines = [f"# Handoff of session {text(handoff.session)}", ""]
    for title, found in (
        ("Configuration", _configuration(handoff)),
        ("Streams", _streams(handoff)),
        ("Agents", _agents(handoff)),
        ("Tasks", _tasks(handoff)),
        ("Checkpoints", _checkpoints(handoff)),
        ("Blockers", _blockers(handoff)),
        ("Key decisions", _decisions(handoff)),
        ("Reservations", _reservations(handoff)),
        ("Files modified", [f"- {text(name)}" for name in sorted(handoff.told.files)]),
        ("Notes for the next session", _notes(handoff)),
        ("Signal log", _log(handoff)),
    ):
        lines += [f"## {title}", "", *(found or ["None."]), ""]
    # ASCII alone, on one line: nothing in it can end the block, or be shown differently.
    one_line = json.dumps(msgspec.to_builtins(carried), separators=(",", ":"))
    lines += ["## For `fabric handoff --resume`", "", *block([one_line], "json")]
    return lines


def _at(handoff: Handoff, ms: int) -> str:
    return clock(ms, handoff.opened_ms)


def _configuration(handoff: Handoff) -> list[str]:
    git = handoff.told.git
    lines = [
        f"- after log entry {text(handoff.log)}, of {rfc3339(handoff.told.ms)}",
        f"- opened at {rfc3339(handoff.opened_ms)}",
    ]
    for name, label in (("branch", "branch"), ("base", "base commit")):
        found = sorted({one[name] for one in git.values() if name in one})
        lines.append(f"- {label}: {', '.join(map(text, found)) if found else 'not reported'}")
    planned = [name for name, one in handoff.barriers.items() if one.state is not BarrierState.OVER]
    lines.append(f"- integrations to come: {text(listed(planned)) if planned else 'none'}")
    return lines


def _streams(handoff: Handoff) -> list[str]:
    streams = {one.stream for one in handoff.agents.values()}
    streams |= {one.stream for one in handoff.tasks.values()}
    backlog = Backlog(handoff.tasks)
    ready = list(backlog.ready())
    rows = []
    for stream in sorted(streams):
        mine = {name: one for name, one in handoff.tasks.items() if one.stream == stream}
        done = sum(one.progress_percent for one in mine.values())
        running = [name for name, one in mine.items() if one.status is TaskStatus.IN_PROGRESS]
        agents = {name: one for name, one in handoff.agents.items() if one.stream == stream}
        commits = [
            handoff.told.git[name]["commit"]
            for name in sorted(agents)
            if "commit" in handoff.told.git.get(name, {})
        ]
        blocked = sorted({on for one in agents.values() for on in (*one.waits_for, *one.asks)})
        following = [name for name in ready if name in mine]
        nexts = running or following[:1]
        rows.append(
            [
                text(stream) or "(none)",
                f"{done / len(mine):.0f} %" if mine else "",
                text(", ".join(commits)),
                text(listed(running)),
                text(listed(blocked)),
                text(f"{'finish' if running else 'begin'} {listed(nexts)}") if nexts else "",
            ]
        )
    head = ("stream", "progress", "last commit", "current task", "blocked by", "next action")
    return table(head, rows) if rows else []


def _agents(handoff: Handoff) -> list[str]:
    rows = []
    for name, one in sorted(handoff.agents.items()):
        percent = f"{one.percent:g} %" if one.percent is not None else ""
        status = str(one.status) if one.status in ENDED else f"{one.status}, cut off if it is gone"
        commit = handoff.told.git.get(name, {}).get("commit", "")
        heard = f"{_at(handoff, one.seen_ms)}, {one.last_signal}"
        cells = (name, one.stream, status, one.task, one.checkpoint, commit, heard)
        rows.append([*map(text, cells[:4]), percent, *map(text, cells[4:])])
    head = ("agent", "stream", "status", "task", "done", "checkpoint", "commit", "last heard")
    return table(head, rows) if rows else []


def _tasks(handoff: Handoff) -> list[str]:
    backlog = Backlog(handoff.tasks)
    rows = []
    for name, one in sorted(handoff.tasks.items(), key=lambda item: (item[1].added, item[1].place)):
        found = "; ".join(one.partial_findings)
        waiting = listed(backlog.missing(name))
        terminal = str(one.terminal or "")
        cells = (name, one.stream, terminal, one.status, one.agent, waiting, one.content, found)
        rows.append([*map(text, cells[:4]), f"{one.progress_percent:g} %", *map(text, cells[4:])])
    names = "task stream terminal status done agent waits_for content findings"
    return table([name.replace("_", " ") for name in names.split()], rows) if rows else []


def _checkpoints(handoff: Handoff) -> list[str]:
    return [
        f"- {_at(handoff, ms)} {text(who)}: {text(name)} ({entry_id})"
        for entry_id, ms, who, name in handoff.told.checkpoints
    ]


def _blockers(handoff: Handoff) -> list[str]:
    lines = [
        f"- active: {text(name)} ({text(kind)}), for {text(listed(sorted(agents)))}"
        + (f": {prose(handoff.questions[name].question)}" if kind == "question" else "")
        for name, kind, agents in waits(handoff)
    ]
    for name, one in handoff.dependencies.items():
        if one.status is DependencyStatus.RESOLVED:
            where = f" at {text(one.location)}" if one.location else ""
            lines.append(f"- resolved: {text(name)}{where}, by {text(one.resolved_by)}")
    return lines


def _decisions(handoff: Handoff) -> list[str]:
    return [
        f"- {prose(one.question)} — {text(one.decision)}, by {text(one.by)} "
        f"at {_at(handoff, one.decided_ms)}"
        for one in handoff.questions.values()
        if one.decision and one.subject != DIGEST
    ]


def _reservations(handoff: Handoff) -> list[str]:
    return [
        f"- {text(one.agent)} had {text(listed(one.writes or one.reads))} (token {one.token})"
        for one in handoff.claims.values()
        if one.state is ClaimState.HELD
    ]


def _notes(handoff: Handoff) -> list[str]:
    lines = [
        f"- {_at(handoff, ms)} {text(who)}: {text(note)}" for _, ms, who, note in handoff.told.notes
    ]
    ready = list(Backlog(handoff.tasks).ready())
    if ready:
        lines.append(f"- ready to begin: {text(listed(ready))}")
    failed = [name for name, one in handoff.tasks.items() if one.status is TaskStatus.FAILED]
    if failed:
        lines.append(f"- failed, until somebody says `retry`: {text(listed(failed))}")
    return lines


def _log(handoff: Handoff) -> list[str]:
    return block(_log_lines(handoff)) if handoff.told.entries else []


def _log_lines(handoff: Handoff) -> Iterator[str]:
    for entry_id, ms, who, kind, payload in handoff.told.entries:
        shown = payload if len(payload) <= PAYLOAD_CHARS_MAX else payload[:PAYLOAD_CHARS_MAX] + "…"
        yield f"{entry_id}  {_at(handoff, ms)}  {who}  {kind}  {shown}"
