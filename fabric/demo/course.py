"""How the synthesis of a review has grown, and what it leaves open: a section of the report."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence

import msgspec

from fabric.demo.growth import Point
from fabric.demo.harvest import Dispute, Harvest, View
from fabric.view import markdown

#: Parts of the run at which is looked how much was there already, in percent.
MARKS = {"a quarter": 25, "half": 50, "three quarters": 75}


class Milestone(msgspec.Struct, frozen=True):
    """What was available at a part of the run: findings in a revision that had been published."""

    after: str
    at_ms: int
    findings: int
    share: float


class Course(msgspec.Struct, frozen=True):
    """What became of the synthesis. `first_finding` is the first revision that had one.

    `agents` are those of the fleet; `findings` what there was at the end.
    """

    agents: int = 0
    findings: int = 0
    revisions: int = 0
    is_final: bool = False
    first: Point | None = None
    first_finding: Point | None = None
    milestones: tuple[Milestone, ...] = ()
    views: tuple[View, ...] = ()
    disputes: tuple[Dispute, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """Say what is not as it must be."""
        found = []
        if self.first is None:
            found.append("the synthesis has no revision: no synthesizer was at work")
        elif self.first.ended:
            found.append(
                f"{self.first.ended} of {self.agents} agents had ended before the first revision "
                f"of the synthesis was there"
            )
        if not self.is_final:
            found.append("the synthesis is not final: not all that was found may be in the report")
        return tuple(found)


def course(points: Sequence[Point], found: Harvest, agents: int, run_ms: int) -> Course:
    """Return how a synthesis has grown; the run goes from the first signal to the last end."""
    total = len(found.arrivals)
    milestones = []
    for after, percent in MARKS.items():
        at_ms = run_ms * percent // 100
        there = next((one.findings for one in reversed(points) if one.at_ms <= at_ms), 0)
        milestones.append(Milestone(after, at_ms, there, there / total if total else 1))
    return Course(
        agents,
        total,
        found.revision,
        found.is_final,
        points[0] if points else None,
        next((point for point in points if point.findings), None),
        tuple(milestones),
        found.views,
        found.disputes,
    )


def section(made: Course, session: str, clock: Callable[[int], str]) -> Iterator[str]:
    """Yield the lines of the report's section; `clock` shows a time in ms."""
    if made.first is None:
        return
    yield "## How it came together"
    yield ""
    text = f"The first revision was published {_within(made.first)}, {_at_work(made)}."
    if made.first_finding is not None:
        point = made.first_finding
        how = f"{point.ended:,} of them had" if point.ended else "no agent had"
        text += (
            f" The first finding was in revision {point.number:,}, {_within(point)}, when {how} "
            f"ended."
        )
    last = "is final" if made.is_final else "**is not final**"
    yield f"{text} Revision {made.revisions:,}, the last one, {last}."
    if made.findings:
        yield ""
        header = ["Of the run", "Time", "Findings available", "Share"]
        yield from markdown.table(header, (_milestone(one, made, clock) for one in made.milestones))
    for part in (list(_beginning(made.views)), list(_disputes(made.disputes, session))):
        if part:
            yield ""
            yield from part


def _milestone(one: Milestone, made: Course, clock: Callable[[int], str]) -> list[str]:
    there = f"{one.findings:,} of {made.findings:,}"
    return [one.after, clock(one.at_ms), there, f"{one.share:.0%}"]


def _within(point: Point) -> str:
    # Who watches does not know the server's clock to the ms.
    return f"within {point.at_ms // 100 / 10 + 0.1:.1f} s"


def _at_work(made: Course) -> str:
    assert made.first is not None
    if made.first.ended:
        return f"**when {made.first.ended:,} of {made.agents:,} agents had already ended**"
    rest = made.agents - made.first.begun
    still = f" and {rest:,} of them were still starting" if rest else ""
    return f"when none of the {made.agents:,} agents had ended{still}"


def _beginning(views: Sequence[View]) -> Iterator[str]:
    """Say where to begin, by those who looked for different things."""
    if not views:
        return
    yield "Each reviewer named the file to begin with, by the worst that it had found:"
    yield ""
    for view in views:
        said = view.opinion
        gave_way = "" if view.is_held else "; it gave way to who had found worse"
        name, path = markdown.text(view.agent), markdown.code(said.path)
        yield f"- {name}: {path}, for {said.count:,} × {said.severity.value}{gave_way}"


def _disputes(disputes: Sequence[Dispute], session: str) -> Iterator[str]:
    for dispute in disputes:
        said = "; ".join(
            f"{markdown.code(value)} ({markdown.text(', '.join(agents))})"
            for value, agents in dispute.values.items()
        )
        yield f"They still contradict each other on {markdown.code(dispute.part)}: {said}."
        yield "Who is right, you decide, while `fabric up` is running:"
        yield ""
        words = ["fabric", "decide", dispute.question, dispute.options[0], "--session", session]
        others = f"  # or {', '.join(dispute.options[1:])}" if dispute.options[1:] else ""
        yield from markdown.block([shlex.join(words) + others], "sh")
