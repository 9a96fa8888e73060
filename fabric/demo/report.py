"""Builds the fleet's report as Markdown: a pure function of what the agents found and did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

import msgspec

from fabric.demo import changes, course
from fabric.demo.changes import Changes
from fabric.demo.course import Course
from fabric.demo.finding import Severity
from fabric.demo.harvest import Arrival
from fabric.demo.listing import Skipped
from fabric.demo.recommend import Draft
from fabric.view import markdown

#: Findings of one severity that are written out. More is a list that nobody reads to its end.
FINDINGS_SHOWN_MAX = 40
#: Files that are named with the number of their further findings.
FILES_NAMED_MAX = 10
#: Rows of a timeline that are left out first, when it is too long.
TIMELINE_MINOR = frozenset({"PARTIAL_RESULT"})
#: Rows of the timeline: its beginning and its end are what people look at.
TIMELINE_HEAD_MAX = 80
TIMELINE_TAIL_MAX = 20
#: Skipped files and directories that are named.
SKIPPED_SHOWN_MAX = 20

_TITLES = {Severity.HIGH: "High", Severity.MEDIUM: "Medium", Severity.LOW: "Low"}


class Row(msgspec.Struct, frozen=True):
    """One line of the timeline; `at_ms` since the start. `agent` may be empty."""

    at_ms: int
    signal: str
    stream: str
    agent: str
    action: str


class AgentSummary(msgspec.Struct, frozen=True):
    """How one agent fared; `ended_ms` since the start, None for one that has not ended."""

    name: str
    stream: str
    status: str
    ended_ms: int | None = None
    draft: Draft = Draft(())
    is_reviewer: bool = True


class Report(msgspec.Struct, frozen=True):
    """All that the report tells. `started` is shown as it is; `commands` are redis-cli lines;
    `elapsed_ms` is when the last reviewer had ended.
    """

    path: str
    session: str
    started: str
    elapsed_ms: int
    files: int
    agents: tuple[AgentSummary, ...]
    arrivals: tuple[Arrival, ...]
    timeline: tuple[Row, ...]
    commands: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()
    changes: Changes = Changes()
    course: Course = Course()


def render(report: Report) -> str:
    """Return the report as Markdown, ending in a newline.

    Whatever comes from the reviewed files is escaped. Lists are bounded, and say what they leave
    out. Pure: the same report gives the same text.
    """
    sections = [
        [f"# Code review of {markdown.code(report.path) or 'nothing'}", "", _summary(report)],
        list(_agents(report)),
        list(course.section(report.course, report.session, clock)),
        list(changes.section(report.changes, clock)),
        list(_recommendations(report)),
        list(_findings(report)),
        list(_skipped(report)),
        list(_timeline(report.timeline)),
        list(_commands(report)),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def clock(at_ms: int) -> str:
    """Return ms since the start as minutes, seconds and thousandths: `0:05.120`."""
    minutes, rest = divmod(max(at_ms, 0), 60_000)
    return f"{minutes}:{rest // 1000:02d}.{rest % 1000:03d}"


def _summary(report: Report) -> str:
    counts = Counter(arrival.finding.severity for arrival in report.arrivals)
    kinds = ", ".join(f"{counts[severity]:,} {severity.value}" for severity in Severity)
    agents = _number(sum(agent.is_reviewer for agent in report.agents), "agent")
    what = f"{agents} reviewed {_number(report.files, 'file')} in {report.elapsed_ms / 1000:.1f} s"
    if not report.arrivals:
        found = "and found nothing to complain of."
    else:
        found = f"and found {_number(len(report.arrivals), 'thing')}: {kinds}."
    lines = [f"{what} {found}"]
    if report.arrivals:
        first = min(arrival.at_ms for arrival in report.arrivals)
        at_work = sum(agent.ended_ms is None or agent.ended_ms > first for agent in report.agents)
        while_at_work = (
            f", while {_number(at_work, 'agent')} were still at work" if at_work > 1 else ""
        )
        lines.append(f"The first finding was there after {first / 1000:.2f} s{while_at_work}.")
    if report.changes.files:
        fixed = _number(len(report.changes.files), "file")
        lines.append(
            f"Three more copied and fixed {fixed}: see [What was changed](#what-was-changed)."
        )
    if report.skipped:
        lines.append("Not everything was reviewed: see [Not reviewed](#not-reviewed).")
    lines.append(
        f"Session {markdown.code(report.session)}, started {markdown.text(report.started)}."
    )
    return "\n".join(lines)


def _agents(report: Report) -> Iterator[str]:
    if not report.agents:
        return
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


def _recommendations(report: Report) -> Iterator[str]:
    drafts = [(agent, agent.draft) for agent in report.agents if agent.draft.items]
    if not drafts:
        return
    yield "## What to do"
    yield ""
    items = [
        (item.severity.rank, agent.name, item) for agent, draft in drafts for item in draft.items
    ]
    for _, name, item in sorted(items, key=lambda entry: entry[:2]):
        number = f"{item.count:,} × {markdown.text(item.rule)}"
        places = ", ".join(markdown.code(place) for place in item.places)
        where = f" Begin at {places}." if places else ""
        files = _number(item.files, "file")
        advice = markdown.prose(item.advice)
        by = f"{item.severity.value}, {markdown.text(name)}"
        yield f"- **{number}** in {files} ({by}). {advice}{where}"
    for agent, draft in drafts:
        if draft.left_out:
            rest = ", ".join(
                f"{count:,} × {markdown.text(rule)}" for rule, count in draft.left_out.items()
            )
            yield f"- {markdown.text(agent.name)} also has: {rest}."


def _findings(report: Report) -> Iterator[str]:
    if not report.arrivals:
        return
    yield "## Findings"
    for severity in Severity:
        arrivals = [item for item in report.arrivals if item.finding.severity is severity]
        if arrivals:
            yield ""
            yield f"### {_TITLES[severity]} ({len(arrivals):,})"
            yield from _by_file(sorted(arrivals, key=_position))


def _by_file(arrivals: Sequence[Arrival]) -> Iterator[str]:
    for path, group in groupby(arrivals[:FINDINGS_SHOWN_MAX], key=lambda item: item.finding.path):
        yield ""
        yield f"**{markdown.code(path)}**"
        yield ""
        for arrival in group:
            yield from _finding(arrival)
    rest = arrivals[FINDINGS_SHOWN_MAX:]
    if rest:
        files = Counter(arrival.finding.path for arrival in rest)
        named = [
            f"{markdown.code(path)} ({count:,})"
            for path, count in files.most_common(FILES_NAMED_MAX)
        ]
        if len(files) > FILES_NAMED_MAX:
            named.append(f"and {_number(len(files) - FILES_NAMED_MAX, 'more file')}")
        yield ""
        yield f"… and {len(rest):,} more, in {', '.join(named)}."


def _finding(arrival: Arrival) -> Iterator[str]:
    finding = arrival.finding
    where = f"line {finding.line:,}" if finding.line else "the file"
    sure = f", {finding.confidence:.0%} sure" if finding.confidence < 1 else ""
    rule, agent = markdown.text(finding.rule), markdown.text(arrival.agent)
    evidence = markdown.code(finding.evidence)
    # Two blanks at the end of a line break it.
    line_break = "  " if evidence else ""
    source = f"{rule}, {agent}{sure}, at {clock(arrival.at_ms)}"
    yield f"- {where}: {markdown.prose(finding.message)} ({source}){line_break}"
    if evidence:
        yield f"  {evidence}"


def _position(arrival: Arrival) -> tuple[str, int, str]:
    return arrival.finding.path, arrival.finding.line, arrival.finding.key


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
    ordered = sorted(rows, key=lambda row: row.at_ms)
    minor = 0
    if len(ordered) > TIMELINE_HEAD_MAX + TIMELINE_TAIL_MAX:
        major = [row for row in ordered if not _is_minor(row)]
        minor, ordered = len(ordered) - len(major), major
    cells = [_row(row) for row in ordered]
    left_out = len(cells) - TIMELINE_HEAD_MAX - TIMELINE_TAIL_MAX
    if left_out > 0:
        gap = ["…", "", "", f"{_number(left_out, 'more signal')}"]
        cells = [*cells[:TIMELINE_HEAD_MAX], gap, *cells[-TIMELINE_TAIL_MAX:]]
    yield from markdown.table(["Time", "Signal", "Stream", "Action"], cells)
    if minor:
        yield ""
        yield f"{_number(minor, 'row')} of progress and of partial results left out."


def _is_minor(row: Row) -> bool:
    return row.signal in TIMELINE_MINOR or row.signal.startswith("PROGRESS")


def _row(row: Row) -> list[str]:
    who = f"{markdown.text(row.agent)}: " if row.agent else ""
    signal, stream = markdown.text(row.signal), markdown.text(row.stream)
    return [clock(row.at_ms), signal, stream, who + markdown.prose(row.action)]


def _commands(report: Report) -> Iterator[str]:
    if not report.commands:
        return
    yield "## Look inside"
    yield ""
    yield "Everything above is in Redis; `fabric up` brings a private server back that has ended:"
    yield ""
    yield from markdown.block(report.commands, "sh")


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
