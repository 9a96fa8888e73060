"""The report of a review: gathered from log, synthesis and scratch copy, written as Markdown.

The document is what `fabric demo --json` prints. Times are ms since the session's first signal.
"""

from __future__ import annotations

import difflib
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from fabric import Session, Synthesis
from fabric.core.synthesis.state import Standing
from fabric.demo.analysers import SEVERITIES
from fabric.demo.fleet import COPY_FOLDER, FIXERS, FLEET, RECOMMENDATIONS, REMARKS, VOTE
from fabric.demo.tree import Tree
from fabric.demo.workshop import Workshop, resource
from fabric.view.document import progress
from fabric.view.markdown import block, code, prose, table, text
from fabric.view.report import contradiction
from fabric.view.text import counted, rfc3339
from fabric.view.timeline import Timeline
from fabric.watch.board import Growth
from fabric.watch.frame import chart

#: Rows of a table and lines of a difference that are shown; bars of the chart of findings.
ROWS_MAX, DIFFERENCE_LINES_MAX, CHART_CHARS = 100, 40, 40

#: A JSON object.
Document = dict[str, Any]


async def gather(
    session: Session, growth: Growth, tree: Tree, scratch: Path, path: str
) -> Document:
    """Return the document on a session that has ended. Raises FabricError, OSError."""
    timeline = Timeline({member.name: member.stream for member in FLEET})
    read = [timeline.row(*entry) async for entry in session.log()]
    rows = [row for row in read if row is not None]
    opened_ms = rows[0].ms if rows else 0
    ended = {row.agent: row for row in rows if row.signal in ("COMPLETED", "FAILED")}
    synthesis = await session.synthesis()
    said: Document = synthesis.plain or {}
    minor = ("PARTIAL_", "PROGRESS")
    agents: list[Document] = [
        {
            "agent": member.name,
            "stream": member.stream,
            "status": row.signal.lower() if (row := ended.get(member.name)) else "has not ended",
            "ended_ms": row.ms - opened_ms if row else None,
            "is_reviewer": member.is_reviewer,
            "recommendations": sorted(said.get(RECOMMENDATIONS, {}).get(member.name, [])),
        }
        for member in FLEET
    ]
    return {
        "path": path,
        "session": session.name,
        "started": rfc3339(opened_ms),
        "files": len(tree.files),
        "agents": agents,
        "findings": _findings(synthesis, opened_ms),
        "timeline": [
            {"at_ms": row.ms - opened_ms, "signal": row.signal, "stream": row.stream}
            | {"action": row.action, "is_detail": row.is_detail or row.signal.startswith(minor)}
            for row in rows
        ],
        "skipped": msgspec.to_builtins(tree.skipped),
        "changes": _changes(scratch / COPY_FOLDER, said.get(REMARKS, {})),
        "course": _course(synthesis, growth, session.name),
    }


def _findings(synthesis: Synthesis, opened_ms: int) -> list[Document]:
    """Return what analysers found and stands, the worst first."""
    found = []
    for key, record in synthesis.findings.items():
        if key != VOTE and record.value is not None:
            first = record.sources[0]
            said = {"agent": first.agent, "at_ms": record.first_ms - opened_ms}
            said |= {"evidence": first.evidence, "confidence": first.confidence}
            found.append(record.value | said)
    return sorted(
        found, key=lambda one: (SEVERITIES.index(one["severity"]), one["path"], one["line"])
    )


def _changes(folder: Path, said: Document) -> Document:
    remarks = [f"{name}: {words}" for name, texts in said.items() for words in texts]
    files: list[Document] = []
    difference: list[str] = []
    with suppress(FileNotFoundError):  # there is no copy
        workshop = Workshop(folder)
        files += [{"path": path, "edits": edits} for path, edits in workshop.made().items()]
        for path in workshop.files[:1]:
            before, now = (
                workshop.read(path, part).decode("utf-8", "replace").expandtabs().splitlines()
                for part in ("before", "fixed")
            )
            names = f"before/{path}", f"fixed/{path}"
            difference += difflib.unified_diff(before, now, *names, n=1, lineterm="")
    return {"files": files, "difference": difference, "remarks": remarks}


def _course(synthesis: Synthesis, growth: Growth, session: str) -> Document:
    vote = synthesis.findings.get(VOTE)
    votes = {
        one.agent: {"agent": one.agent, "path": one.value, **one.evidence}
        | {"is_held": one.standing is Standing.HOLDS}
        for one in (vote.sources if vote else ())
        if one.value is not None
    }
    points = {"the first revision": next(iter(growth.points), None)}
    points["the first finding"] = growth.first_finding
    return {
        "progress": progress(synthesis),
        "is_final": synthesis.is_final,
        "points": [
            {"when": when, "revision": point.number} | msgspec.to_builtins(point)
            for when, point in points.items()
            if point
        ],
        "chart": chart(growth, CHART_CHARS) if growth.points else "",
        "votes": list(votes.values()),
        "disputes": [contradiction(one, session) for one in synthesis.contradictions.values()],
    }


def faults(report: Document) -> list[str]:
    """Return what is not as it must be, in sentences."""
    found = [f"{path} of the copy does not hold both edits" for path in _lost(report["changes"])]
    points = report["course"]["points"]
    if not points:
        found.append("the synthesis has no revision: no synthesizer was at work")
    elif ended := points[0]["ended"]:
        before = "before the first revision of the synthesis was published"
        found.append(f"{ended} of {len(FLEET)} agents had ended {before}")
    if not report["course"]["is_final"]:
        found.append("the synthesis is not final: the report may lack findings")
    return found


