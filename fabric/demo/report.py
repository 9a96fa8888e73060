"""The report of a review: gathered from log, synthesis and scratch copy, written as Markdown.

The document is what `fabric demo --json` prints. Times are ms since the session's first signal.
"""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec

from fabric import NotFoundError, Session, Synthesis
from fabric.core.synthesis.state import Standing, State
from fabric.demo.analysers import Finding, Severity, draft
from fabric.demo.fleet import COPY_FOLDER, FIXERS, FLEET, REMARKS, VOTE
from fabric.demo.tree import Tree
from fabric.demo.workshop import Workshop, resource
from fabric.store.port import Entry
from fabric.view.markdown import block, code, prose, table, text
from fabric.view.synthesis import contradiction
from fabric.view.text import counted, rfc3339
from fabric.view.timeline import Timeline
from fabric.watch.board import Growth
from fabric.wire.stored import text_fields_of

#: What is shown: findings of a severity, and files named with the number of further ones; rows at
#: the beginning and the end of the timeline; lines of a difference; skipped files.
SHOWN_MAX, FILES_NAMED_MAX, HEAD_MAX, TAIL_MAX = 40, 10, 80, 20
DIFFERENCE_LINES_MAX, SKIPPED_SHOWN_MAX = 40, 20

#: Rows that only prepare the next one: a conflict and a barrier have rows of their own.
UNSHOWN = frozenset({"INTENT", "(pause)"})

#: Parts of the run at which the findings so far are counted, in percent.
MARKS = {"a quarter": 25, "half": 50, "three quarters": 75}

#: A JSON object.
Document = dict[str, Any]


async def gather(
    session: Session, growth: Growth, tree: Tree, scratch: Path, path: str
) -> Document:
    """Return the document on a session that has ended. Raises FabricError, OSError."""
    entries = [entry async for entry in session.log()]
    timeline = Timeline({member.name: member.stream for member in FLEET})
    rows = [row for entry in entries if (row := timeline.row(*entry)) is not None]
    opened_ms = rows[0].ms if rows else 0
    last_ms = rows[-1].ms - opened_ms if rows else 0
    statuses = {row.agent: "working" for row in rows if row.signal == "STARTED"}
    ended = {row.agent: row for row in rows if row.signal in ("COMPLETED", "FAILED")}
    statuses |= {name: row.signal.lower() for name, row in ended.items()}
    ends_ms = {name: row.ms - opened_ms for name, row in ended.items()}
    try:
        synthesis = await session.synthesis()
    except NotFoundError:
        synthesis = Synthesis({})
    arrivals = _arrivals(synthesis, opened_ms)
    agents: list[Document] = [
        {
            "name": member.name,
            "stream": member.stream,
            "status": statuses.get(member.name, "waiting to start"),
            "ended_ms": ends_ms.get(member.name),
            "draft": draft(one["finding"] for one in arrivals if one["agent"] == member.name),
            "is_reviewer": member.is_reviewer,
        }
        for member in FLEET
    ]
    run_ms = max(ends_ms.values(), default=last_ms)
    return {
        "path": path,
        "session": session.name,
        "started": rfc3339(opened_ms),
        "elapsed_ms": max(one["ended_ms"] or last_ms for one in agents if one["is_reviewer"]),
        "files": len(tree.files),
        "agents": agents,
        "arrivals": arrivals,
        "timeline": [
            {"at_ms": row.ms - opened_ms, "signal": row.signal, "stream": row.stream}
            | {"agent": "", "action": row.action}
            for row in rows
            if row.signal not in UNSHOWN
        ],
        "commands": [],
        "skipped": msgspec.to_builtins(tree.skipped),
        "changes": _changes(scratch / COPY_FOLDER, _turns(entries, opened_ms), synthesis),
        "course": _course(synthesis, growth, run_ms, len(arrivals), session.name),
    }


