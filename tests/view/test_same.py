"""Findings of several agents about one thing are one, by place and rule, without a model."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from fabric.view.document import Document
from fabric.view.same import groups
from fabric.view.selection import select
from fabric.view.synthesis import Synthesis
from tests.support.folding import Folding

PAIRS = Path(__file__).parent / "same_pairs.jsonl"


def shown(*said: tuple[str, dict[str, Any]]) -> Document:
    folding = Folding()
    for agent, finding in said:
        folding.say(agent, {"findings": [finding]})
    return Synthesis(folding.document())


def found(*said: tuple[str, dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    return groups(shown(*said).findings.values())


def at(line: int, rule: str = "r", **more: Any) -> dict[str, Any]:
    return {"path": "a.py", "line": line, "rule": rule, **more}


def test_two_names_near_each_other_are_one_under_the_least_key() -> None:
    said = [("A", at(42, "sql-injection")), ("B", at(43, "SQLI")), ("C", at(45, "CWE-89"))]
    for order in permutations(said):
        keys = ("a.py:42:sql-injection", "a.py:43:SQLI", "a.py:45:CWE-89")
        assert found(*order) == {keys[0]: keys}
    (item,) = select(shown(*said))
    assert item.agents == ("A", "B", "C")


def test_what_one_agent_lists_twice_it_means_twice() -> None:
    said = [("A", at(10)), ("A", at(11)), ("B", at(11, "R")), ("A", at(12))]
    assert found(*said) == {"a.py:11:R": ("a.py:11:R", "a.py:11:r")}
    assert found(*[("A", at(line)) for line in range(50)]) == {}


@pytest.mark.parametrize(
    "other",
    [at(50), at(42, "s"), {**at(42), "path": "b.py"}, {"path": "a.py", "rule": "r"}],
)
def test_other_things_are_not(other: dict[str, Any]) -> None:
    assert found(("A", at(42)), ("B", other)) == {}


def test_agents_say_which_are_the_same_and_which_are_not() -> None:
    one, other = ("A", at(42)), ("B", at(43, "R"))
    apart = {"distinct_from": ["a.py:42:r"]}
    assert found(one, ("B", {**other[1], **apart})) == {}
    far = ("B", {"key": "far", "value": 1, "same_as": "a.py:42:r"})
    assert found(one, far) == {"a.py:42:r": ("a.py:42:r", "far")}


def test_a_joined_finding_is_as_severe_as_the_worst_and_has_all_words() -> None:
    (item,) = select(
        shown(
            ("A", at(42, severity="low", message="perhaps", confidence=0.2)),
            ("B", at(43, "R", severity="high", message="surely", confidence=0.9)),
        )
    )
    assert (item.severity, item.text, item.others) == ("high", "surely", {"perhaps": ["A"]})
    assert (item.finding.key, item.confidence) == ("a.py:42:r", 0.9)


def measured() -> tuple[float, float]:
    """Return precision and recall on the labelled pairs."""
    right = wrong = missed = 0
    for line in PAIRS.read_text().splitlines():
        pair = json.loads(line)
        is_same = bool(found(("A", pair["one"]), ("B", pair["other"])))
        keys = len(shown(("A", pair["one"]), ("B", pair["other"])).findings)
        is_same = is_same or keys == 1
        right += is_same and pair["same"]
        wrong += is_same and not pair["same"]
        missed += not is_same and pair["same"]
    return right / (right + wrong), right / (right + missed)


def test_the_labelled_pairs() -> None:
    assert len(PAIRS.read_text().splitlines()) == 300
    precision, recall = measured()
    assert precision >= 0.9
    assert recall >= 0.7
