"""The state of a session as tables: `fabric status`, and `fabric replay --until`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric.core.agent_status import missing
from fabric.core.limits import listed
from fabric.core.record import (
    IN_FORCE,
    AgentRecord,
    BarrierRecord,
    BarrierState,
    ClaimRecord,
    ClaimState,
    DependencyRecord,
    EscalationRecord,
    EscalationState,
    TaskRecord,
)
from fabric.core.session import SessionState
from fabric.view.text import ago, clock, plain, table

#: Kinds of records in the order in which a rebuilt session shows them → their columns.
REBUILT = {
    "agents": "status incarnation percent checkpoint task waits_for claims asks error",
    "tasks": "status progress_percent agent checkpoint",
    "dependencies": "status location producers waiters",
    "claims": "state agent writes reads token",
    "barriers": "state generation leader members arrived held",
    "escalations": "state asker question waiting decision by",
}


def session_lines(
    name: str,
    agents: Mapping[str, AgentRecord],
    dependencies: Mapping[str, DependencyRecord],
    tasks: Mapping[str, TaskRecord],
    claims: Mapping[str, ClaimRecord],
    barriers: Mapping[str, BarrierRecord],
    questions: Mapping[str, EscalationRecord],
) -> list[str]:
    """Return a session's present state: agents by stream, then whatever else there is."""
    waiting = waits(agents, claims, barriers)
    lines: list[str] = []
    for stream in sorted({agent.stream for agent in agents.values()}):
        members = {who: agent for who, agent in agents.items() if agent.stream == stream}
        title = f"Stream {plain(stream)}" if stream else "No stream"
        lines += [title, *_agents(members, waiting), ""]
    if dependencies:
        lines += ["Dependencies", *_dependencies(dependencies), ""]
    if tasks:
        lines += ["Tasks", *_tasks(tasks), ""]
    if claims:
        lines += ["Resources", *_resources(claims), ""]
    current = {key: one for key, one in barriers.items() if one.state is not BarrierState.OVER}
    if current:
        lines += ["Barriers", *_barriers(current), ""]
    asked = sum(question.state is EscalationState.OPEN for question in questions.values())
    if asked:
        noun = "question" if asked == 1 else "questions"
        lines += [f"{asked} open {noun}: fabric escalations {plain(name)}", ""]
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
        for agent in [*barrier.arrived, *barrier.held] if barrier.state in IN_FORCE else ():
            if agent in found:
                found[agent].append(name)
    return found


def _agents(agents: Mapping[str, AgentRecord], waits: Mapping[str, list[str]]) -> list[str]:
    rows = [
        [
            name,
            agent.status.value,
            _percent(agent.percent),
            agent.checkpoint,
            agent.task,
            ", ".join(waits[name]) or agent.error,
            f"{ago(agent.seen_ms)} ago",
        ]
        for name, agent in agents.items()
    ]
    header = ("AGENT", "STATUS", "DONE", "CHECKPOINT", "TASK", "WAITS FOR / ERROR", "LAST HEARD")
    return table(header, rows, "  ")


def _dependencies(dependencies: Mapping[str, DependencyRecord]) -> list[str]:
    rows = [
        [
            name,
            one.status.value,
            one.location or "",
            ", ".join(one.producers),
            ", ".join(one.waiters),
        ]
        for name, one in dependencies.items()
    ]
    return table(("NAME", "STATUS", "LOCATION", "PRODUCED BY", "AWAITED BY"), rows, "  ")


def _tasks(tasks: Mapping[str, TaskRecord]) -> list[str]:
    rows = [
        [name, task.status, _percent(task.progress_percent), task.agent, task.checkpoint]
        for name, task in tasks.items()
    ]
    return table(("TASK", "STATUS", "DONE", "AGENT", "CHECKPOINT"), rows, "  ")


def _resources(claims: Mapping[str, ClaimRecord]) -> list[str]:
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
        waiting = sorted(
            queues.get(resource, []), key=lambda c: (c.rank_ms, c.asked, c.place, c.agent)
        )
        token = str(held[-1].token) if held else ""
        names = [listed([claim.agent for claim in side]) for side in (held, waiting)]
        rows.append([resource, names[0], token, names[1]])
    return table(("RESOURCE", "HELD BY", "TOKEN", "AWAITED BY"), rows, "  ")


def _barriers(barriers: Mapping[str, BarrierRecord]) -> list[str]:
    rows = [
        [
            name,
            one.state.value,
            one.leader,
            f"{len(one.arrived)} of {len(one.members)}",
            listed(missing(one)),
        ]
        for name, one in barriers.items()
    ]
    return table(("BARRIER", "STATE", "LEADER", "ARRIVED", "MISSING"), rows, "  ")


def _records(records: Mapping[str, Any], columns: list[str]) -> list[str]:
    """Return a table of records without the columns that are empty in all of them."""
    filled = [
        column for column in columns if any(getattr(record, column) for record in records.values())
    ]
    rows = [
        [name, *(_cell(getattr(record, column)) for column in filled)]
        for name, record in records.items()
    ]
    return table(("NAME", *(column.upper().replace("_", " ") for column in filled)), rows, "  ")


def _cell(value: Any) -> str:
    """Return a field of a record as text; of a mapping its keys, in order."""
    if isinstance(value, list | tuple | dict):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _percent(percent: float | None) -> str:
    return "" if percent is None else f"{percent:g} %"