def _turns(entries: Iterable[Entry], opened_ms: int) -> dict[str, list[Document]]:
    """Return resource → its turns: agent, priority, when asked and given, token, waited for."""
    turns: dict[str, list[Document]] = defaultdict(list)
    asked: dict[tuple[str, str], Document] = {}
    priorities = {member.name: member.priority for member in FLEET}
    for _, flat in entries:
        fields = text_fields_of(flat)
        kind, at_ms, agent = fields["type"], int(fields["ms"]) - opened_ms, fields.get("to", "")
        payload = msgspec.json.decode(fields.get("payload") or "{}")
        if (fields["kind"], kind) == ("signal", "INTENT"):
            agent = fields["emitter"]
            for path in payload.get("writes", ()):
                turn = {"agent": agent, "priority": priorities[agent], "asked_ms": at_ms}
                asked.setdefault((agent, path), {**turn, "waited_for": {}})
        # An agent without an open request is told again what it has.
        for path in (one for one in payload.get("resources", ()) if (agent, one) in asked):
            if kind == "WAIT" and payload["holder"]:
                asked[agent, path]["waited_for"][payload["holder"]] = None
            elif kind == "PROCEED" and payload.get("token") is not None:
                mine = {**asked.pop((agent, path)), "given_ms": at_ms, "token": payload["token"]}
                turns[path].append(mine | {"waited_for": [*mine["waited_for"]]})
                for other in (turn for (_, one), turn in asked.items() if one == path):
                    other["waited_for"][agent] = None
    return turns


def _arrivals(synthesis: Synthesis, opened_ms: int) -> list[Document]:
    found = []
    for key, record in synthesis.findings.items():
        first = next((one for one in record.sources if one.value is not None), None)
        if key == VOTE or record.state in (State.WITHDRAWN, State.SUPERSEDED) or first is None:
            continue
        outside = {"key": key, "evidence": first.evidence or ""}
        outside |= {"confidence": first.confidence or 1.0}
        finding = msgspec.convert({**(record.value or first.value), **outside}, Finding)
        at_ms = record.first_ms - opened_ms
        found.append({"agent": first.agent, "at_ms": at_ms, "finding": finding, "log": first.log})
    return sorted(found, key=lambda one: (one["log"], one["finding"].key))


def _changes(folder: Path, turns: Mapping[str, list[Document]], synthesis: Synthesis) -> Document:
    said: Mapping[str, Sequence[str]] = (synthesis.plain or {}).get(REMARKS, {})
    remarks = [f"{name}: {words}" for name, texts in said.items() for words in texts]
    files: list[Document] = []
    difference: list[str] = []
    with suppress(FileNotFoundError):  # there is no copy
        workshop = Workshop(folder)
        for path, edits in workshop.made().items():
            files.append({"path": path, "edits": edits, "turns": turns[resource(path)]})
        for path in workshop.files[:1]:
            before, now = (
                workshop.read(path, part).decode("utf-8", "replace").expandtabs().splitlines()
                for part in ("before", "fixed")
            )
            names = f"before/{path}", f"fixed/{path}"
            difference += difflib.unified_diff(before, now, *names, n=1, lineterm="")
    return {"files": files, "difference": difference, "remarks": remarks}


def _course(
    synthesis: Synthesis, growth: Growth, run_ms: int, total: int, session: str
) -> Document:
    milestones = []
    for after, percent in MARKS.items():
        at_ms = run_ms * percent // 100
        there = next((one.findings for one in reversed(growth.points) if one.at_ms <= at_ms), 0)
        share = there / total if total else 1
        milestones.append({"after": after, "at_ms": at_ms, "findings": there, "share": share})
    vote = synthesis.findings.get(VOTE)
    views = {
        one.agent: {
            "agent": one.agent,
            "opinion": {"path": one.value, **one.evidence},
            "is_held": one.standing is Standing.HOLDS,
        }
        for one in (vote.sources if vote else ())
        if one.value is not None
    }
    return {
        "agents": len(FLEET),
        "findings": total,
        "revisions": synthesis.revision,
        "is_final": synthesis.is_final,
        "first": msgspec.to_builtins(growth.points[0]) if growth.points else None,
        "first_finding": msgspec.to_builtins(growth.first_finding),
        "milestones": milestones,
        "views": list(views.values()),
        "disputes": [contradiction(one, session) for one in synthesis.contradictions.values()],
    }


def faults(report: Document) -> list[str]:
    """Return what is not as it must be, in sentences."""
    found = [f"{path} of the copy does not hold both edits" for path in _lost(report["changes"])]
    course = report["course"]
    if course["first"] is None:
        found.append("the synthesis has no revision: no synthesizer was at work")
    elif ended := course["first"]["ended"]:
        before = "before the first revision of the synthesis was published"
        found.append(f"{ended} of {course['agents']} agents had ended {before}")
    if not course["is_final"]:
        found.append("the synthesis is not final: the report may lack findings")
    return found


def _lost(changes: Document) -> list[str]:
    return [one["path"] for one in changes["files"] if len(one["edits"] or ()) < len(FIXERS)]


