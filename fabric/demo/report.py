"""The report of a review, as Markdown. Pure."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from fabric.demo.finding import Severity
from fabric.demo.fleet import FIXERS
from fabric.demo.outcome import Arrival, Changes, Course, Report, Row
from fabric.view import markdown
from fabric.view.text import counted
from fabric.watch.board import Point

#: Findings of one severity that are written out, and files that are named with the number of
#: further ones.
FINDINGS_SHOWN_MAX, FILES_NAMED_MAX = 40, 10

#: Rows of the timeline: its beginning and its end are what people look at.
HEAD_MAX, TAIL_MAX = 80, 20

#: Lines of a difference, and skipped files, that are shown.
DIFFERENCE_LINES_MAX, SKIPPED_SHOWN_MAX = 40, 20

_FIXERS = " and ".join(sorted(member.name for member in FIXERS))


def clock(at_ms: int) -> str:
    """Return ms since the start as minutes, seconds and thousandths: `0:05.120`."""
    minutes, rest = divmod(max(at_ms, 0), 60_000)
    return f"{minutes}:{rest // 1000:02d}.{rest % 1000:03d}"


def render(report: Report) -> str:
    """Return the report as Markdown. What comes from the reviewed files is escaped; lists are
    bounded, and say what they leave out.
    """
    sections = [
        _summary(report),
        _agents(report),
        _growth(report.course, report.session),
        _changed(report.changes),
        _recommendations(report),
        _findings(report),
        _skipped(report),
        _timeline(report.timeline),
        _commands(report),
    ]
    return "\n\n".join("\n".join(lines) for one in sections if (lines := list(one))) + "\n"


def _summary(report: Report) -> Iterator[str]:
    yield f"# Code review of {markdown.code(report.path) or 'nothing'}"
    yield ""
    counts = Counter(arrival.finding.severity for arrival in report.arrivals)
    kinds = ", ".join(f"{counts[severity]:,} {severity.value}" for severity in Severity)
    reviewers = sum(agent.is_reviewer for agent in report.agents)
    found = counted(len(report.arrivals), "thing")
    what = f"{found}: {kinds}" if report.arrivals else "nothing"
    files = counted(report.files, "file")
    in_s = report.elapsed_ms / 1000
    yield f"{reviewers} agents reviewed {files} in {in_s:.1f} s and found {what}."
    if report.arrivals:
        first = min(arrival.at_ms for arrival in report.arrivals)
        at_work = sum(agent.ended_ms is None or agent.ended_ms > first for agent in report.agents)
        while_at_work = f", while {at_work} agents were still at work" if at_work > 1 else ""
        yield f"The first finding was there after {first / 1000:.2f} s{while_at_work}."
    if report.changes.files:
        fixed = counted(len(report.changes.files), "file")
        yield f"Three more copied and fixed {fixed}: see [What was changed](#what-was-changed)."
    if report.skipped:
        yield "Not everything was reviewed: see [Not reviewed](#not-reviewed)."
    yield f"Session {markdown.code(report.session)}, started {markdown.text(report.started)}."


def _agents(report: Report) -> Iterator[str]:
    yield "## Who found what"
    yield ""
    header = ["Agent", "Stream", "High", "Medium", "Low", "First finding", "Ended", "Status"]
    rows = []
    for agent in report.agents:
        mine = [arrival for arrival in report.arrivals if arrival.agent == agent.name]
        counts = Counter(arrival.finding.severity for arrival in mine)
        first = clock(min(arrival.at_ms for arrival in mine)) if mine else "–"
        ended = clock(agent.ended_ms) if agent.ended_ms is not None else "–"
        numbers = [f"{counts[severity]:,}" if agent.is_reviewer else "–" for severity in Severity]
        name, stream = markdown.text(agent.name), markdown.text(agent.stream)
        rows.append([name, stream, *numbers, first, ended, markdown.text(agent.status)])
    yield from markdown.table(header, rows)


def _growth(made: Course, session: str) -> Iterator[str]:
    if made.first is None:
        return
    yield "## How it came together"
    yield ""
    starting = made.agents - made.first.begun
    still = f" and {starting} of them were still starting" if starting else ""
    ended = (
        f"**when {made.first.ended} of {made.agents} agents had already ended**"
        if made.first.ended
        else f"when none of the {made.agents} agents had ended{still}"
    )
    text = f"The first revision was published {_within(made.first)}, {ended}."
    if made.first_finding is not None:
        point = made.first_finding
        had = f"{point.ended} of them had" if point.ended else "no agent had"
        text += f" The first finding was in revision {point.number:,}, {_within(point)}, "
        text += f"when {had} ended."
    last = "is final" if made.is_final else "**is not final**"
    yield f"{text} Revision {made.revisions:,}, the last one, {last}."
    if made.findings:
        yield ""
        rows = [
            [
                one.after,
                clock(one.at_ms),
                f"{one.findings:,} of {made.findings:,}",
                f"{one.share:.0%}",
            ]
            for one in made.milestones
        ]
        yield from markdown.table(["Of the run", "Time", "Findings available", "Share"], rows)
    if made.views:
        yield ""
        yield "Each reviewer voted for the file to begin with, by the worst that it had found:"
        yield ""
    for view in made.views:
        why = f"{view.opinion.count:,} × {view.opinion.severity.value}"
        gave_way = "" if view.is_held else "; it gave way to one that had found worse"
        name, path = markdown.text(view.agent), markdown.code(view.opinion.path)
        yield f"- {name}: {path}, for {why}{gave_way}"
    for dispute in made.disputes:
        said = "; ".join(
            f"{markdown.code(value)} ({markdown.text(', '.join(agents))})"
            for value, agents in dispute.values.items()
        )
        words = ["fabric", "decide", dispute.question, dispute.options[0], "--session", session]
        others = f"  # or {', '.join(dispute.options[1:])}" if dispute.options[1:] else ""
        yield ""
        yield f"They still contradict each other on {markdown.code(dispute.part)}: {said}."
        yield "You decide who is right, while `fabric up` is running:"
        yield ""
        yield from markdown.block([shlex.join(words) + others], "sh")


def _within(point: Point) -> str:
    # The watcher does not know the server's clock to the ms.
    return f"within {point.at_ms // 100 / 10 + 0.1:.1f} s"


def _changed(found: Changes) -> Iterator[str]:
    if not found.files and not found.remarks:
        return
    yield "## What was changed"
    if found.files:
        yield ""
        files = counted(len(found.files), "file")
        text = f"{_FIXERS} edited a scratch copy of {files}, one at a time; yours are untouched."
        lost = ", ".join(map(markdown.code, found.lost))
        verdict = "Each file holds both edits: none was overwritten."
        yield f"{text} {f'**An edit is missing** in {lost}.' if lost else verdict}"
        yield ""
        header = ["File", "Agent", "Priority", "Asked", "Got it", "Token", "Waited for"]
        rows = [
            [
                markdown.code(change.path),
                markdown.text(turn.agent),
                str(turn.priority),
                clock(turn.asked_ms),
                clock(turn.given_ms),
                str(turn.token),
                markdown.text(", ".join(turn.waited_for)) or "–",
            ]
            for change in found.files
            for turn in change.turns
        ]
        yield from markdown.table(header, rows)
    for words in found.remarks:
        yield ""
        yield markdown.text(words)
    if found.difference:
        yield ""
        yield f"Both wanted {markdown.code(found.files[0].path)} at the same time. It now reads:"
        yield ""
        shown = found.difference[:DIFFERENCE_LINES_MAX]
        rest = len(found.difference) - len(shown)
        yield from markdown.block([*shown, *([f"… {rest:,} more lines"] if rest else [])], "diff")


def _recommendations(report: Report) -> Iterator[str]:
    drafts = [(agent.name, agent.draft) for agent in report.agents if agent.draft.items]
    if not drafts:
        return
    yield "## What to do"
    yield ""
    items = [(item.severity.rank, name, item) for name, made in drafts for item in made.items]
    for _, name, item in sorted(items, key=lambda entry: entry[:2]):
        number = f"{item.count:,} × {markdown.text(item.rule)}"
        places = ", ".join(map(markdown.code, item.places))
        where = f" Begin at {places}." if places else ""
        by = f"{item.severity.value}, {markdown.text(name)}"
        advice = markdown.prose(item.advice.removesuffix("."))
        yield f"- **{number}** in {counted(item.files, 'file')} ({by}). {advice}.{where}"
    for name, made in drafts:
        if made.left_out:
            rest = ", ".join(f"{n:,} × {markdown.text(rule)}" for rule, n in made.left_out.items())
            yield f"- {markdown.text(name)} also has: {rest}."


def _findings(report: Report) -> Iterator[str]:
    if not report.arrivals:
        return
    yield "## Findings"
    for severity in Severity:
        found = [one for one in report.arrivals if one.finding.severity is severity]
        found.sort(key=lambda one: (one.finding.path, one.finding.line, one.finding.key))
        if not found:
            continue
        yield ""
        yield f"### {severity.value.title()} ({len(found):,})"
        shown, rest = found[:FINDINGS_SHOWN_MAX], found[FINDINGS_SHOWN_MAX:]
        for path, group in groupby(shown, key=lambda one: one.finding.path):
            yield from ("", f"**{markdown.code(path)}**", "")
            for arrival in group:
                yield from _finding(arrival)
        if rest:
            files = Counter(arrival.finding.path for arrival in rest)
            named = [f"{markdown.code(p)} ({n:,})" for p, n in files.most_common(FILES_NAMED_MAX)]
            if len(files) > FILES_NAMED_MAX:
                named.append(f"and {counted(len(files) - FILES_NAMED_MAX, 'more file')}")
            yield ""
            yield f"… and {len(rest):,} more, in {', '.join(named)}."


def _finding(arrival: Arrival) -> Iterator[str]:
    finding = arrival.finding
    where = f"line {finding.line:,}" if finding.line else "the file"
    sure = f", {finding.confidence:.0%} sure" if finding.confidence < 1 else ""
    rule, agent = markdown.text(finding.rule), markdown.text(arrival.agent)
    evidence = markdown.code(finding.evidence)
    source = f"{rule}, {agent}{sure}, at {clock(arrival.at_ms)}"
    # Two blanks at the end of a line break it.
    yield f"- {where}: {markdown.prose(finding.message)} ({source}){'  ' if evidence else ''}"
    if evidence:
        yield f"  {evidence}"


def _skipped(report: Report) -> Iterator[str]:
    if not report.skipped:
        return
    yield "## Not reviewed"
    yield ""
    for item in report.skipped[:SKIPPED_SHOWN_MAX]:
        yield f"- {markdown.code(item.path)}: {markdown.text(item.reason)}"
    if len(report.skipped) > SKIPPED_SHOWN_MAX:
        yield f"- and {len(report.skipped) - SKIPPED_SHOWN_MAX:,} more"


def _timeline(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    yield "## Timeline"
    yield ""
    major = [row for row in rows if row.signal != "PARTIAL_RESULT" and "PROGRESS" not in row.signal]
    shown = list(rows) if len(rows) <= HEAD_MAX + TAIL_MAX else major
    cells = [
        [
            clock(row.at_ms),
            *map(markdown.text, (row.signal, row.stream)),
            markdown.prose(row.action),
        ]
        for row in shown
    ]
    left_out = len(cells) - HEAD_MAX - TAIL_MAX
    if left_out > 0:
        gap = ["…", "", "", counted(left_out, "more signal")]
        cells = [*cells[:HEAD_MAX], gap, *cells[-TAIL_MAX:]]
    yield from markdown.table(["Time", "Signal", "Stream", "Action"], cells)
    if len(shown) < len(rows):
        yield ""
        minor = counted(len(rows) - len(shown), "row")
        yield f"{minor} of progress and of partial results left out."


def _commands(report: Report) -> Iterator[str]:
    if not report.commands:
        return
    yield "## Look inside"
    yield ""
    yield "Everything above is in Redis. If the private server has ended, `fabric up` restarts it:"
    yield ""
    yield from markdown.block(report.commands, "sh")
