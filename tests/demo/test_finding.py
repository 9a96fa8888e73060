"""Findings: bounded, ordered, made into recommendations, and voted upon."""

from pathlib import Path

import msgspec

from fabric.demo.analysers import (
    FINDINGS_PER_RULE_MAX,
    HIGH,
    LOW,
    MEDIUM,
    RECOMMENDATIONS_MAX,
    Finding,
    completed,
    draft,
    to_partial,
    vote,
)
from fabric.demo.fleet import VOTE
from tests.demo.plant import plant


def finding(path: str = "a.py", line: int = 1, rule: str = "r", severity: str = LOW) -> Finding:
    return Finding(path, line, rule, "m", severity, "Mend it.")


def test_findings_get_distinct_keys_and_their_lines_in_order(tmp_path: Path) -> None:
    tree = plant(tmp_path, {"a.py": "x = 1\n  y = 2\n"})
    found = completed(tree, [finding(line=9), finding(line=2), finding(line=2), finding()], "A")
    assert [(one.key, one.evidence) for one in found] == [
        ("a.py:1:r", "x = 1"),
        ("a.py:2:r", "y = 2"),
        ("a.py:2:r#2", "y = 2"),
        ("a.py:9:r", ""),
    ]


def test_what_is_over_the_limit_of_a_rule_is_one_finding_with_the_number(tmp_path: Path) -> None:
    tree = plant(tmp_path, {"a.py": "x\n", "b.py": "x\n"})
    many = [finding(line=n) for n in range(1, FINDINGS_PER_RULE_MAX + 8)]
    found = completed(tree, [*many, finding("b.py")], "A")
    assert len(found) == FINDINGS_PER_RULE_MAX + 2
    (rest,) = [one for one in found if not one.line]
    assert (rest.key, rest.message) == ("a.py:0:r", "and 7 more of r in this file")


def test_recommendations_come_by_weight_and_the_rest_is_counted() -> None:
    found = [
        finding("a.py", 1, "often"),
        finding("b.py", 2, "often"),
        finding("a.py", 3, "bad", HIGH),
        *(finding("a.py", 4, f"once {number}") for number in range(RECOMMENDATIONS_MAX)),
    ]
    made = draft(found)
    assert made[0] == "1. 1 × bad (high): Mend it. a.py:3"
    assert made[1] == "2. 2 × often (low): Mend it. a.py:1, b.py:2"
    assert made[RECOMMENDATIONS_MAX:] == ["6. And 2 more rules: see the findings."]
    assert draft([]) == []


def test_the_vote_goes_to_the_file_with_the_worst_finding_then_with_most_of_them() -> None:
    assert vote([]) is None
    low = [finding("a.py", n) for n in range(3)]
    worse = [finding(path, 1, "s", MEDIUM) for path in ("b.py", "c.py", "c.py")]
    one = {"key": VOTE, "value": "a.py", "evidence": {"severity": "low", "count": 3}}
    assert vote(low) == one
    other = {"key": VOTE, "value": "c.py", "evidence": {"severity": "medium", "count": 2}}
    assert vote([*low, *worse]) == other


def test_findings_come_back_from_their_partial_results() -> None:
    one = finding(severity=HIGH)
    item = to_partial(one)
    assert msgspec.convert({**item.pop("value"), **item}, Finding) == one
