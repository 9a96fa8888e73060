"""The report of a review: gathered from log, synthesis and scratch copy, written as Markdown.

The document is what `fabric demo --json` prints. Times are ms since the session's first signal.
"""

from __future__ import annotations

import difflib
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from fabric import NotFoundError, Session, Synthesis
from fabric.core.synthesis.part import Standing, State
from fabric.demo.finding import VOTE, Finding, Severity, draft
from fabric.demo.fixing import Workshop, resource
from fabric.demo.fleet import COPY_FOLDER, FIXERS, FLEET, REMARKS
from fabric.demo.tree import Tree
from fabric.store.port import Entry
from fabric.view import markdown
from fabric.view.text import counted
from fabric.view.timeline import Timeline
from fabric.watch.board import Growth
from fabric.wire.stored import text_fields_of

#: Findings of one severity that are written out, and files named with the number of further ones.
FINDINGS_SHOWN_MAX, FILES_NAMED_MAX = 40, 10

#: Rows of the timeline: its beginning and its end are what people look at.
HEAD_MAX, TAIL_MAX = 80, 20

#: Lines of a difference, and skipped files, that are shown.
DIFFERENCE_LINES_MAX, SKIPPED_SHOWN_MAX = 40, 20

#: Rows that only prepare the next one: a conflict and a barrier have rows of their own.
UNSHOWN = frozenset({"INTENT", "(pause)"})

#: Parts of the run at which the findings so far are counted, in percent.
MARKS = {"a quarter": 25, "half": 50, "three quarters": 75}

_ENDS = {"COMPLETED": "completed", "FAILED": "failed"}
_PRIORITIES = {member.name: member.priority for member in FLEET}

#: A JSON object.
Document = dict[str, Any]


class _Log:
    """What the log tells: rows, when agents began and ended, and their turns at files."""

    def __init__(self) -> None:
        self.opened_ms = self.last_ms = 0
        self.rows: list[Document] = []
        self.began: dict[str, int] = {}
        self.ended: dict[str, tuple[str, int]] = {}
        #: File → turns: agent, priority, when it asked and got it, token, whom it waited for.
        self.turns: dict[str, list[Document]] = {}
        self._asked: dict[tuple[str, str], Document] = {}
        self._timeline = Timeline({member.name: member.stream for member in FLEET})

    def take(self, entry: Entry) -> None:
        fields = text_fields_of(entry[1])
        ms = int(fields["ms"])
        self.opened_ms = self.opened_ms or ms
        self.last_ms = at_ms = ms - self.opened_ms
        word, agent = fields["type"], fields.get("emitter", "")
        payload = msgspec.json.decode(fields.get("payload") or "{}")
        if fields["kind"] == "signal":
            if word == "STARTED":
                self.began.setdefault(agent, at_ms)
            elif word in _ENDS:
                self.ended[agent] = _ENDS[word], at_ms
            for path in payload.get("writes", ()) if word == "INTENT" else ():
                asked = {"agent": agent, "priority": _PRIORITIES[agent], "asked_ms": at_ms}
                self._asked.setdefault((agent, path), {**asked, "waited_for": []})
        elif fields["kind"] == "directive":
            self._obey(word, fields["to"], payload, at_ms)
        row = self._timeline.row(*entry)
        if row is not None and row.signal not in UNSHOWN:
            shown = {"signal": row.signal, "stream": row.stream, "agent": "", "action": row.action}
            self.rows.append({"at_ms": at_ms, **shown})

    def _obey(self, word: str, agent: str, payload: Mapping[str, Any], at_ms: int) -> None:
        for path in payload.get("resources", ()):
            if word == "WAIT":
                self._note(agent, path, payload["holder"])
            elif word == "PROCEED" and payload.get("token") is not None:
                turn = self._asked.pop((agent, path), None)
                if turn is not None:  # otherwise it is told again what it has
                    turn |= {"given_ms": at_ms, "token": payload["token"]}
                    self.turns.setdefault(path, []).append(turn)
                    for other, wanted in self._asked:
                        if wanted == path:
                            self._note(other, path, agent)

    def _note(self, agent: str, path: str, holder: str) -> None:
        turn = self._asked.get((agent, path))
        if turn is not None and holder and holder not in turn["waited_for"]:
            turn["waited_for"].append(holder)


