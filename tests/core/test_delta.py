"""Deltas: they count once, in the log's order, on top of what their agent said before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fabric.core.rule_table import Merge
from fabric.core.rules import Rules
from fabric.core.synthesis.merge import ADDED_UP, MergeRules
from fabric.store.synthesis import merge_rules
from fabric.view.report import report
from fabric.view.synthesis import Synthesis
from fabric.wire.document import nested
from tests.support.folding import Folding, entry

STORED = Path(__file__).parent / "stored"


def plain(*said: tuple[str, Any], merges: tuple[Merge, ...] = ()) -> Any:
    """Return the merged document of what agents say, one result after the other."""
    folding = Folding(merges=merges)
    for agent, partial in said:
        folding.say(agent, partial)
    return whole(folding)


def whole(folding: Folding) -> Any:
    document = folding.document()
    return nested(document["document"], document["items"])


STEPS = ["read config", "apply patch", "run tests", "deploy"]


@pytest.mark.parametrize(
    ("said", "merged"),
    [
        ([("A", {"n": {"$add": 3}}), ("B", {"n": {"$add": 4}})], {"n": 7}),
        ([("A", {"n": {"$total": 3}}), ("A", {"n": {"$total": 5}})], {"n": 5}),
        ([("A", {"n": {"$total": 12}}), ("B", {"n": {"$total": 5}})], {"n": 17}),
        ([("A", {"n": {"$total": 12}}), ("A", {"n": {"$add": 3}})], {"n": 15}),
        ([("A", {"n": {"$add": 3}}), ("A", {"n": {"$total": 12}})], {"n": 12}),
        ([("A", {"n": {"$add": 3}}), ("A", {"n": None}), ("A", {"n": {"$add": 1}})], {"n": 1}),
        ([("A", {"n": 7}), ("B", {"n": {"$add": 1}})], {"n": 8}),
        ([("A", {"n": {"$total": 3}}), ("B", {"n": 4})], {"n": 7}),
        ([("A", {"steps": STEPS})], {"steps": STEPS}),
        ([("A", {"steps": STEPS}), ("A", {"steps": STEPS[:2]})], {"steps": STEPS[:2]}),
        ([("A", {"l": ["x", "x"]}), ("B", {"l": ["y", "x"]})], {"l": ["x", "x", "y"]}),
        ([("A", {"l": ["x"]}), ("A", {"l": {"$append": ["y", "x"]}})], {"l": ["x", "y", "x"]}),
        ([("A", {"l": ["x", "y", "x"]}), ("A", {"l": {"$remove": ["x"]}})], {"l": ["y"]}),
        ([("A", {"l": [1, True]}), ("A", {"l": {"$remove": [1.0]}})], {"l": [True]}),
        ([("A", {"l": ["x"]}), ("A", {"l": {"$append": ["y"], "$remove": ["x"]}})], {"l": ["y"]}),
        ([("A", {"t": "ab"}), ("A", {"t": {"$text": "cd"}})], {"t": {"A": "abcd"}}),
        ([("A", {"t": {"$text": "é"}}), ("A", {"t": "new"})], {"t": {"A": "new"}}),
        ([("A", {"rows": [{"id": 1, "ok": False}]}), ("A", {"rows": [{"id": 1, "ok": True}]})],
         {"rows": [{"id": 1, "ok": True}]}),
        ([("A", {"schema": {"$ref": "#/x"}})], {"schema": {"$ref": {"A": "#/x"}}}),
    ],
)  # fmt: skip
def test_what_is_said_is_what_is_there(said: list[tuple[str, Any]], merged: Any) -> None:
    assert plain(*said) == merged


def test_rows_of_a_table_are_told_apart_by_a_key() -> None:
    rows = (Merge("/tests", "rows", "name"),)
    merged = plain(
        ("A", {"tests": [{"name": "t1", "ok": True}, {"name": "t2", "ok": True, "s": 1}]}),
        ("B", {"tests": [{"name": "t2", "ok": False}, "no row"]}),
        ("B", {"tests": {"$append": [{"name": "t3"}]}}),
        merges=rows,
    )
    assert merged == {
        "tests": [
            {"name": "t1", "ok": True},
            {"name": "t2", "ok": {"A": True, "B": False}, "s": 1},
            {"name": "t3"},
            "no row",
        ]
    }


def test_a_delta_counts_once_however_often_it_arrives() -> None:
    folding = Folding()
    for _ in range(3):
        folding.take([entry("A", 5, {"n": {"$add": 3}})])
    assert whole(folding) == {"n": 3}


def test_growing_text_is_sent_as_what_it_grows_by() -> None:
    folding = Folding()
    for _ in range(50):
        folding.say("A", {"report": {"$text": "x" * 1_000}})
    assert whole(folding) == {"report": {"A": "x" * 50_000}}
    assert sum(map(len, folding.revisions)) < 100_000, "2.5 MB with the whole text each time"


def test_an_item_of_a_list_that_many_add_to_is_taken_back_by_its_agent() -> None:
    union = (Merge("/l", "union"),)
    said = [("A", {"l": ["x", "y"]}), ("B", {"l": ["x"]}), ("A", {"l": {"$remove": ["x", "y"]}})]
    assert plain(*said, merges=union) == {"l": ["x"]}
    assert plain(("A", {"l": STEPS}), merges=union) == {"l": STEPS}
    assert plain(("A", {"l": {"$remove": ["never given"]}}), merges=union) == {}


def older() -> Folding:
    """Return a session as the version before wrote it: numbers added up, lists united."""
    kept = json.loads((STORED / "added_up.json").read_text())
    folding = Folding()
    folding.hash = {name: value.encode() for name, value in kept["hash"].items()}
    folding.said = {agent: set(names) for agent, names in kept["said"].items()}
    folding.revisions = [patch.encode() for patch in kept["revisions"]]
    folding.log = kept["log"]
    return folding


def test_a_session_of_the_version_before_goes_on_by_its_own_rules() -> None:
    """Folding looks at what is stored: without rules, it is the way of the version before."""
    assert merge_rules(b"", Rules()) == MergeRules(ADDED_UP, Rules().restart_policy)
    folding = older()
    before = whole(folding)
    assert before["files_read"] == 18
    assert before["files"] == ["config.py", "db.py", "compose.yaml"]
    assert "`port`: `5433`" in "\n".join(report(Synthesis(folding.document()), "demo"))
    folding.say("B", {"files_read": 6, "notes": {"$add": 2}, "files": ["new.py"]})
    after = whole(folding)
    assert after["files_read"] == 19
    assert after["notes"] == {"$add": 4}
    assert after["files"] == ["config.py", "db.py", "compose.yaml", "new.py"]
    assert "rules" not in folding.hash
    assert folding.patched() == folding.document()


def test_a_session_goes_on_by_the_rules_that_it_began_with() -> None:
    began = Folding(merges=[Merge("/n", "max")])
    began.say("A", {"n": 3})
    later = Folding(merges=[Merge("/n", "sum")])
    later.hash, later.said, later.log = began.hash, began.said, began.log
    later.revisions = began.revisions
    later.say("B", {"n": 5})
    assert later.part("document:/n")["value"] == 5
