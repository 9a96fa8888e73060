"""Findings: bounded, ordered, grouped into recommendations, and voted upon."""

import msgspec

from fabric.demo.analysers import (
    FINDINGS_PER_RULE_MAX,
    Finding,
    Severity,
    bounded,
    draft,
    to_partial,
    vote,
)
from fabric.demo.fleet import VOTE


def finding(
    path: str = "a.py", line: int = 1, rule: str = "r", severity: Severity = Severity.LOW
) -> Finding:
    key = f"{path}:{line}:{rule}"
    return Finding(path, line, rule, "m", severity, "Mend it.", evidence="x", key=key)


def test_keys_differ_and_order_is_by_place() -> None:
    found = bounded([finding(line=9), finding(line=2), finding(line=2)])
    assert [one.key for one in found] == ["a.py:2:r", "a.py:2:r#2", "a.py:9:r"]


def test_what_is_over_the_limit_of_a_rule_is_one_finding_with_the_number() -> None:
    many = [finding(line=n) for n in range(1, FINDINGS_PER_RULE_MAX + 8)]
    found = bounded([*many, finding("b.py")])
    assert len(found) == FINDINGS_PER_RULE_MAX + 2
    (rest,) = [one for one in found if not one.line]
    assert (rest.key, rest.message) == ("a.py:0:r", "and 7 more of r in this file")


def test_recommendations_come_by_weight_and_the_rest_is_counted() -> None:
    found = [
        finding("a.py", 1, "often"),
        finding("b.py", 2, "often"),
        finding("a.py", 3, "bad", Severity.HIGH),
        finding("a.py", 4, "once"),
    ]
    made = draft(found, limit=2)
    assert [(item["rule"], item["count"], item["files"]) for item in made["items"]] == [
        ("bad", 1, 1),
        ("often", 2, 2),
    ]
    assert made["items"][1]["places"] == ["a.py:1", "b.py:2"]
    assert made["left_out"] == {"once": 1}


def test_the_vote_goes_to_the_file_with_the_worst_finding_then_with_most_of_them() -> None:
    assert vote([]) is None
    low = [finding("a.py", n) for n in range(3)]
    worse = [finding(path, 1, "s", Severity.MEDIUM) for path in ("b.py", "c.py", "c.py")]
    one = {"key": VOTE, "value": "a.py", "evidence": {"severity": "low", "count": 3}}
    assert vote(low) == one
    other = {"key": VOTE, "value": "c.py", "evidence": {"severity": "medium", "count": 2}}
    assert vote([*low, *worse]) == other


def test_findings_come_back_from_their_partial_results() -> None:
    one = finding(severity=Severity.HIGH)
    item = to_partial(one)
    assert msgspec.convert({**item.pop("value"), **item}, Finding) == one