async def gather(
    session: Session, growth: Growth, tree: Tree, scratch: Path, path: str, started: str
) -> Document:
    """Return the document on a session that has ended. Raises FabricError, OSError."""
    log = _Log()
    async for entry in session.log():
        log.take(entry)
    try:
        synthesis = await session.synthesis()
    except NotFoundError:
        synthesis = Synthesis({})
    arrivals = _arrivals(synthesis, log.opened_ms)
    agents: list[Document] = []
    for member in FLEET:
        status, ended_ms = log.ended.get(member.name, ("working", None))
        agents.append(
            {
                "name": member.name,
                "stream": member.stream,
                "status": status if member.name in log.began else "waiting to start",
                "ended_ms": ended_ms,
                "draft": draft([one["finding"] for one in arrivals if one["agent"] == member.name]),
                "is_reviewer": member.is_reviewer,
            }
        )
    return {
        "path": path,
        "session": session.name,
        "started": started,
        "elapsed_ms": max(one["ended_ms"] or log.last_ms for one in agents if one["is_reviewer"]),
        "files": len(tree.files),
        "agents": agents,
        "arrivals": arrivals,
        "timeline": log.rows,
        "commands": [],
        "skipped": msgspec.to_builtins(tree.skipped),
        "changes": _changes(scratch / COPY_FOLDER, log, synthesis),
        "course": _course(synthesis, growth, log, len(arrivals)),
    }


def _arrivals(synthesis: Synthesis, opened_ms: int) -> list[Document]:
    found = []
    for key, record in synthesis.findings.items():
        said = [one for one in record.sources if one.value is not None]
        if key == VOTE or record.state in (State.WITHDRAWN, State.SUPERSEDED) or not said:
            continue
        first = said[0]
        outside = {
            "key": key,
            "evidence": first.evidence or "",
            "confidence": first.confidence or 1.0,
        }
        finding = msgspec.convert({**(record.value or first.value), **outside}, Finding)
        at_ms = record.first_ms - opened_ms
        arrival = {"agent": first.agent, "at_ms": at_ms, "finding": finding, "log": first.log}
        found.append(arrival)
    return sorted(found, key=lambda one: (one["log"], one["finding"].key))


def _changes(folder: Path, log: _Log, synthesis: Synthesis) -> Document:
    said: Mapping[str, Sequence[str]] = (synthesis.plain or {}).get(REMARKS, {})
    remarks = [f"{name}: {text}" for name, texts in said.items() for text in texts]
    try:
        workshop = Workshop(folder)
    except FileNotFoundError:
        return {"files": [], "difference": [], "remarks": remarks}
    files = [
        {"path": path, "edits": edits, "turns": log.turns.get(resource(path), [])}
        for path, edits in workshop.made().items()
    ]
    difference: list[str] = []
    for path in workshop.files[:1]:
        before, now = (
            workshop.read(path, part).decode("utf-8", "replace").expandtabs().splitlines()
            for part in ("before", "fixed")
        )
        names = f"before/{path}", f"fixed/{path}"
        difference = list(difflib.unified_diff(before, now, *names, n=1, lineterm=""))
    return {"files": files, "difference": difference, "remarks": remarks}


def _course(synthesis: Synthesis, growth: Growth, log: _Log, total: int) -> Document:
    run_ms = max([at_ms for _, at_ms in log.ended.values()], default=log.last_ms)
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
        for one in (vote.sources if vote is not None else ())
        if one.value is not None
    }
    disputes = [
        {
            "part": open_.part,
            "question": open_.question,
            "values": {str(one[0].value): [who.agent for who in one] for one in open_.values},
            "options": open_.options,
        }
        for open_ in synthesis.contradictions.values()
    ]
    return {
        "agents": len(FLEET),
        "findings": total,
        "revisions": synthesis.revision,
        "is_final": synthesis.is_final,
        "first": msgspec.to_builtins(growth.points[0]) if growth.points else None,
        "first_finding": msgspec.to_builtins(growth.first_finding),
        "milestones": milestones,
        "views": list(views.values()),
        "disputes": disputes,
    }


