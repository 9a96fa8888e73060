"""Reports in the formats of other tools, and for a pull request: complete, bounded, harmless."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from fabric.core.policy import ContradictionPolicy
from fabric.core.rule_table import Merge
from fabric.view.interchange import junit, rdjsonl, sarif
from fabric.view.page import page
from fabric.view.report import CHARS_MIN, Layout, command_of, report
from fabric.view.selection import Group, Item, natural, select
from fabric.view.synthesis import Synthesis
from tests.support.folding import Folding

FINDINGS: list[tuple[str, dict[str, Any]]] = [
    ("A", {"path": "src/a10.py", "line": 3, "rule": "r1", "severity": "high", "message": "bad"}),
    ("A", {"path": "src/a2.py", "line": 12, "rule": "r1", "severity": "low", "message": "so so"}),
    ("B", {"path": "src/a2.py", "line": 2, "end_line": 4, "rule": "r 2", "severity": "critical",
           "message": "two\nlines", "suggestion": "x = 1\n", "confidence": 0.9, "url": "https://x"}),
    ("B", {"path": "src/a10.py", "line": 3, "rule": "r1", "confidence": 0.4}),
    ("C", {"key": "port", "value": "no path"}),
]  # fmt: skip


def synthesis(*said: tuple[str, dict[str, Any]]) -> Synthesis:
    folding = Folding()
    for agent, finding in said:
        folding.say(agent, {"findings": [finding]})
    folding.say("D", kind="FAILED", payload={"error": "out of *luck*"})
    return Synthesis(folding.document())


def shown(**filters: Any) -> list[Item]:
    return select(synthesis(*FINDINGS), **filters)


def test_findings_come_by_path_and_line_as_people_count() -> None:
    assert [one.place for one in shown()] == ["port", "src/a2.py:2", "src/a2.py:12", "src/a10.py:3"]
    assert natural("a10") > natural("a2")


@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        ({"severity": "high"}, ["src/a2.py:2:r 2", "src/a10.py:3:r1"]),
        ({"severity": "critical"}, ["src/a2.py:2:r 2"]),
        ({"confidence": 0.5}, ["port", "src/a2.py:2:r 2", "src/a2.py:12:r1"]),
    ],
)
def test_filters(filters: dict[str, Any], keys: list[str]) -> None:
    assert [one.finding.key for one in shown(**filters)] == keys


def test_only_what_has_changed_since_a_revision() -> None:
    folding = Folding()
    folding.say("A", {"findings": [{"key": "old", "value": 1}, {"key": "changed", "value": 1}]})
    before = folding.document()
    folding.say("A", {"findings": [{"key": "changed", "value": 2}, {"key": "new", "value": 1}]})
    found = select(Synthesis(folding.document()), before=before)
    assert [one.finding.key for one in found] == ["changed", "new"]


def test_sarif_has_every_finding_once_with_level_place_and_fingerprint() -> None:
    log = json.loads(sarif(shown(), "1.0"))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["r 2", "r1"]
    results = run["results"]
    assert [one["level"] for one in results] == ["note", "error", "note", "error"]
    assert "locations" not in results[0]
    place = results[1]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "src/a2.py"
    assert place["region"] == {"startLine": 2, "endLine": 4}
    (change,) = results[1]["fixes"][0]["artifactChanges"]
    assert change["replacements"][0]["insertedContent"] == {"text": "x = 1\n"}
    marks = [one["partialFingerprints"]["signalFabricKey/v1"] for one in results]
    assert len(set(marks)) == len(results)


def test_sarif_is_read_by_a_reader_of_sarif() -> None:
    reader = pytest.importorskip("sarif_pydantic")
    log = reader.Sarif.model_validate_json(sarif(shown(), "1.0"))
    assert len(log.runs[0].results) == 4


def test_rdjsonl_has_a_line_for_each_finding_with_a_path() -> None:
    lines = [json.loads(line) for line in rdjsonl(shown())]
    assert [line["severity"] for line in lines] == ["ERROR", "INFO", "ERROR"]
    assert lines[0]["location"] == {
        "path": "src/a2.py",
        "range": {"start": {"line": 2}, "end": {"line": 4}},
    }
    assert lines[0]["code"] == {"value": "r 2", "url": "https://x"}
    assert lines[0]["suggestions"][0]["text"] == "x = 1\n"


def test_every_result_of_sarif_has_a_rule() -> None:
    (run,) = json.loads(sarif(shown(), "1.0"))["runs"]
    assert {one["ruleId"] for one in run["results"]} == {"r1", "r 2", "finding"}


def test_junit_has_a_suite_for_each_file() -> None:
    root = ElementTree.fromstring(junit(shown(), "demo"))  # noqa: S314 - we have just written this XML ourselves
    assert root.get("failures") == "4"
    suites = {suite.get("name"): len(suite) for suite in root}
    assert suites == {"no file": 1, "src/a2.py": 2, "src/a10.py": 1}


def test_junit_is_read_by_a_reader_of_junit() -> None:
    reader = pytest.importorskip("junitparser")
    found = reader.JUnitXml.fromstring(junit(shown(), "demo").encode())
    assert (found.tests, found.failures) == (4, 4)
    cases = [case for suite in found for case in suite]
    assert [case.result[0].type for case in cases] == ["info", "critical", "low", "high"]


def pull_request(found: Synthesis, chars_max: int = 60_000, by: Group = Group.FILE) -> str:
    layout = Layout(by, chars_max, folded=True, command=command_of(found.session))
    return "\n".join(report(found, found.session, layout=layout))


def test_a_comment_counts_by_severity_and_folds_by_file() -> None:
    text = pull_request(synthesis(*FINDINGS))
    lines = text.split("\n")
    assert lines[0] == "<!-- signal-fabric: demo -->"
    assert "| critical | 1 |" in lines
    assert r"**D failed** · out of \*luck\*" in lines
    assert "<details><summary>src/a2.py: 2 findings</summary>" in lines
    at = lines.index("- **critical** `src/a2.py:2` `r 2`: two\\")
    assert lines[at + 1 : at + 4] == ["  lines", "", "  B (90% sure) · `https://x`"]
    assert "  x = 1" in lines
    assert text.count("<details>") == text.count("</details>") == 3


def test_what_a_person_or_a_rule_has_decided_is_told_with_what_lost() -> None:
    merges = (Merge("/findings/src~1a.py:3:r", policy=ContradictionPolicy.SUREST),)
    folding = Folding(merges=merges)
    for agent, value, sure in (("A", 1, 0.9), ("B", 2, 0.5), ("C", 2, 0.4)):
        given = {"path": "src/a.py", "line": 3, "rule": "r", "message": "slow", "confidence": sure}
        folding.say(agent, {"findings": [{**given, "value": value, "severity": "low"}]})
        folding.say(agent, {"findings": [{"key": "port", "path": "b.py", "value": value}]})
    folding.decide("findings:port", 2, 1)
    items = select(Synthesis(folding.document()))
    by_rule = "slow\nDecided by the rule surest; not 2 of B, C"
    by_person = "2\nDecided for A by alice; not 1 of A"
    results = json.loads(sarif(items, "1.0"))["runs"][0]["results"]
    assert [one["message"]["text"] for one in results] == [by_person, by_rule]
    assert [json.loads(line)["message"] for line in rdjsonl(items)] == [by_person, by_rule]
    shown = page(Synthesis(folding.document()), "demo", items, Group.FILE, lambda *_: ())
    for text in (junit(items, "demo"), shown):
        assert "Decided by the rule surest; not 2 of B, C" in text
        assert "Decided for A by alice; not 1 of A" in text


HOSTILE = ["</details><script>", "--> <b>", "```\n# x", "a|b", "\x00\x1b[31m", "é\u202e", "\\n"]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_agents_write_is_never_markup(text: str) -> None:
    given = {"path": f"p{text}", "rule": text, "message": text, "suggestion": text, "line": 1}
    found = synthesis(("A", {**given, "key": "k"}))
    items = select(found)
    ElementTree.fromstring(junit(items, "demo"))  # noqa: S314 - we have just written this XML ourselves
    assert json.loads(sarif(items, "1.0"))["runs"][0]["results"][0]["message"]["text"] == text
    shown = pull_request(found)
    assert "<script>" not in re.sub(r"```.*?```", "", re.sub(r"`[^`]*`", "", shown), flags=re.S)
    assert shown.count("</details>") - shown.count("`</details>") >= 1
    assert len(pull_request(found, CHARS_MIN)) <= CHARS_MIN


def test_the_error_of_a_failed_agent_is_shown_without_escapes() -> None:
    folding = Folding()
    folding.say("A", kind="FAILED", payload={"error": "Traceback:\n  `KeyError`\n"})
    assert "**A failed** · Traceback: `KeyError`" in pull_request(Synthesis(folding.document()))


def test_what_has_room_is_shown_beside_what_has_none() -> None:
    folding = Folding()
    folding.say("A", {"big": ["word " * 400] * 30, "n": 3})
    text = pull_request(Synthesis(folding.document()))
    assert "- `n`: `3`" in text
    assert "… 1 more (`fabric synthesis demo`)" in text


def test_a_comment_is_bounded_however_many_refiners_there_are() -> None:
    folding = Folding()
    folding.say("A", {"findings": [{"path": "a.py", "line": 1, "rule": "r", "message": "bad"}]})
    for number in range(9):
        said = {"refiner": f"r{number}", "value": "word " * 10_000, "revision": 1}
        folding.say("SYNTHESIZER", kind="REFINED", payload=said)
    text = pull_request(Synthesis(folding.document()))
    assert len(text) <= 60_000
    assert "`a.py:1`" in text


def test_joined_findings_count_once_with_their_worst_severity() -> None:
    at = {"path": "a.py", "rule": "r", "message": "bad"}
    found = synthesis(
        ("A", {**at, "line": 1}),
        ("B", {**at, "line": 2, "severity": "low"}),
        ("C", {**at, "line": 3, "severity": "critical"}),
    )
    text = pull_request(found)
    assert "| critical | 1 |" in text
    assert "- **critical** `a.py:1` `r`: bad" in text
    assert "| low |" not in text
    assert "2 findings joined with others about the same thing." in text


def test_a_group_says_how_many_of_its_findings_are_shown() -> None:
    many = [
        {"path": "a.py", "line": 1 + 9 * n, "rule": "r", "message": "x" * 900} for n in range(40)
    ]
    text = pull_request(synthesis(*(("A", one) for one in many)), 10_000)
    (shown,) = re.findall(r"<summary>a.py: (\d+) of 40 findings</summary>", text)
    assert text.count("- `a.py:") == int(shown)
    assert f"… {40 - int(shown)} more: `fabric synthesis demo`" in text
