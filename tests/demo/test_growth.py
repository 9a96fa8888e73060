"""How a synthesis grows: what is counted at each revision, and what the report says of it."""

from typing import Any

from fabric.client.synthesis import Revision
from fabric.demo.course import course, section
from fabric.demo.finding import Finding, Severity
from fabric.demo.growth import Growth, Point
from fabric.demo.harvest import Arrival, Dispute, Harvest, View
from fabric.demo.opinion import KEY, Opinion
from fabric.demo.report import clock


def part(agent: str, state: str = "agreed") -> dict[str, Any]:
    return {"state": state, "first": {"log": 3, "ms": 5, "agent": agent}}


def added(key: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"op": "add", "path": f"/findings/{key}", "value": value}


def head(**complete: Any) -> dict[str, Any]:
    return {"op": "add", "path": "/complete", "value": complete}


def revision(number: int, *operations: dict[str, Any], is_final: bool = False) -> Revision:
    return Revision(number, list(operations), [f"{number}-0"], 1_000, is_final)


def test_findings_are_counted_while_they_hold_and_the_newest_are_shown() -> None:
    growth = Growth()
    whole = {"complete": {"percent": 3, "contradictions": 0}, "findings": {}}
    growth.take(revision(1, {"op": "add", "path": "", "value": whole}), 10, 1, 0)
    growth.take(revision(2, head(percent=7), added("a~1b.py:1:r", part("STYLE"))), 20, 9, 0)
    more = added("c.py:2:r", part("SAFETY", "contradicted")), added(KEY, part("SAFETY"))
    growth.take(revision(3, head(percent=9, contradictions=1), *more), 30, 9, 0)
    gone = added("a~1b.py:1:r", part("STYLE", "withdrawn"))
    growth.take(revision(4, head(percent=100), gone, is_final=True), 40, 9, 9)
    assert [point.findings for point in growth.points] == [0, 1, 2, 1]
    assert [point.contradictions for point in growth.points] == [0, 0, 1, 0]
    assert [point.percent for point in growth.points] == [3, 7, 9, 100]
    assert [(news.agent, news.key) for news in growth.newest] == [
        ("STYLE", "a/b.py:1:r"),
        ("SAFETY", "c.py:2:r"),
    ]
    assert growth.counts == {"SAFETY": 1}
    assert growth.is_final


def found(count: int, **more: Any) -> Harvest:
    finding = Finding("a.py:1:r", "a.py", 1, "r", "is wrong", Severity.LOW, "x", "Mend it.")
    arrivals = tuple(Arrival("STYLE", 100, finding) for _ in range(count))
    return Harvest(revision=3, is_final=True, arrivals=arrivals, **more)


POINTS = (
    Point(1, 8, 0, 0, 0, 2, 0),
    Point(2, 300, 2, 20, 0, 9, 0),
    Point(3, 900, 4, 100, 0, 9, 9),
)


def test_the_shares_are_those_of_the_revisions_there_by_then() -> None:
    made = course(POINTS, found(4), 9, 1_000)
    assert [one.findings for one in made.milestones] == [0, 2, 2]
    assert [one.share for one in made.milestones] == [0, 0.5, 0.5]
    assert made.faults == ()
    text = "\n".join(section(made, "demo", clock))
    assert (
        "The first revision was published within 0.1 s, when none of the 9 agents had ended and 7 "
        "of them were still starting. The first finding was in revision 2, within 0.4 s, when no "
        "agent had ended. Revision 3, the last one, is final."
    ) in text
    assert "| half | 0:00.500 | 2 of 4 | 50% |" in text


def test_a_first_revision_that_comes_late_is_a_fault() -> None:
    late = (Point(1, 500, 4, 90, 0, 9, 2),)
    (fault,) = course(late, found(4), 9, 1_000).faults
    assert fault.startswith("2 of 9 agents had ended before the first revision")
    text = "\n".join(section(course(late, found(4), 9, 1_000), "demo", clock))
    assert "**when 2 of 9 agents had already ended**" in text


def test_no_synthesis_and_none_that_is_final_are_faults() -> None:
    faults = course((), Harvest(), 9, 1_000).faults
    assert len(faults) == 2
    assert "no revision" in faults[0]
    assert "not final" in faults[1]


def test_nothing_found_has_no_shares() -> None:
    made = course(POINTS[:1], found(0), 9, 1_000)
    assert "|" not in "\n".join(section(made, "demo", clock))


def test_who_gave_way_and_what_is_open_is_said() -> None:
    views = (
        View("STYLE", Opinion("a.py", Severity.LOW, 2), is_held=False),
        View("SAFETY", Opinion("b.py", Severity.HIGH, 1), is_held=True),
    )
    name = "findings:it's <b>"
    dispute = Dispute(name, name, {"x`y": ("STYLE",), "z": ("A", "B")}, ("STYLE", "A"))
    made = course(POINTS, found(4, views=views, disputes=(dispute,)), 9, 1_000)
    text = "\n".join(section(made, "demo", clock))
    assert "- STYLE: `a.py`, for 2 × low; it gave way to who had found worse" in text
    assert "- SAFETY: `b.py`, for 1 × high\n" in text
    assert (
        "They still contradict each other on `findings:it's <b>`: ``x`y`` (STYLE); `z` (A, B)."
        in text
    )
    command = "fabric decide 'findings:it'\"'\"'s <b>' STYLE --session demo  # or A"
    assert f"```sh\n{command}\n```" in text