def faults(report: Document) -> list[str]:
    """Return what is not as it must be, in sentences."""
    found = [f"{path} of the copy does not hold both edits" for path in _lost(report["changes"])]
    course = report["course"]
    if course["first"] is None:
        found.append("the synthesis has no revision: no synthesizer was at work")
    elif course["first"]["ended"]:
        ended = f"{course['first']['ended']} of {course['agents']} agents had ended"
        found.append(f"{ended} before the first revision of the synthesis was published")
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
    sections = {
        "Who found what": _agents(report),
        "How it came together": _growth(report["course"], report["session"]),
        "What was changed": _changed(report["changes"]),
        "What to do": _recommendations(report["agents"]),
        "Findings": _findings(report["arrivals"]),
        "Not reviewed": _skipped(report["skipped"]),
        "Timeline": _timeline(report["timeline"]),
        "Look inside": _commands(report["commands"]),
    }
    parts = ["\n".join(_summary(report))]
    for title, section in sections.items():
        text = "\n".join(section).strip("\n")
        parts += [f"## {title}\n\n{text}"] if text else []
    return "\n\n".join(parts) + "\n"


def _summary(report: Document) -> Iterator[str]:
    arrivals, agents = report["arrivals"], report["agents"]
    counts = Counter(one["finding"].severity for one in arrivals)
    kinds = ", ".join(f"{counts[severity]:,} {severity.value}" for severity in Severity)
    found = f"{counted(len(arrivals), 'thing')}: {kinds}" if arrivals else "nothing"
    reviewers = sum(one["is_reviewer"] for one in agents)
    in_s = report["elapsed_ms"] / 1000
    yield f"# Code review of {markdown.code(report['path']) or 'nothing'}"
    yield ""
    files = counted(report["files"], "file")
    yield f"{reviewers} agents reviewed {files} in {in_s:.1f} s and found {found}."
    if arrivals:
        first = min(one["at_ms"] for one in arrivals)
        at_work = sum(one["ended_ms"] is None or one["ended_ms"] > first for one in agents)
        others = f", while {at_work} agents were still at work" if at_work > 1 else ""
        yield f"The first finding was there after {first / 1000:.2f} s{others}."
    if report["changes"]["files"]:
        fixed = counted(len(report["changes"]["files"]), "file")
        yield f"Three more copied and fixed {fixed}: see [What was changed](#what-was-changed)."
    if report["skipped"]:
        yield "Not everything was reviewed: see [Not reviewed](#not-reviewed)."
    yield f"Session {markdown.code(report['session'])}, started {markdown.text(report['started'])}."


def _agents(report: Document) -> Iterator[str]:
    header = ["Agent", "Stream", "High", "Medium", "Low", "First finding", "Ended", "Status"]
    rows = []
    for agent in report["agents"]:
        mine = [one for one in report["arrivals"] if one["agent"] == agent["name"]]
        counts = Counter(one["finding"].severity for one in mine)
        first = clock(min(one["at_ms"] for one in mine)) if mine else "–"
        ended = clock(agent["ended_ms"]) if agent["ended_ms"] is not None else "–"
        numbers = [f"{counts[one]:,}" if agent["is_reviewer"] else "–" for one in Severity]
        rows.append([agent["name"], agent["stream"], *numbers, first, ended, agent["status"]])
    yield from markdown.table(header, [list(map(markdown.text, row)) for row in rows])