def clock(at_ms: int) -> str:
    """Return ms since the start as minutes, seconds and thousandths: `0:05.120`."""
    minutes, rest = divmod(max(at_ms, 0), 60_000)
    return f"{minutes}:{rest // 1000:02d}.{rest % 1000:03d}"


def render(report: Document) -> str:
    """Return the report as Markdown. What comes from the reviewed files is escaped; lists are
    bounded, and say what they leave out.
    """
    commands, skipped = report["commands"], report["skipped"]
    rest = len(skipped) - SKIPPED_SHOWN_MAX
    # A section is a sequence of blocks, and a block a sequence of lines.
    sections: dict[str, Iterable[Iterable[str]]] = {
        "Who found what": [_agents(report)],
        "How it came together": _growth(report["course"]),
        "What was changed": _changed(report["changes"]),
        "What to do": _recommendations(report["agents"]),
        "Findings": _findings(report["arrivals"]),
        "Not reviewed": [
            _table("path reason", skipped[:SKIPPED_SHOWN_MAX]),
            [f"And {rest:,} more."] if rest > 0 else [],
        ],
        "Timeline": _timeline(report["timeline"]),
        "Look inside": [
            ["Everything above is in Redis. `fabric up` restarts the private server:"],
            block(commands, "sh"),
        ]
        if commands
        else [],
    }
    blocks = [f"# Code review of {code(report['path']) or 'nothing'}", "\n".join(_summary(report))]
    for title, section in sections.items():
        if shown := list(filter(None, map("\n".join, section))):
            blocks += [f"## {title}", *shown]
    return "\n\n".join(blocks) + "\n"


def _summary(report: Document) -> Iterator[str]:
    arrivals, agents, fixed = report["arrivals"], report["agents"], report["changes"]["files"]
    counts = Counter(one["finding"].severity for one in arrivals)
    kinds = ", ".join(f"{counts[severity]:,} {severity.value}" for severity in Severity)
    found = f"{counted(len(arrivals), 'thing')}: {kinds}" if arrivals else "nothing"
    reviewers = sum(one["is_reviewer"] for one in agents)
    files, in_s = counted(report["files"], "file"), report["elapsed_ms"] / 1000
    yield f"{reviewers} agents reviewed {files} in {in_s:.1f} s and found {found}."
    if arrivals:
        first = min(one["at_ms"] for one in arrivals)
        at_work = sum(one["ended_ms"] is None or one["ended_ms"] > first for one in agents)
        others = f", while {at_work} agents were still at work" if at_work > 1 else ""
        yield f"The first finding was there after {first / 1000:.2f} s{others}."
    if fixed:
        copied = f"Three more copied and fixed {counted(len(fixed), 'file')}"
        yield f"{copied}: see [What was changed](#what-was-changed)."
    if report["skipped"]:
        yield "Not everything was reviewed: see [Not reviewed](#not-reviewed)."
    yield f"Session {code(report['session'])}, started {text(report['started'])}."


#: Titles of columns that are not the name of their field.
_TITLES = {"name": "Agent", "path": "File", "at_ms": "Time", "first_ms": "First finding"}
_TITLES |= {"after": "Of the run", "number": "Revision", "begun": "Agents begun"}


def _table(fields: str, rows: Iterable[Document]) -> list[str]:
    """Return a table with a column for each of these fields; a field's name says its format."""
    names = fields.split()
    titles = [name.removesuffix("_ms").replace("_", " ").capitalize() for name in names]
    header = [_TITLES.get(name, title) for name, title in zip(names, titles, strict=True)]
    cells = [[_cell(name, row.get(name)) for name in names] for row in rows]
    return table(header, cells) if cells else []


