"""What holds for every reviewer: keys, bounds, the fleet's table, and the form in a signal."""

from collections.abc import Iterator

import msgspec
import pytest

from fabric.demo.finding import Finding, Rule, Severity, from_partial, to_partial
from fabric.demo.fleet import CHECKPOINTS, REVIEWERS
from fabric.demo.recommend import PLACES_MAX, Draft, draft
from fabric.demo.reviews import REVIEWS, examine, reviewer
from fabric.demo.reviews.review import FINDINGS_PER_RULE_MAX, found
from fabric.demo.source import Source
from tests.demo.tree import check, index_of, source


def finding(rule: str, severity: Severity, path: str = "a.py", line: int = 1) -> Finding:
    key = f"{path}:{line}:{rule}"
    return Finding(key, path, line, rule, "is wrong", severity, "x = 1", f"Repair {rule}.")


def test_keys_differ_even_on_one_line() -> None:
    findings = check("imports", "import os, sys\nimport re\n")
    assert [item.key for item in findings] == [
        "pkg/module.py:1:unused-import",
        "pkg/module.py:1:unused-import#2",
        "pkg/module.py:2:unused-import",
    ]


def test_findings_of_one_rule_are_bounded_and_the_rest_counted() -> None:
    findings = check("style", "# TODO\n" * (FINDINGS_PER_RULE_MAX + 7))
    assert len(findings) == FINDINGS_PER_RULE_MAX + 1
    assert findings[-1].message == "and 7 more of todo-comment in this file"
    assert findings[-1].key == "pkg/module.py:0:todo-comment"


def test_a_reviewer_that_runs_out_of_stack_says_so() -> None:
    class Endless:
        rules: tuple[Rule, ...] = ()

        def check(self, source: Source) -> Iterator[Finding]:
            rule = Rule("first", Severity.LOW, "")
            yield found(source, rule, 1, "found before")
            raise RecursionError

    findings = examine(Endless(), source("x = 1\n"))
    assert [item.rule for item in findings] == ["not-reviewed", "first"]


def test_evidence_is_one_bounded_printable_line() -> None:
    rule = Rule("r", Severity.LOW, "")
    item = found(source(f"\t\tx = '\x1b[31m\u202e{'y' * 500}'\n"), rule, 1, "m")
    assert item.evidence.startswith("x = '\\x1b[31m\\u202eyyy")
    assert (len(item.evidence), item.evidence[-1]) == (160, "…")
    assert found(source("x\n"), rule, 99, "m").evidence == ""


def test_a_finding_survives_a_signal() -> None:
    (original,) = check("imports", "import os\n")
    item = msgspec.json.decode(msgspec.json.encode(to_partial(original)))
    assert set(item) == {"key", "value", "evidence", "confidence"}
    assert from_partial(item) == original


@pytest.mark.parametrize("item", [{}, {"value": 1}, {"key": "k", "value": {"severity": "huge"}}])
def test_what_is_no_finding_is_refused(item: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="finding"):
        from_partial(item)


def test_the_fleet_has_a_reviewer_for_each_agent() -> None:
    assert [member.review for member in REVIEWERS] == list(REVIEWS)
    assert len({member.priority for member in REVIEWERS}) == len(REVIEWERS) == 6
    produced = {name for member in REVIEWERS for name in member.produces}
    assert {name for member in REVIEWERS for name in member.waits_for} == produced == {"index"}
    assert CHECKPOINTS == ("files_read", "issues_found", "recommendations_drafted")
    for member in REVIEWERS:
        made = reviewer(member.review, index=index_of({}))
        assert made.rules
        assert all(rule.advice and 0 < rule.confidence <= 1 for rule in made.rules)


def test_rules_have_one_name_each() -> None:
    names = [rule.name for name in REVIEWS for rule in reviewer(name, index=index_of({})).rules]
    assert len(names) == len(set(names))


def test_a_reviewer_that_needs_the_index_says_so() -> None:
    for name in ("dead_code", "imports"):
        with pytest.raises(ValueError, match="needs the symbol index"):
            reviewer(name)
    with pytest.raises(ValueError, match="there are indexer, style"):
        reviewer("poet")


def test_recommendations_are_grouped_worst_first() -> None:
    findings = [finding("low", Severity.LOW, line=line) for line in range(1, 9)]
    findings += [finding("mixed", Severity.LOW), finding("mixed", Severity.HIGH, "b.py", 7)]
    drafted = draft(findings, limit=1)
    (first,) = drafted.items
    assert (first.rule, first.severity, first.count, first.files) == ("mixed", "high", 2, 2)
    assert first.places == ("b.py:7", "a.py:1")
    assert first.advice == "Repair mixed."
    assert drafted.left_out == {"low": 8}
    assert len(draft(findings).items[1].places) == PLACES_MAX
    assert draft(reversed(findings)) == draft(findings)
    assert draft([]) == Draft(())


def test_the_worst_place_is_where_the_measure_is_largest() -> None:
    branches = [f"def f{n}():\n" + "    if a: pass\n" * n for n in (16, 30, 20)]
    findings = check("complexity", "".join(branches))
    assert draft(findings).items[0].places[0] == "pkg/module.py:18"
