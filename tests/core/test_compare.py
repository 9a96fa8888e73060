"""Values that are written differently and say the same are no question to a person."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from fabric.core.policy import Comparison, ContradictionPolicy
from fabric.core.rule_table import Merge
from fabric.core.synthesis.compare import Agreement, is_same
from fabric.view.report import report
from fabric.view.synthesis import Synthesis
from fabric.wire.effective import effective
from tests.support.folding import Folding

#: Comparison, tolerance, two values, and whether they are the same.
CASES: list[tuple[str, float, Any, Any, bool]] = [
    ("", 0, 8080, "8080", True),
    ("", 0, "Linux", "linux ", True),
    ("", 0, ["a", "b"], ["B", "a"], True),
    ("", 0, {"os": "Linux", "ports": [1, 2]}, {"ports": ["2", 1], "os": "linux"}, True),
    ("", 0, True, "True", True),
    ("", 0, "café", "cafe\u0301", True),
    ("", 0, "1.10", "1.1", False),
    ("", 0, "007", 7, False),
    ("", 0, ["a", "a"], ["a"], False),
    ("", 0, 1, True, False),
    ("", 0, None, "null", False),
    ("exact", 0, 8080, "8080", False),
    ("exact", 0, [1, 2], [2, 1], False),
    ("text", 0, "two  words", "Two words", True),
    ("text", 0, ["a", "b"], ["b", "a"], False),
    ("set", 0, ["a", "a", "B"], ["b", "A"], True),
    ("set", 0, "a", ["a"], True),
    ("number", 0, "1e3", 1000, True),
    ("number", 0.5, 10, "10.5", True),
    ("number", 0.5, 10, 10.6, False),
    ("number", 0, "1,500", 1500, True),
    ("quantity", 0, "1.5 GB", "1500 MB", True),
    ("quantity", 0, "1,500 ms", "1.5s", True),
    ("quantity", 0, {"value": 2, "unit": "h"}, "120 min", True),
    ("quantity", 0, "100 °C", "212 °F", True),
    ("quantity", 0, "50%", 0.5, True),
    ("quantity", 0, "1 GB", "1 GiB", False),
    ("quantity", 0.1, "1 GB", "1 GiB", True),
    ("quantity", 0, "5 s", "5 m", False),
    ("quantity", 0, "5 apples", "5 Apples", True),
    ("date", 0, "2026-11-30", "30 Nov 2026", True),
    ("date", 0, "November 30th, 2026", "2026/11/30", True),
    ("date", 0, "2026-11-30T10:00:00Z", "2026-11-30T11:00:00+01:00", True),
    ("date", 0, "2026-11-30", "2026-11-30T23:00:00Z", True),
    ("date", 0, "2026-11-30T10:00:00Z", "2026-11-30T10:00:05Z", False),
    ("date", 5, "2026-11-30T10:00:00Z", "2026-11-30T10:00:05Z", True),
    ("date", 0, "2026-13-45", "2026-13-46", False),
    ("date", 0, "soon", "Soon", True),
]


def raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


@pytest.mark.parametrize(("name", "tolerance", "one", "other", "same"), CASES)
def test_two_spellings(name: str, tolerance: float, one: Any, other: Any, same: bool) -> None:
    agreement = Agreement(Comparison(name), tolerance)
    assert is_same(raw(one), raw(other), agreement) is same
    assert is_same(raw(other), raw(one), agreement) is same


def say(folding: Folding, **values: Any) -> dict[str, Any]:
    for agent, value in values.items():
        given = value if isinstance(value, dict) and "value" in value else {"value": value}
        folding.say(agent, {"findings": [{"key": "k", **given}]})
    part: dict[str, Any] = folding.part("findings:k")
    return part


def test_the_same_in_two_spellings_holds_as_its_surest_agent_writes_it() -> None:
    part = say(Folding(), A=8080, B={"value": "8080", "confidence": 0.9})
    assert (part["state"], part["value"]) == ("agreed", "8080")
    assert part["said"]["A"][0]["value"] == 8080


def test_a_contradiction_shows_each_spelling_as_it_was_given() -> None:
    folding = Folding()
    say(folding, A=8080, B=9090, C="8080")
    values = folding.document()["contradictions"]["findings:k"]["values"]
    assert [[(one["agent"], one["value"]) for one in side] for side in values] == [
        [("A", 8080), ("C", "8080")],
        [("B", 9090)],
    ]
    ((_, conflict), *_) = folding.signals[-1:]
    assert [one.agents for one in conflict.values] == [["A", "C"], ["B"]]
    folding.decide("findings:k", 9090, 8080)
    part = folding.part("findings:k")
    assert (part["state"], part["value"]) == ("decided", 9090)
    assert [part["said"][name][0]["standing"] for name in ("A", "C")] == ["rejected", "rejected"]


def test_values_within_the_tolerance_of_the_smallest_are_one_side() -> None:
    rule = Merge("/findings/*", compare=Comparison.NUMBER, tolerance=1)
    for values in ({"A": 1, "B": 2}, {"A": 1.5, "B": 1, "C": "2"}):
        assert say(Folding(merges=[rule]), **values)["state"] == "agreed"
    folding = Folding(merges=[rule])
    assert say(folding, A=1, B=2, C=2.5)["state"] == "contradicted"
    values = folding.document()["contradictions"]["findings:k"]["values"]
    assert [[one["agent"] for one in side] for side in values] == [["A", "B"], ["C"]]


@pytest.mark.parametrize(
    ("policy", "value"),
    [("surest", 2), ("majority", 1), ("newest_source", 3)],
)
def test_a_policy_decides_and_says_what_lost(policy: str, value: int) -> None:
    rule = Merge("/findings/*", policy=ContradictionPolicy(policy))
    folding = Folding(merges=[rule])
    part = say(
        folding,
        A={"value": 1, "confidence": 0.5, "date": "2026-01-03"},
        B={"value": 2, "confidence": 0.9, "date": "2 Jan 2026"},
        C={"value": 3, "confidence": 0.1, "date": "2026-02-01"},
        D={"value": 1, "confidence": 0.4, "date": "2026-01-01"},
    )
    assert (part["state"], part["value"], part["policy"]) == ("decided", value, policy)
    standing = {agent: said[0].get("standing", "holds") for agent, said in part["said"].items()}
    lost = {name for name, given in zip("ABCD", (1, 2, 3, 1), strict=True) if given != value}
    assert standing == {name: "overruled" if name in lost else "holds" for name in "ABCD"}
    assert folding.document()["contradictions"] == {}
    assert [kind for kind, _ in folding.signals][-1:] in ([], ["DECIDED"])


def test_a_policy_that_finds_a_tie_asks() -> None:
    rule = Merge("/findings/*", policy=ContradictionPolicy.MAJORITY)
    assert say(Folding(merges=[rule]), A=1, B=2)["state"] == "contradicted"


def test_a_place_of_the_document_has_rules_too() -> None:
    rule = Merge("/os", compare=Comparison.TEXT, policy=ContradictionPolicy.MAJORITY)
    folding = Folding(merges=[rule])
    for agent, value in (("A", "Linux"), ("B", "BSD"), ("C", "linux")):
        folding.say(agent, {"os": value})
    part = folding.part("document:/os")
    assert (part["state"], part["value"], part["policy"]) == ("decided", "Linux", "majority")


def test_agents_that_say_it_in_other_words_ask_nobody() -> None:
    """Six agents found one thing at one place: that gave 30 questions."""
    folding = Folding()
    words = ["built from user input", "SQL injection in the login query", "unescaped parameter"]
    for number, agent in enumerate("ABCDEF"):
        for line in range(30):
            value = f"{words[number % 3]} ({agent})"
            folding.find(agent, f"src/a.py:{line}:sql-injection", value)
    assert folding.document()["contradictions"] == {}
    assert folding.signals == []
    said = folding.says("findings:src/a.py:3:sql-injection")
    assert len(set(said.values())) == 6


@pytest.mark.parametrize("key", ["auth", "src/a.py:3:auth"])
def test_single_words_do_contradict(key: str) -> None:
    folding = Folding()
    folding.find("A", key, "safe")
    folding.find("B", key, "broken")
    assert folding.part(f"findings:{key}")["state"] == "contradicted"


def test_only_value_and_named_fields_contradict() -> None:
    place = {"path": "a.py", "line": 4, "rule": "r"}
    for on, state in (((), "agreed"), (("severity",), "contradicted")):
        folding = Folding(contradict_on=on)
        for agent, severity in (("A", "high"), ("B", "low"), ("C", None)):
            folding.say(agent, {"findings": [{**place, "message": agent, "severity": severity}]})
        assert folding.part("findings:a.py:4:r")["state"] == state
    values = folding.document()["contradictions"]["findings:a.py:4:r"]["values"]
    assert [[(one["agent"], one["value"]) for one in side] for side in values] == [
        [("A", {"severity": "high"})],
        [("B", {"severity": "low"})],
    ]
    folding.decide("findings:a.py:4:r", {"severity": "low"}, {"severity": "high"})
    part = folding.part("findings:a.py:4:r")
    assert (part["state"], part["value"], part["fields"]["severity"]) == ("decided", None, "low")
    assert (part["fields"]["path"], part["fields"]["message"]) == ("a.py", "B")


def test_a_number_that_a_person_chose_is_a_value_of_its_own() -> None:
    """Values that are digits were once taken for the numbers of the sides."""
    folding = Folding(contradict_on=["severity"])
    folding.find("A", "port", None)
    folding.decide("findings:port", 1)
    folding.find("B", "port", True)
    values = folding.document()["contradictions"]["findings:port"]["values"]
    assert [one["value"] for (one,) in values] == [{"value": None}, 1, {"value": True}]


#: One thing at one place, as six agents put it: in a text, or in a map or list with texts in it.
WORDS: list[list[Any]] = [
    ["Built from user input.", "user input reaches SQL", "An f-string makes the query"],
    [{"severity": "high", "why": f"it {word}"} for word in ("is built", "gets in", "is made")],
    [{"note": "user input"}, {"detail": "an f-string"}, {"note": "it is", "also": ["so it is"]}],
    [["user input", "f-string"], ["f-string", "comes from users"], ["F-String", "in short"]],
]


@pytest.mark.parametrize("words", WORDS)
def test_agents_that_agree_in_other_words_contradict_nobody(words: list[Any]) -> None:
    folding = Folding()
    for number, said in enumerate([*words, *words]):
        one = {"key": "src/a.py:42:sql-injection", "value": said}
        folding.say(f"A{number}", {"findings": [one]})
    assert folding.document()["contradictions"] == {}
    assert folding.signals == []


def test_what_is_no_remark_in_a_map_contradicts_as_ever() -> None:
    folding = Folding()
    for agent, severity in (("A", "high"), ("B", "low")):
        value = {"severity": severity, "why": "as I said"}
        folding.say(agent, {"findings": [{"key": "src/a.py:42:sqli", "value": value}]})
    assert [*folding.document()["contradictions"]] == ["findings:src/a.py:42:sqli"]


@pytest.mark.parametrize("policy", ["surest", "majority", "newest_source"])
def test_everybody_hears_what_lost_and_by_which_rule(policy: str) -> None:
    folding = Folding(merges=[Merge("/findings/*", policy=ContradictionPolicy(policy))])
    folding.find("A", "port", 1, confidence=0.1, date="2026-01-01")
    folding.find("B", "port", 2, confidence=0.9, date="2026-02-01")
    folding.find("C", "port", 2, confidence=0.5, date="2026-02-01")
    document = folding.document()
    found = effective(document)["findings"]["port"]
    assert (found["value"], found["policy"]) == (2, policy)
    assert found["overruled"] == [{"value": 1, "agents": ["A"]}]
    shown = Synthesis(document)
    assert f"port: 2 (B, C; by the rule {policy}, not 1 of A)" in str(shown)
    assert f"  - decided by the rule `{policy}`" in report(shown, "demo")
