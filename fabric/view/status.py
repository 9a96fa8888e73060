"""The state of a session as tables: `fabric status`, and `fabric replay --until`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fabric.core import record
from fabric.core.agent_status import missing
from fabric.core.limits import listed
from fabric.core.record import AgentRecord, BarrierRecord, BarrierState, ClaimRecord, ClaimState
from fabric.core.session import SessionState
from fabric.view.text import ago, clock, counted, plain, table

#: Kinds of records in the order in which a rebuilt session shows them → their columns.
REBUILT = {
    "agents": "status incarnation percent checkpoint task waits_for claims asks error",
    "tasks": "status progress_percent agent checkpoint",
    "dependencies": "status location producers waiters",
    "claims": "state agent writes reads token",
    "barriers": "state generation leader members arrived held",
    "escalations": "state asker question waiting decision by",
}

#: The columns of the tables.
_AGENTS = ("AGENT", "STATUS", "DONE", "CHECKPOINT", "TASK", "WAITS FOR / ERROR", "LAST HEARD")
_DEPENDENCIES = ("NAME", "STATUS", "LOCATION", "PRODUCED BY", "AWAITED BY")
_TASKS = ("TASK", "STATUS", "DONE", "AGENT", "CHECKPOINT")
_RESOURCES = ("RESOURCE", "HELD BY", "TOKEN", "AWAITED BY")
_BARRIERS = ("BARRIER", "STATE", "LEADER", "ARRIVED", "MISSING")


def session_lines(
    name: str,
    agents: Mapping[str, AgentRecord],
    dependencies: Mapping[str, record.DependencyRecord],
    tasks: Mapping[str, record.TaskRecord],
    claims: Mapping[str, ClaimRecord],
    barriers: Mapping[str, BarrierRecord],
    questions: Mapping[str, record.EscalationRecord],
) -> list[str]:
    """Return a session's present state: agents by stream, then whatever else there is."""
    waiting = waits(agents, claims, barriers)
    lines: list[str] = []
    for stream in sorted({agent.stream for agent in agents.values()}):
        members = {who: agent for who, agent in agents.items() if agent.stream == stream}
        title = f"Stream {plain(stream)}" if stream else "No stream"
        lines += _section(title, _AGENTS, _agents(members, waiting))
    needed: list[list[str]] = []
    for key, one in dependencies.items():
        agents_named = [", ".join(one.producers), ", ".join(one.waiters)]
        needed.append([key, one.status.value, one.location or "", *agents_named])
    lines += _section("Dependencies", _DEPENDENCIES, needed)
    assigned = [
        [key, task.status, _percent(task.progress_percent), task.agent, task.checkpoint]
        for key, task in tasks.items()
    ]
    lines += _section("Tasks", _TASKS, assigned)
    lines += _section("Resources", _RESOURCES, _resources(claims))
    meetings = []
    for key, barrier in barriers.items():
        if barrier.state is not BarrierState.OVER:
            arrived = f"{len(barrier.arrived)} of {len(barrier.members)}"
            absent = listed(missing(barrier))
            meetings.append([key, barrier.state.value, barrier.leader, arrived, absent])
    lines += _section("Barriers", _BARRIERS, meetings)
    asked = sum(one.state is record.EscalationState.OPEN for one in questions.values())
    if asked:
        lines += [f"{counted(asked, 'open question')}: fabric escalations {plain(name)}", ""]
    return lines[:-1]


def rebuilt_lines(session: SessionState) -> list[str]:
    """Return a session that was rebuilt from its log: a table for each kind of record."""
    at = clock(session.clock_ms, session.opened_ms)
    lines = [plain(f"{session.name} at {at}, after {session.log}-0")]
    for kind, columns in REBUILT.items():
        records: dict[str, Any] = getattr(session, kind).records
        if records:
            lines += ["", kind.capitalize(), *_records(records, columns.split())]
    return lines


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [title, *table(columns, rows, "  "), ""] if rows else []


def waits(
    agents: Mapping[str, AgentRecord],
    claims: Mapping[str, ClaimRecord],
    barriers: Mapping[str, BarrierRecord],
) -> dict[str, list[str]]:
    """Return agent → the dependencies, answers, resources and barriers that it waits for."""
    found = {name: [*agent.waits_for, *agent.asks] for name, agent in agents.items()}
    for claim in claims.values():
        if claim.state is ClaimState.WAITING and claim.agent in found:
            found[claim.agent] += [*claim.writes, *claim.reads]
    for name, barrier in barriers.items():
        if barrier.state not in record.IN_FORCE:
            continue
        for agent in [*barrier.arrived, *barrier.held]:
            if agent in found:
                found[agent].append(name)
    return found


def _agents(agents: Mapping[str, AgentRecord], waits: Mapping[str, list[str]]) -> list[list[str]]:
    rows = []
    for name, one in agents.items():
        trouble, heard = ", ".join(waits[name]) or one.error, f"{ago(one.seen_ms)} ago"
        done = _percent(one.percent)
        rows.append([name, one.status.value, done, one.checkpoint, one.task, trouble, heard])
    return rows


def _resources(claims: Mapping[str, ClaimRecord]) -> list[list[str]]:
    """Return a row for each resource: holder, token, and the agents in line, in order."""
    holders: dict[str, list[ClaimRecord]] = {}
    queues: dict[str, list[ClaimRecord]] = {}
    for claim in claims.values():
        side = holders if claim.state is ClaimState.HELD else queues
        for resource in [*claim.writes, *claim.reads]:
            side.setdefault(resource, []).append(claim)
    rows = []
    for resource in sorted({*holders, *queues}):
        held = sorted(holders.get(resource, []), key=lambda claim: claim.token)
        waiting = queues.get(resource, [])
        waiting.sort(key=lambda claim: (claim.rank_ms, claim.asked, claim.place, claim.agent))
        token = str(held[-1].token) if held else ""
        names = [listed([claim.agent for claim in side]) for side in (held, waiting)]
        rows.append([resource, names[0], token, names[1]])
    return rows


def _records(records: Mapping[str, Any], columns: list[str]) -> list[str]:
    filled = [column for column in columns if any(getattr(o, column) for o in records.values())]
    rows = [
        [name, *(_cell(getattr(one, column)) for column in filled)] for name, one in records.items()
    ]
    return table(("NAME", *(column.upper().replace("_", " ") for column in filled)), rows, "  ")


def _cell(value: Any) -> str:
    """Return a field of a record as text; of a mapping its keys, in order."""
    if isinstance(value, list | tuple | dict):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _percent(percent: float | None) -> str:
    return "" if percent is None else f"{percent:g} %"
