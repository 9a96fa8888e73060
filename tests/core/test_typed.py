"""Typed findings: no field is lost, keys follow from places, and fields are merged one by one."""

from __future__ import annotations

from typing import Any

import pytest

from fabric.core.limits import NAME_CHARS_MAX
from fabric.core.synthesis import typed
from fabric.view.synthesis import Synthesis
from fabric.wire.document import Finding
from tests.support.folding import Folding


def found(*said: tuple[str, dict[str, Any]]) -> dict[str, Finding]:
    """Return the findings of what agents say."""
    folding = Folding()
    for agent, finding in said:
        folding.say(agent, {"findings": [finding]})
    return Synthesis(folding.document()).findings


def test_no_field_of_a_finding_is_lost() -> None:
    given = {"key": "k", "value": 1, "severity": "high", "line": 42, "message": "m", "cwe": "89"}
    (finding,) = found(("A", given)).values()
    assert finding.value == 1
    assert finding.fields == {"severity": "high", "line": 42, "message": "m", "data": {"cwe": "89"}}


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"path": "./src//a.py", "line": 42, "rule": "sql-injection"}, "src/a.py:42:sql-injection"),
        ({"path": "src\\a.py", "line": "42", "rule": "S1"}, "src/a.py:42:S1"),
        ({"path": "a.py"}, "a.py"),
        ({"path": "a.py", "title": "Odd"}, "a.py:Odd"),
        ({"rule": "no-tests"}, "no-tests"),
        ({"path": "a.py", "rule": "x\ny"}, "a.py:x y"),
    ],
)
def test_a_key_follows_from_path_place_and_rule(fields: dict[str, Any], key: str) -> None:
    (finding,) = found(("A", fields)).values()
    assert (finding.key, finding.state, finding.value) == (key, "agreed", None)


def test_findings_of_one_place_that_differ_only_in_their_message_are_two() -> None:
    said = [("A", {"path": "a.py", "line": 1, "message": text}) for text in ("one", "two")]
    assert len(found(*said)) == 2


def test_a_long_key_is_cut_to_one_that_no_other_has() -> None:
    keys = {typed.key_of({"path": "a" * 600, "rule": rule}) for rule in ("x", "y")}
    assert len(keys) == 2
    assert all(len(key) == NAME_CHARS_MAX for key in keys)


@pytest.mark.parametrize(
    ("given", "severity"),
    [
        ("HIGH", "high"),
        ("error", "high"),
        ("Warning", "medium"),
        ("note", "low"),
        (" info ", "info"),
    ],
)
def test_severities_are_known_by_their_usual_names(given: str, severity: str) -> None:
    (finding,) = found(("A", {"path": "a.py", "severity": given})).values()
    assert finding.fields["severity"] == severity


@pytest.mark.parametrize(
    ("name", "value"),
    [("severity", "ghastly"), ("line", "12-14"), ("line", 0), ("data", "text"), ("rule", ["x"])],
)
def test_what_does_not_fit_a_field_is_kept_as_data(name: str, value: Any) -> None:
    (finding,) = found(("A", {"path": "a.py", name: value})).values()
    assert finding.fields == {"path": "a.py", "data": {name: value}}


def test_fields_are_merged_one_by_one_and_only_values_contradict() -> None:
    place = {"path": "a.py", "line": 4, "rule": "r"}
    (finding,) = found(
        (
            "A",
            {**place, "severity": "low", "message": "perhaps", "confidence": 0.3, "data": {"x": 1}},
        ),
        (
            "B",
            {**place, "severity": "high", "message": "surely", "confidence": 0.9, "evidence": "e"},
        ),
        ("C", {**place, "severity": "medium", "url": "https://x", "data": {"x": 2, "y": 3}}),
    ).values()
    assert finding.state == "agreed"
    assert finding.fields == {
        **place,
        "severity": "high",
        "message": "surely",
        "url": "https://x",
        "data": {"x": 1, "y": 3},
    }
    messages = {one.agent: one.fields.get("message") for one in finding.sources}
    assert messages == {"A": "perhaps", "B": "surely", "C": None}


def test_a_value_beside_none_is_no_contradiction_and_two_values_are_one() -> None:
    place = {"path": "a.py", "rule": "r"}
    (finding,) = found(("A", place), ("B", {**place, "value": 5})).values()
    assert (finding.state, finding.value) == ("agreed", 5)
    said = [("A", {**place, "value": 4}), ("B", {**place, "value": 5})]
    (finding,) = found(*said).values()
    assert finding.state == "contradicted"


def test_a_typed_finding_is_withdrawn_by_its_place() -> None:
    place = {"path": "a.py", "line": 4, "rule": "r"}
    (finding,) = found(("A", place), ("A", {**place, "withdrawn": True})).values()
    assert (finding.state, finding.fields) == ("withdrawn", place)
