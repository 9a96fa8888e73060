"""What the report takes from the synthesis: as the fold makes it of what the fleet says."""

from typing import Any

import msgspec

from fabric.demo.finding import Finding, Severity, to_partial
from fabric.demo.harvest import Dispute, Harvest, harvest
from fabric.demo.opinion import KEY, Opinion
from fabric.demo.opinion import to_partial as said
from fabric.demo.recommend import draft
from fabric.view.synthesis import Synthesis
from tests.support.folding import Folding


def finding(line: int, severity: Severity = Severity.LOW, rule: str = "r") -> Finding:
    key = f"a.py:{line}:{rule}"
    return Finding(key, "a.py", line, rule, "is wrong", severity, "x == None", "Mend it.", 0.8, 3)


def give(folding: Folding, agent: str, **partial: Any) -> None:
    folding.say(agent, partial)


def harvested(folding: Folding) -> Harvest:
    return harvest(Synthesis(folding.document()), 1_000)


def test_a_finding_comes_back_as_it_was_given_with_its_agent_and_time() -> None:
    folding = Folding()
    folding.say("STYLE", kind="STARTED")
    given = finding(7), finding(3, Severity.HIGH)
    give(folding, "SAFETY", findings=[to_partial(given[0])])
    give(folding, "STYLE", findings=[to_partial(given[1])])
    first, second = harvested(folding).arrivals
    assert (first.finding, first.agent, first.at_ms, first.log) == (given[0], "SAFETY", 1_000, 2)
    assert (second.finding, second.agent, second.at_ms, second.log) == (given[1], "STYLE", 2_000, 3)


def test_of_two_who_report_the_same_the_first_has_found_it() -> None:
    folding = Folding()
    for agent in ("STYLE", "SAFETY"):
        give(folding, agent, findings=[to_partial(finding(7))])
    assert [arrival.agent for arrival in harvested(folding).arrivals] == ["STYLE"]


def test_what_was_taken_back_and_what_strangers_say_is_left_out() -> None:
    folding = Folding()
    give(folding, "STYLE", findings=[to_partial(finding(7))])
    folding.withdraw("STYLE", finding(7).key)
    folding.find("SOMEBODY", "port", 1)
    give(folding, "SOMEBODY", remarks={"SOMEBODY": "hello"}, recommendations={"SOMEBODY": 1})
    found = harvested(folding)
    assert (found.arrivals, found.remarks, found.drafts) == ((), (), {})


def test_recommendations_of_each_agent_are_in_order_again() -> None:
    folding = Folding()
    low = [finding(1, rule="c"), finding(2, rule="b")]
    high = [finding(line, Severity.HIGH, "z") for line in (3, 4)]
    drafts = {"STYLE": draft([*low, *high], 2), "SAFETY": draft([])}
    for agent, drafted in drafts.items():
        give(folding, agent, recommendations={agent: msgspec.to_builtins(drafted)})
    found = harvested(folding).drafts
    assert found == drafts
    assert [item.rule for item in found["STYLE"].items] == ["z", "b"]
    assert found["STYLE"].left_out == {"c": 1}


def test_all_remarks_of_an_agent_are_kept() -> None:
    folding = Folding()
    for words in ("late", "lost"):
        give(folding, "INTEGRATOR", remarks={"INTEGRATOR": [words]})
    assert harvested(folding).remarks == ("INTEGRATOR: late", "INTEGRATOR: lost")


def test_opinions_are_no_findings_and_who_gave_way_is_remembered() -> None:
    folding = Folding()
    opinions = {
        "STYLE": Opinion("a.py", Severity.LOW, 2),
        "SAFETY": Opinion("b.py", Severity.HIGH, 1),
        "IMPORTS": Opinion("b.py", Severity.HIGH, 4),
        "COMPLEXITY": Opinion("c.py", Severity.HIGH, 1),
    }
    for agent, mine in opinions.items():
        give(folding, agent, findings=[said(mine)])
    folding.withdraw("STYLE", KEY)
    found = harvested(folding)
    assert found.arrivals == ()
    assert {view.agent: view.opinion for view in found.views} == opinions
    assert [view.agent for view in found.views if not view.is_held] == ["STYLE"]
    name = f"findings:{KEY}"
    values = {"b.py": ("SAFETY", "IMPORTS"), "c.py": ("COMPLEXITY",)}
    assert found.disputes == (Dispute(name, name, values, ("SAFETY", "COMPLEXITY")),)


def test_an_empty_session_has_nothing() -> None:
    assert harvest(Synthesis({}), 0) == Harvest()
