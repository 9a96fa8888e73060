"""Findings of several agents about one thing are one, by place and rule, without a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from fabric.core.rule_table import Same
from fabric.view.document import Document
from fabric.view.report import report
from fabric.view.selection import select
from fabric.view.synthesis import Synthesis
from fabric.wire.effective import effective
from fabric.wire.same import groups, groups_of
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


def test_a_finding_says_nothing_of_itself() -> None:
    one = {**at(1), "distinct_from": ["a.py:1:r"], "same_as": "a.py:1:r"}
    assert found(("A", one), ("B", at(2, "R"))) == {"a.py:1:r": ("a.py:1:r", "a.py:2:R")}


def test_what_is_kept_apart_is_in_no_group_together_by_way_of_a_third() -> None:
    links = {"key": "b", "value": 1, "same_as": ["a", "c"]}
    said = [("A", {"key": "a", "value": 1, "distinct_from": "c"}), ("B", links)]
    for order in permutations([*said, ("C", {"key": "c", "value": 1})]):
        assert found(*order) == {"a": ("a", "b")}


def made(*said: tuple[str, dict[str, Any]], same: Sequence[Same] = ()) -> Folding:
    folding = Folding(same=same)
    for agent, one in said:
        folding.say(agent, {"findings": [one]})
    return folding


def test_a_rule_says_how_far_apart_what_is_shared_and_which_other_names_there_are() -> None:
    far = [("A", at(10, "ours-1")), ("B", at(18, "house rule one"))]
    assert groups_of(made(*far).document()) == {}
    same = [Same(lines=8, aliases={"house-rule-one": ("OURS-1",)})]
    document = made(*far, same=same).document()
    keys = ("a.py:10:ours-1", "a.py:18:house rule one")
    assert groups_of(document) == {keys[0]: keys}
    assert document["same"] == [
        {"by": ["path", "rule"], "lines": 8, "aliases": {"house-rule-one": ["OURS-1"]}}
    ]
    assert made(*far, same=same).patched() == document


def test_an_alias_of_a_known_name_is_all_that_it_is_known_as() -> None:
    said = [("A", at(10, "OURS-1")), ("B", at(10, "CWE-89")), ("C", at(10, "XSS"))]
    found = groups_of(made(*said, same=[Same(aliases={"sqli": ("ours-1",)})]).document())
    assert found == {"a.py:10:CWE-89": ("a.py:10:CWE-89", "a.py:10:OURS-1")}


def test_rules_may_look_elsewhere_than_at_places() -> None:
    one = {"key": "x", "value": 1, "cve": "CVE-2026-1"}
    said = [("A", one), ("B", {**at(5), "cve": "CVE-2026-1"}), ("A", {**one, "key": "z"})]
    rules = [Same(("data.cve",)), Same()]
    assert groups_of(made(*said, same=rules).document()) == {"a.py:5:r": ("a.py:5:r", "x")}
    assert groups_of(made(*said, same=[Same(("key",))]).document()) == {}


def test_a_person_joins_keys_and_keeps_them_apart_and_the_latest_word_counts() -> None:
    folding = made(("A", at(1)), ("B", at(2, "R")), ("C", at(90)))
    folding.say("ann", kind="SAME_AS", payload={"keys": ["a.py:1:r", "a.py:2:R"], "distinct": True})
    folding.say("ann", kind="SAME_AS", payload={"keys": ["a.py:1:r", "a.py:90:r"], "by": "eve"})
    assert groups_of(folding.document()) == {"a.py:1:r": ("a.py:1:r", "a.py:90:r")}
    assert folding.document()["complete"]["agents"] == 3
    folding.say("ann", kind="SAME_AS", payload={"keys": ["a.py:2:R", "a.py:1:r"]})
    late = {"keys": ["a.py:1:r", "a.py:2:R"], "distinct": True}
    folding.say("ann", kind="SAME_AS", payload=late, log=5)
    keys = ("a.py:1:r", "a.py:2:R", "a.py:90:r")
    assert groups_of(folding.document()) == {"a.py:1:r": keys}
    assert folding.patched() == folding.document()


def test_all_keys_beneath_a_renamed_path_move() -> None:
    folding = made(("A", at(1, path="src/a.py")), ("B", {"key": "src/b/c.py:3:x", "value": 1}))
    folding.say("ann", kind="RENAMED", payload={"from": "./src/", "to": "lib"})
    folding.say(
        "C", {"findings": [at(2, "R", path="src/a.py"), {"key": "srcs.py:1:x", "value": 1}]}
    )
    folding.say("ann", kind="RENAMED", payload={"from": "lib/b", "to": "lib/d"})
    document = Synthesis(folding.document())
    assert [*document.findings] == ["lib/a.py:1:r", "lib/a.py:2:R", "lib/d/c.py:3:x", "srcs.py:1:x"]
    assert document.groups == {"lib/a.py:1:r": ("lib/a.py:1:r", "lib/a.py:2:R")}
    assert [one.path for one in select(document) if one.path] == ["lib/a.py"]
    assert folding.patched() == folding.document()


def test_what_is_said_of_keys_moves_with_them() -> None:
    apart = {"distinct_from": "src/a.py:1:r"}
    folding = made(("A", at(1, path="src/a.py")), ("B", at(2, "R", path="src/a.py", **apart)))
    folding.say("C", {"findings": [{"key": "far", "value": 1, "same_as": "src/a.py:1:r"}]})
    folding.say("D", {"findings": [{"key": "off", "value": 1}]})
    folding.say("ann", kind="SAME_AS", payload={"keys": ["off", "src/a.py:2:R"]})
    folding.say("ann", kind="RENAMED", payload={"from": "src", "to": "lib"})
    assert groups_of(folding.document()) == {
        "far": ("far", "lib/a.py:1:r"),
        "lib/a.py:2:R": ("lib/a.py:2:R", "off"),
    }


def test_a_key_that_moves_onto_another_one_is_the_same_thing() -> None:
    folding = made(("A", at(1, path="a.py")), ("A", at(1, path="b.py")))
    folding.say("ann", kind="RENAMED", payload={"from": "a.py", "to": "b.py"})
    (item,) = select(Synthesis(folding.document()))
    assert (item.path, item.agents) == ("b.py", ("A",))


def test_a_session_that_began_without_relations_can_have_them() -> None:
    folding = made(("A", at(1)))
    assert "relations" not in folding.document()
    folding.say("ann", kind="SAME_AS", payload={"keys": ["a.py:1:r", "x"]})
    assert folding.patched() == folding.document()


def test_the_report_says_how_many_of_all_agents() -> None:
    folding = made(("A", at(1)), ("B", at(2, "R")), ("C", {"key": "else", "value": 1}))
    assert any(
        line.endswith(" · A, B · 2 of 3 agents")
        for line in report(Synthesis(folding.document()), "")
    )
    assert effective(folding.document())["groups"] == {
        "a.py:1:r": {"keys": ["a.py:1:r", "a.py:2:R"], "agents": ["A", "B"]}
    }


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
    assert precision >= 0.93
    assert recall >= 0.98