def _growth(made: Document, session: str) -> Iterator[str]:
    first, finding = made["first"], made["first_finding"]
    if first is None:
        return
    starting = made["agents"] - first["begun"]
    still = f" and {starting} of them were still starting" if starting else ""
    ended = f"when none of the {made['agents']} agents had ended{still}"
    if first["ended"]:
        ended = f"**when {first['ended']} of {made['agents']} agents had already ended**"
    text = f"The first revision was published {_within(first)}, {ended}."
    if finding is not None:
        had = f"{finding['ended']} of them had" if finding["ended"] else "no agent had"
        text += f" The first finding was in revision {finding['number']:,}, {_within(finding)}, "
        text += f"when {had} ended."
    last = "is final" if made["is_final"] else "**is not final**"
    yield f"{text} Revision {made['revisions']:,}, the last one, {last}."
    if made["findings"]:
        yield ""
        header = ["Of the run", "Time", "Findings available", "Share"]
        rows = []
        for one in made["milestones"]:
            there = f"{one['findings']:,} of {made['findings']:,}"
            rows.append([one["after"], clock(one["at_ms"]), there, f"{one['share']:.0%}"])
        yield from markdown.table(header, rows)
    if made["views"]:
        yield ""
        yield "Each reviewer voted for the file to begin with, by the worst that it had found:"
        yield ""
    for view in made["views"]:
        said = view["opinion"]
        gave_way = "" if view["is_held"] else "; it gave way to one that had found worse"
        name, path = markdown.text(view["agent"]), markdown.code(said["path"])
        yield f"- {name}: {path}, for {said['count']:,} × {said['severity']}{gave_way}"
    for one in made["disputes"]:
        values = "; ".join(
            f"{markdown.code(value)} ({markdown.text(', '.join(agents))})"
            for value, agents in one["values"].items()
        )
        command = ["fabric", "decide", one["question"], one["options"][0], "--session", session]
        others = f"  # or {', '.join(one['options'][1:])}" if one["options"][1:] else ""
        yield ""
        yield f"They still contradict each other on {markdown.code(one['part'])}: {values}."
        yield "You decide who is right, while `fabric up` is running:"
        yield ""
        yield from markdown.block([shlex.join(command) + others], "sh")


def _within(point: Document) -> str:
    # The watcher does not know the server's clock to the ms.
    return f"within {point['at_ms'] // 100 / 10 + 0.1:.1f} s"


def _changed(changes: Document) -> Iterator[str]:
    files, difference = changes["files"], changes["difference"]
    if files:
        names = " and ".join(sorted(member.name for member in FIXERS))
        text = f"{names} edited a scratch copy of {counted(len(files), 'file')}, one at a time; "
        lost = ", ".join(map(markdown.code, _lost(changes)))
        verdict = f"**An edit is missing** in {lost}."
        whole = "Each file holds both edits: none was overwritten."
        yield f"{text}yours are untouched. {verdict if lost else whole}"
        yield ""
        header = ["File", "Agent", "Priority", "Asked", "Got it", "Token", "Waited for"]
        rows = []
        for change in files:
            for turn in change["turns"]:
                times = clock(turn["asked_ms"]), clock(turn["given_ms"])
                who = [markdown.text(turn["agent"]), str(turn["priority"]), *times]
                waited = markdown.text(", ".join(turn["waited_for"])) or "–"
                rows.append([markdown.code(change["path"]), *who, str(turn["token"]), waited])
        yield from markdown.table(header, rows)
    for words in changes["remarks"]:
        yield ""
        yield markdown.text(words)
    if difference:
        yield ""
        yield f"Both wanted {markdown.code(files[0]['path'])} at the same time. It now reads:"
        yield ""
        shown = difference[:DIFFERENCE_LINES_MAX]
        rest = len(difference) - len(shown)
        yield from markdown.block([*shown, *([f"… {rest:,} more lines"] if rest else [])], "diff")


