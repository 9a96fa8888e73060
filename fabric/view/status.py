"""The state of a session for people: tables, todo lists, questions with the command to answer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fabric.core import record
from fabric.core.agent_status import missing
from fabric.core.copies import to_merge
from fabric.core.escalation import MASS_SILENCE
from fabric.core.event import ORCHESTRATOR
from fabric.core.limits import listed
from fabric.core.record import AgentRecord, BarrierRecord, BarrierState, ClaimRecord, ClaimState
from fabric.core.session import SessionState
from fabric.core.task import TaskRecord
from fabric.view.text import clock, counted, plain, rfc3339, span, table

#: Kinds of records in the order in which a rebuilt session shows them → their columns.
REBUILT = {
    "agents": "status incarnation percent checkpoint task waits_for claims asks error",
    "tasks": "status progress_percent agent checkpoint",
    "dependencies": "status location producers waiters",
    "claims": "state agent writes reads token",
    "barriers": "state generation leader members arrived held",
    "escalations": "state asker question waiting decision by",
    "roster": "until_ms came_ms absent_ms",
}

#: The columns of the tables.
_AGENTS = ("AGENT", "STATUS", "DONE", "CHECKPOINT", "TASK", "WAITS FOR / ERROR", "LAST HEARD")
_EXPECTED = ("AGENT", "STATE", "UNTIL")
_DEPENDENCIES = ("NAME", "STATUS", "LOCATION", "PRODUCED BY", "AWAITED BY")
_RESOURCES = ("RESOURCE", "HELD BY", "TOKEN", "AWAITED BY")
_UNFINISHED = ("RESOURCE", "LEFT BY", "WHICH", "SINCE")
_TO_MERGE = ("RESOURCE", "GIT", "WRITTEN BY")
_UNREAD = ("AGENT", "MESSAGES", "OLDEST", "SENT")
_BARRIERS = ("BARRIER", "STATE", "LEADER", "ARRIVED", "MISSING")

#: Lines shown of a question and of its context, and characters of each; `--json` prints all.
LINES_SHOWN = 8
CHARS_SHOWN = 200

#: Width of the labels below a question.
_LABEL_WIDTH = 9

#: Verbs that tasks begin with, and those of them that double their last letter before "ing".
_VERBS = (
    "add analyse analyze audit build change check clean compare convert create debug define delete "
    "deploy design document draft explore extend extract find fix generate implement improve index "
    "inspect integrate investigate measure merge migrate move optimise optimize parse plan port "
    "prepare profile read refactor release remove rename repair replace report research review "
    "rewrite run scan search simplify split summarise summarize test translate update upgrade "
    "validate verify write"
)
_DOUBLED = ("debug", "plan", "run", "scan", "split")
_DOING = {
    verb: (verb + verb[-1] if verb in _DOUBLED else verb.removesuffix("e")) + "ing"
    for verb in _VERBS.split()
}

#: The values of a row of a table.
Row = tuple[Any, ...]


def session_lines(
    name: str,
    now_ms: int,
    agents: Mapping[str, AgentRecord],
    dependencies: Mapping[str, record.DependencyRecord],
    tasks: Sequence[str],
    claims: Mapping[str, ClaimRecord],
    barriers: Mapping[str, BarrierRecord],
    questions: Mapping[str, record.EscalationRecord],
    roster: Mapping[str, record.ExpectedRecord],
    written: Mapping[str, record.WrittenRecord] | None = None,
    unread: Sequence[tuple[str, str, str, int]] = (),
) -> list[str]:
    """Return a session's present state: agents by stream, then whatever else there is.

    `now_ms`: by the server's clock. `tasks`: the lines about its tasks. `unread`: agents that have
    not read all messages, how many, the type of the oldest, and when it was sent, ms.
    """
    waiting = waits(agents, claims, barriers)
    hosts = {who: host_of(one) for who, one in agents.items()}
    # On one host it would say the same in every row.
    is_spread = len({host for host in hosts.values() if host}) > 1
    columns = (*_AGENTS, "HOST") if is_spread else _AGENTS
    lines: list[str] = []
    rows: list[Row]
    for stream in sorted({agent.stream for agent in agents.values()}):
        rows = []
        for who, one in agents.items():
            if one.stream == stream:
                trouble, heard = waiting[who] or one.error, f"{span(now_ms - one.seen_ms)} ago"
                if one.quiet_until_ms > one.seen_ms and one.status not in record.ENDED:
                    heard += f", silence announced until {rfc3339(one.quiet_until_ms)}"
                if one.is_stuck:
                    heard += f", only heartbeats for {span(now_ms - one.idle_since_ms)}"
                done = _percent(one.percent)
                if one.unmet:
                    trouble = f"completed while it waited for {listed(one.unmet)}"
                status = one.shown_status
                row = (who, status, done, one.checkpoint, one.task, trouble, heard)
                rows.append((*row, hosts[who]) if is_spread else row)
        lines += _section(f"Stream {plain(stream)}" if stream else "No stream", columns, rows)
    lines += _section("Expected", _EXPECTED, _expected(roster, now_ms))
    lines += _section("Dependencies", _DEPENDENCIES, _outputs(dependencies))
    lines += [*tasks, ""] if tasks else []
    lines += _section("Resources", _RESOURCES, _resources(claims))
    lines += _section("Unfinished", _UNFINISHED, _unfinished(agents, now_ms))
    lines += _section("To merge", _TO_MERGE, _to_merge(written or {}))
    rows = [
        (who, number, oldest, f"{span(now_ms - since_ms)} ago")
        for who, number, oldest, since_ms in unread
    ]
    lines += _section("Unread messages", _UNREAD, rows)
    rows = []
    for key, barrier in barriers.items():
        if barrier.state is not BarrierState.OVER:
            arrived = f"{len(barrier.arrived)} of {len(barrier.members)}"
            rows.append((key, barrier.state, barrier.leader, arrived, listed(missing(barrier))))
    lines += _section("Barriers", _BARRIERS, rows)
    asked = [one for one in questions.values() if one.is_open and not one.is_quiet]
    lines += [plain(one.question) for one in asked if one.subject == MASS_SILENCE]
    if asked:
        lines += [f"{counted(len(asked), 'open question')}: fabric escalations {plain(name)}", ""]
    return lines[:-1]


def host_of(agent: AgentRecord) -> str:
    """Return the host that an agent works on, by its process or its copy of the files; or ""."""
    host, _, rest = agent.instance.partition("/")
    # Others may call their processes what they like.
    is_ours = rest.partition("/")[0].isdecimal()
    return host if is_ours else agent.workspace.partition(":")[0]


def _unfinished(agents: Mapping[str, AgentRecord], now_ms: int) -> list[Row]:
    """Return a row for each resource that somebody left in the middle of an edit."""
    return [
        (resource, who, left.how, f"{span(now_ms - left.since_ms)} ago")
        for who, one in agents.items()
        for resource, left in one.left.items()
    ]


def _to_merge(written: Mapping[str, record.WrittenRecord]) -> list[Row]:
    """Return a row for each path that several copies have written: whether git can merge them."""
    rows: list[Row] = []
    for resource, one in to_merge(written).items():
        found = {
            "conflicts": [pair for pair in one.pairs if one.found.get(pair)],
            "not tried": [pair for pair in one.pairs if pair not in one.found],
        }
        words = [
            f"{word}: "
            + ", ".join(" and ".join(one.copies[where] for where in pair) for pair in some)
            for word, some in found.items()
            if some
        ]
        where = [f"{agent} in {copy}" for copy, agent in sorted(one.copies.items())]
        rows.append((resource, "; ".join(words) or "merges cleanly", where))
    return rows


def _outputs(dependencies: Mapping[str, record.DependencyRecord]) -> list[Row]:
    """Return a row for each output; one that nobody has reported is marked as inferred."""
    rows: list[Row] = []
    for name, one in dependencies.items():
        status = f"{one.status} (inferred)" if one.inferred else one.status
        rows.append((name, status, one.location, one.producers, one.waiters))
    return rows


def _expected(roster: Mapping[str, record.ExpectedRecord], now_ms: int) -> list[Row]:
    """Return a row for each expected agent that has not come."""
    rows: list[Row] = []
    for name, one in roster.items():
        if one.absent_ms and not one.came_ms:
            rows.append((name, "absent", f"{span(now_ms - one.absent_ms)} ago"))
        elif one.is_awaited:
            rows.append((name, "awaited", rfc3339(one.until_ms) if one.until_ms else "it comes"))
    return rows


def rebuilt_lines(session: SessionState) -> list[str]:
    """Return a session that was rebuilt from its log: a table for each kind of record."""
    at = clock(session.clock_ms, session.opened_ms)
    lines = [plain(f"{session.name} at {at}, after {session.log}-0"), ""]
    for kind, columns in REBUILT.items():
        records: dict[str, Any] = getattr(session, kind).records
        filled = [
            column
            for column in columns.split()
            if any(getattr(one, column) for one in records.values())
        ]
        header = ("NAME", *(column.upper().replace("_", " ") for column in filled))
        rows = [(name, *(getattr(one, it) for it in filled)) for name, one in records.items()]
        lines += _section(kind.capitalize(), header, rows)
    return lines[:-1]


def _section(title: str, columns: Sequence[str], rows: Sequence[Row]) -> list[str]:
    cells = [[*map(_cell, row)] for row in rows]
    return [title, *table(columns, cells, "  "), ""] if rows else []


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


def _resources(claims: Mapping[str, ClaimRecord]) -> list[Row]:
    """Return a row for each resource: holder, token, and the agents in line, in order."""
    holders: dict[str, list[ClaimRecord]] = {}
    queues: dict[str, list[ClaimRecord]] = {}
    for claim in claims.values():
        side = holders if claim.state is ClaimState.HELD else queues
        for resource in [*claim.writes, *claim.reads]:
            side.setdefault(resource, []).append(claim)
    rows: list[Row] = []
    for resource in sorted({*holders, *queues}):
        held = sorted(holders.get(resource, []), key=lambda claim: claim.token)
        waiting = queues.get(resource, [])
        waiting.sort(key=lambda claim: (claim.rank_ms, claim.asked, claim.place, claim.agent))
        names = [listed([claim.agent for claim in side]) for side in (held, waiting)]
        rows.append((resource, names[0], held[-1].token if held else "", names[1]))
    return rows


def _cell(value: Any) -> str:
    """Return a value of a row as text; of a mapping its keys, in order."""
    if isinstance(value, list | tuple | dict):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _percent(percent: float | None) -> str:
    return "" if percent is None else f"{percent:g} %"


def todo(task: TaskRecord) -> dict[str, Any]:
    """Return a task with the fields of a todo entry."""
    return {
        "content": task.content,
        "status": task.status,
        "activeForm": task.active_form or active_form(task.content),
        "progress_percent": task.progress_percent,
        "last_signal": task.last_signal,
        "partial_findings": task.partial_findings,
    }


def active_form(content: str) -> str:
    """Return the text of a task in progress: `Review auth module` → `Reviewing auth module`."""
    verb, space, rest = content.partition(" ")
    doing = _DOING.get(verb.lower())
    if doing is None:
        return content if verb.lower() in _DOING.values() else f"Working on: {content}"
    return (doing.capitalize() if verb[:1].isupper() else doing) + space + rest


def question_lines(
    session: str,
    id_: str,
    question: record.EscalationRecord,
    *,
    now_ms: int,
    home: str | None,
    waiting: Sequence[str],
    named: Mapping[str, record.EscalationRecord] = {},
) -> list[str]:
    """Return a question: who asks, what, who waits, and the command that answers it.

    `home` is the session that `fabric decide` uses by default: the command need not name it.
    `waiting`: the agents that wait for the answer. `named`: the questions that a digest names, each
    with its own command. `now_ms`: by the server's clock.
    """
    place = [] if session == home else ["--session", session]
    asked = f"asked {span(now_ms - question.asked_ms)} ago by {question.asker or ORCHESTRATOR}"
    subject = ": ".join(filter(None, (question.subject, question.about)))
    lines = [plain(f"{id_}  in {session}, {asked}" + (f" ({subject})" if subject else ""))]
    lines += [f"  {line}" for line in _cut(question.question)]
    lines += _named_lines(named, question.question, place)
    options = "\n".join(map(plain, question.options))
    parts = {"asked of": [plain(question.to)], "options": _cut(options)}
    if (
        not named
        and isinstance(question.context, msgspec.Raw)
        and bytes(question.context) not in {b"", b"null"}
    ):
        context = msgspec.json.format(bytes(question.context), indent=2)
        parts["context"] = _cut(context.decode("utf-8", "replace"))
    if question.state is not record.EscalationState.OPEN:
        by = f"by {question.by}, " if question.by else ""
        parts["decided"] = _cut(question.decision)
        parts[""] = [plain(f"{by}{rfc3339(question.decided_ms)}")]
    else:
        nobody = "" if question.subject else "no agent (any more)"
        parts["waiting"] = _cut(plain(", ".join(waiting) or nobody))
        if question.deadline_ms:
            then = f", then {plain(question.default)}" if question.default else ""
            parts["deadline"] = _cut(rfc3339(question.deadline_ms) + then)
        parts["told"] = _cut(plain(", ".join(question.concerned)))
        if question.is_quiet:
            then = rfc3339(question.named_ms)
            parts["named by"] = [
                plain(question.digest) or f"no digest yet, but by one after {then}"
            ]
        if named:
            surest = ["--all", "*", "--prefer", "confidence"]
            parts["all"] = [plain(f"fabric decide {shlex.join([*place, *surest])}")]
        dashed = ["--"] if id_.startswith("-") else []
        parts["answer"] = [plain(f"fabric decide {shlex.join([*place, *dashed, id_])} ANSWER")]
    for label, part in parts.items():
        for number, one in enumerate(part if any(part) else ()):
            head = f"{label}:" if label and not number else ""
            lines.append(f"  {head:<{_LABEL_WIDTH}} {one}")
    return lines


def _named_lines(
    named: Mapping[str, record.EscalationRecord], said: str, place: list[str]
) -> list[str]:
    """Return what a digest names: each question, unless it is `said`, and how to answer it."""
    lines = []
    for id_ in sorted(named)[:LINES_SHOWN]:
        asked = named[id_]
        dashed = ["--"] if id_.startswith("-") else []
        answers = " | ".join(map(shlex.quote, asked.options))
        command = f"fabric decide {shlex.join([*place, *dashed, id_])} {answers}"
        lines += [f"  - {line}" for line in _cut(asked.question)[:1] if asked.question != said]
        lines.append(f"    {plain(command)}")
    more = len(named) - LINES_SHOWN
    return [*lines, f"  … {more} more (--all)"] if more > 0 else lines


def _cut(text: str) -> list[str]:
    """Return the first lines of a text, each cut; the last one counts what is left out."""
    lines = [plain(line) for line in text.splitlines()] or [""]
    cut = [line if len(line) <= CHARS_SHOWN else f"{line[:CHARS_SHOWN]} …" for line in lines]
    more = len(cut) - LINES_SHOWN
    return [*cut[:LINES_SHOWN], f"… {more} more lines (--json)"] if more > 0 else cut