def _cell(field: str, value: Any) -> str:
    if value in (None, [], ""):
        return "–"
    if isinstance(value, list):
        return text(", ".join(value))
    if isinstance(value, str):
        return code(value) if field in ("path", "evidence") else prose(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if field.endswith("_ms"):
        return clock(value)
    return f"{value:.0%}" if field in ("share", "confidence") else f"{value:,}"


def _agents(report: Document) -> list[str]:
    rows = []
    for agent in report["agents"]:
        mine = [one for one in report["arrivals"] if one["agent"] == agent["name"]]
        counts = Counter(one["finding"].severity for one in mine)
        found = {one: counts[one] if agent["is_reviewer"] else None for one in Severity}
        rows.append({**agent, **found, "first_ms": mine[0]["at_ms"] if mine else None})
    return _table("name stream high medium low first_ms ended_ms status", rows)


def _growth(course: Document) -> Iterator[Iterable[str]]:
    if course["first"] is None:
        return
    total, last = course["findings"] or 1, "is final" if course["is_final"] else "**is not final**"
    points = {"the first revision": course["first"], "the first finding": course["first_finding"]}
    rows = [
        {"after": after, "share": point["findings"] / total, **point}
        for after, point in points.items()
        if point is not None
    ]
    took_part = f"The results of {course['agents']} agents were merged as they came."
    yield [f"{took_part} Revision {course['revisions']:,}, the last one, {last}."]
    yield _table("after at_ms findings share number begun ended", [*rows, *course["milestones"]])
    if course["views"]:
        yield [
            "Each reviewer voted for the file to begin with, by the worst that it had found, and "
            "took its vote back if another one had found worse:"
        ]
        views = [view | view["opinion"] for view in course["views"]]
        yield _table("agent path severity count is_held", views)
    if course["disputes"]:
        yield ["They still contradict each other. You decide, while `fabric up` is running:"]
    yield from course["disputes"]


def _changed(changes: Document) -> Iterator[Iterable[str]]:
    files, difference = changes["files"], changes["difference"]
    if files:
        names = " and ".join(sorted(member.name for member in FIXERS))
        lost = ", ".join(map(code, _lost(changes)))
        verdict = "Each file holds both edits: none was overwritten."
        if lost:
            verdict = f"**An edit is missing** in {lost}."
        copied = f"{names} edited a scratch copy of {counted(len(files), 'file')}, one at a time"
        yield [f"{copied}; yours are untouched. {verdict}"]
        turns = [{**one, "path": change["path"]} for change in files for one in change["turns"]]
        yield _table("path agent priority asked_ms given_ms token waited_for", turns)
    for words in changes["remarks"]:
        yield [text(words)]
    if difference:
        yield [f"Both wanted {code(files[0]['path'])} at the same time. It now reads:"]
        rest = len(difference) - DIFFERENCE_LINES_MAX
        more = [f"… {rest:,} more lines"] if rest > 0 else []
        yield block([*difference[:DIFFERENCE_LINES_MAX], *more], "diff")


def _recommendations(agents: Sequence[Document]) -> Iterator[Iterable[str]]:
    items = [one | {"agent": agent["name"]} for agent in agents for one in agent["draft"]["items"]]
    items.sort(key=lambda one: Severity(one["severity"]).rank)
    yield _table("count rule files severity agent advice places", items)
    for agent in agents:
        rules = agent["draft"]["left_out"].items()
        if rest := ", ".join(f"{count:,} × {text(rule)}" for rule, count in rules):
            yield [f"{text(agent['name'])} also has: {rest}."]


def _findings(arrivals: Sequence[Document]) -> Iterator[Iterable[str]]:
    rows = [msgspec.to_builtins(one["finding"]) | one for one in arrivals]
    rows.sort(key=itemgetter("path", "line", "key"))
    for severity in Severity:
        found = [one for one in rows if one["severity"] == severity]
        if found:
            yield [f"### {severity.value.title()} ({len(found):,})"]
        yield _table("path line message rule agent confidence at_ms evidence", found[:SHOWN_MAX])
        files = Counter(one["path"] for one in found[SHOWN_MAX:])
        named = [f"{code(path)} ({n:,})" for path, n in files.most_common(FILES_NAMED_MAX)]
        if len(files) > FILES_NAMED_MAX:
            named.append(f"and {counted(len(files) - FILES_NAMED_MAX, 'more file')}")
        if files:
            yield [f"… and {files.total():,} more, in {', '.join(named)}."]


def _timeline(rows: Sequence[Document]) -> Iterator[Iterable[str]]:
    shown = list(rows)
    if len(rows) > HEAD_MAX + TAIL_MAX:
        shown = [one for one in rows if not one["signal"].startswith(("PARTIAL_", "PROGRESS"))]
    lines = _table("at_ms signal stream action", shown)
    if (left_out := len(shown) - HEAD_MAX - TAIL_MAX) > 0:
        # The first two lines are the table's head.
        lines[HEAD_MAX + 2 : -TAIL_MAX] = [f"| … | | | {counted(left_out, 'more signal')} |"]
    yield lines
    if minor := len(rows) - len(shown):
        yield [f"{counted(minor, 'row')} of progress and of partial results left out."]