def _recommendations(agents: Sequence[Document]) -> Iterator[str]:
    items = [(agent["name"], one) for agent in agents for one in agent["draft"]["items"]]
    for name, one in sorted(items, key=lambda item: Severity(item[1]["severity"]).rank):
        number = f"{one['count']:,} × {markdown.text(one['rule'])}"
        places = ", ".join(map(markdown.code, one["places"]))
        where = f" Begin at {places}." if places else ""
        advice = markdown.prose(one["advice"].removesuffix("."))
        by = f"in {counted(one['files'], 'file')} ({one['severity']}, {markdown.text(name)})"
        yield f"- **{number}** {by}. {advice}.{where}"
    for agent in agents:
        left_out = agent["draft"]["left_out"].items()
        rest = ", ".join(f"{count:,} × {markdown.text(rule)}" for rule, count in left_out)
        if rest:
            yield f"- {markdown.text(agent['name'])} also has: {rest}."


def _findings(arrivals: Sequence[Document]) -> Iterator[str]:
    for severity in Severity:
        found = [one for one in arrivals if one["finding"].severity is severity]
        found.sort(key=lambda one: (one["finding"].path, one["finding"].line, one["finding"].key))
        if not found:
            continue
        yield ""
        yield f"### {severity.value.title()} ({len(found):,})"
        shown, rest = found[:FINDINGS_SHOWN_MAX], found[FINDINGS_SHOWN_MAX:]
        for path, group in groupby(shown, key=lambda one: str(one["finding"].path)):
            yield from ("", f"**{markdown.code(path)}**", "")
            for arrival in group:
                yield from _finding(arrival["finding"], arrival["agent"], arrival["at_ms"])
        if rest:
            files = Counter(one["finding"].path for one in rest)
            named = [f"{markdown.code(p)} ({n:,})" for p, n in files.most_common(FILES_NAMED_MAX)]
            if len(files) > FILES_NAMED_MAX:
                named.append(f"and {counted(len(files) - FILES_NAMED_MAX, 'more file')}")
            yield ""
            yield f"… and {len(rest):,} more, in {', '.join(named)}."


def _finding(finding: Finding, agent: str, at_ms: int) -> Iterator[str]:
    where = f"line {finding.line:,}" if finding.line else "the file"
    sure = f", {finding.confidence:.0%} sure" if finding.confidence < 1 else ""
    source = f"{markdown.text(finding.rule)}, {markdown.text(agent)}{sure}, at {clock(at_ms)}"
    evidence = markdown.code(finding.evidence)
    # Two blanks at the end of a line break it.
    yield f"- {where}: {markdown.prose(finding.message)} ({source}){'  ' if evidence else ''}"
    if evidence:
        yield f"  {evidence}"


def _skipped(skipped: Sequence[Document]) -> Iterator[str]:
    for one in skipped[:SKIPPED_SHOWN_MAX]:
        yield f"- {markdown.code(one['path'])}: {markdown.text(one['reason'])}"
    if len(skipped) > SKIPPED_SHOWN_MAX:
        yield f"- and {len(skipped) - SKIPPED_SHOWN_MAX:,} more"


def _timeline(rows: Sequence[Document]) -> Iterator[str]:
    if not rows:
        return
    shown = list(rows)
    if len(rows) > HEAD_MAX + TAIL_MAX:
        shown = [one for one in rows if not one["signal"].startswith(("PARTIAL_", "PROGRESS"))]
    cells = []
    for row in shown:
        signal, stream = markdown.text(row["signal"]), markdown.text(row["stream"])
        cells.append([clock(row["at_ms"]), signal, stream, markdown.prose(row["action"])])
    left_out = len(cells) - HEAD_MAX - TAIL_MAX
    if left_out > 0:
        cells[HEAD_MAX:-TAIL_MAX] = [["…", "", "", counted(left_out, "more signal")]]
    yield from markdown.table(["Time", "Signal", "Stream", "Action"], cells)
    if len(shown) < len(rows):
        minor = counted(len(rows) - len(shown), "row")
        yield ""
        yield f"{minor} of progress and of partial results left out."


def _commands(commands: Sequence[str]) -> Iterator[str]:
    if commands:
        yield "Everything above is in Redis. `fabric up` restarts the private server:"
        yield ""
        yield from markdown.block(commands, "sh")