def _lost(changes: Document) -> list[str]:
    return [one["path"] for one in changes["files"] if len(one["edits"] or ()) < len(FIXERS)]


def render(report: Document, *, program: str = "fabric", server: str = "") -> str:
    """Return the report as Markdown. What comes from the reviewed files is escaped; lists are
    bounded, and say what they leave out.

    `program` calls fabric from here. `server` says in Markdown whether the private server runs.
    """
    advice = [
        {"agent": agent["agent"], "recommendation": one}
        for agent in report["agents"]
        for one in agent["recommendations"]
    ]
    rows = [one for one in report["timeline"] if not one["is_detail"]]
    found = "severity path line message rule agent confidence at_ms evidence"
    session = shlex.quote(report["session"])
    commands = [
        f"{program} {one} {session}" for one in ("tail --all", "synthesis", "replay", "keys")
    ]
    # A section is a sequence of blocks, and a block a sequence of lines.
    sections: dict[str, Iterable[Iterable[str]]] = {
        "Who found what": [_agents(report)],
        "How it came together": _growth(report["course"]),
        "What was changed": _changed(report["changes"], report["timeline"]),
        "What to do": [_table("agent recommendation", advice)],
        "Findings": [_table(found, report["findings"])],
        "Not reviewed": [_table("path reason", report["skipped"])],
        "Timeline": [_table("at_ms signal stream action", rows)],
        "Look inside": [
            [f"Everything above is in Redis. {server}".strip()],
            block(commands, "sh"),
        ],
    }
    blocks = [f"# Code review of {code(report['path']) or 'nothing'}", "\n".join(_summary(report))]
    for title, section in sections.items():
        if shown := list(filter(None, map("\n".join, section))):
            blocks += [f"## {title}", *shown]
    return "\n\n".join(blocks) + "\n"


def _summary(report: Document) -> Iterator[str]:
    reviewers = [one for one in report["agents"] if one["is_reviewer"]]
    in_s = max((one["ended_ms"] or 0 for one in reviewers), default=0) / 1000
    counts = Counter(one["severity"] for one in report["findings"])
    kinds = ", ".join(f"{counts[one]:,} {one}" for one in SEVERITIES)
    found = f"{counted(counts.total(), 'thing')}: {kinds}" if counts else "nothing"
    files = counted(report["files"], "file")
    yield f"{len(reviewers)} agents reviewed {files} in {in_s:.1f} s and found {found}."
    if report["skipped"]:
        yield "Not everything was reviewed: see [Not reviewed](#not-reviewed)."
    yield f"Session {code(report['session'])}, started {text(report['started'])}."


def _table(fields: str, rows: Sequence[Document]) -> list[str]:
    """Return a table with a column for each of these fields; a field's name says its format."""
    names = fields.split()
    header = [name.removesuffix("_ms").replace("_", " ").capitalize() for name in names]
    cells = [[_cell(name, row.get(name)) for name in names] for row in rows[:ROWS_MAX]]
    rest = len(rows) - ROWS_MAX
    return [*table(header, cells), *(["", f"And {rest:,} more."] if rest > 0 else [])] * bool(rows)


def _cell(field: str, value: Any) -> str:
    if value in (None, ""):
        return "–"
    if isinstance(value, str):
        return code(value) if field in ("path", "evidence") else prose(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if field.endswith("_ms"):
        return f"{value / 1000:.3f} s"
    return f"{value:.0%}" if field == "confidence" else f"{value:,}"


def _agents(report: Document) -> list[str]:
    rows = []
    for agent in report["agents"]:
        mine = [one for one in report["findings"] if one["agent"] == agent["agent"]]
        counts = Counter(one["severity"] for one in mine)
        found = {one: counts[one] if agent["is_reviewer"] else None for one in SEVERITIES}
        first_ms = min((one["at_ms"] for one in mine), default=None)
        rows.append({**agent, **found, "first_finding_ms": first_ms})
    return _table("agent stream high medium low first_finding_ms ended_ms status", rows)


def _growth(course: Document) -> Iterator[Iterable[str]]:
    yield [course["progress"]]
    yield _table("when at_ms findings revision begun ended", course["points"])
    if course["chart"]:
        yield ["The findings over time:"]
        yield block([course["chart"]])
    if course["votes"]:
        yield [
            "In one more finding reviewers voted for the file to begin with, by the worst that "
            "they had found. Each took its vote back if another one had found worse:"
        ]
        yield _table("agent path severity count is_held", course["votes"])
    if course["disputes"]:
        yield ["They still contradict each other. You decide, while `fabric up` is running:"]
    yield from course["disputes"]


def _changed(changes: Document, rows: Sequence[Document]) -> Iterator[Iterable[str]]:
    files, difference = changes["files"], changes["difference"]
    for words in changes["remarks"]:
        yield [text(words)]
    if not files:
        return
    names = " and ".join(sorted(member.name for member in FIXERS))
    lost = ", ".join(map(code, _lost(changes)))
    verdict = f"**An edit is missing** in {lost}." if lost else "Each file holds both edits."
    copied = f"{names} edited a scratch copy of {counted(len(files), 'file')}, one at a time"
    yield [f"{copied}; yours are untouched. {verdict}"]
    first = files[0]["path"]
    yield [f"Both wanted {code(first)} at the same time:"]
    yield _table("at_ms signal action", [one for one in rows if resource(first) in one["action"]])
    if difference:
        rest = len(difference) - DIFFERENCE_LINES_MAX
        more = [f"… {rest:,} more lines"] if rest > 0 else []
        yield block([*difference[:DIFFERENCE_LINES_MAX], *more], "diff")
