"""What a refiner is given, and what it need not make again; hooks run in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.folding import Folding, entry
from workers import refining
from workers.refining import refine

Json = dict[str, Any]


class Grouped:
    """A refiner with hooks, which notes what it maps."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def map(self, group: Json) -> list[str]:
        self.seen.append(group["name"])
        return sorted(group["findings"])

    def reduce(self, mapped: Json, document: Json) -> Json:
        return {"mapped": mapped, "changed": document["changed"]}


def found(path: str, line: int = 1, **fields: Any) -> Json:
    return {"findings": [{"path": path, "line": line, "rule": "r", "message": "bad", **fields}]}


def refined(folding: Folding, hooks: Any, memory: Path) -> Any:
    return refine(hooks, folding.document(), memory)


def test_only_groups_that_have_changed_are_mapped_again(tmp_path: Path) -> None:
    memory, hooks, folding = tmp_path / "memory", Grouped(), Folding()
    folding.say("A", found("a.py"))
    folding.say("A", found("b.py") | {"n": 1})
    first = refined(folding, hooks, memory)
    assert hooks.seen == ["a.py", "b.py"]
    assert first["mapped"] == {"a.py": ["a.py:1:r"], "b.py": ["b.py:1:r"]}
    both = ["a.py:1:r", "b.py:1:r"]
    assert first["changed"] == {"since": 0, "findings": both, "gone": [], "document": True}
    # How far agents have come changes no finding.
    folding.take([entry("A", 3, kind="PROGRESS", percent=70)])
    hooks.seen.clear()
    second = refined(folding, hooks, memory)
    assert hooks.seen == []
    assert second["changed"] == {"since": 2, "findings": [], "gone": [], "document": False}
    folding.log = 3
    folding.say("B", found("b.py", severity="high"))
    folding.say("A", {"findings": [{"key": "a.py:1:r", "withdrawn": True}]})
    third = refined(folding, hooks, memory)
    assert hooks.seen == ["b.py"]
    assert third["mapped"] == {"b.py": ["b.py:1:r"]}
    changed = {"since": 3, "findings": ["b.py:1:r"], "gone": ["a.py:1:r"], "document": False}
    assert third["changed"] == changed
    # Groups that are no more are forgotten.
    assert len(memory.read_text().splitlines()) == 2


def test_what_was_mapped_before_a_run_was_killed_is_kept(tmp_path: Path) -> None:
    memory, hooks, folding = tmp_path / "memory", Grouped(), Folding()
    folding.say("A", found("a.py"))
    folding.say("A", found("b.py"))

    class Killed(Grouped):
        def map(self, group: Json) -> list[str]:
            if group["name"] == "b.py":
                raise KeyError
            return super().map(group)

    with pytest.raises(ExceptionGroup):
        refined(folding, Killed(), memory)
    with memory.open("a") as file:
        file.write('{"digest": "torn", "val')
    assert refined(folding, hooks, memory)["changed"]["since"] == 0
    assert hooks.seen == ["b.py"]


def test_a_memory_that_is_too_long_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, folding = tmp_path / "memory", Folding()
    folding.say("A", found("a.py"))
    refined(folding, Grouped(), memory)
    monkeypatch.setattr(refining, "MEMORY_BYTES_MAX", 10)
    hooks = Grouped()
    refined(folding, hooks, memory)
    assert hooks.seen == ["a.py"]


def test_hooks_may_be_a_class_and_asynchronous_and_group_as_they_like() -> None:
    class ByRule:
        def group(self, finding: Json) -> str:
            return f"{finding['rule']} of {finding['key'][0]}"

        async def map(self, group: Json) -> int:
            return len(group["findings"])

    folding = Folding()
    for name in ("a.py", "b.py"):
        for line in (1, 2):
            folding.say("A", found(name, line))
    assert refine(ByRule, folding.document()) == {"r of a": 2, "r of b": 2}


def test_a_function_is_given_what_holds_without_book_keeping() -> None:
    folding = Folding()
    folding.say("A", found("a.py", severity="low", confidence=0.5, evidence="x"))
    folding.say("B", found("a.py", severity="high", message="worse"))
    folding.say("A", {"findings": [{"key": "port", "value": 1}, {"key": "gone", "value": 1}]})
    folding.say("B", {"findings": [{"key": "port", "value": 2, "confidence": 1}], "n": 3})
    folding.say("A", {"findings": [{"key": "gone", "withdrawn": True}]})
    given = refine(lambda document: document, folding.document())
    assert given["findings"] == {
        "a.py:1:r": {
            "state": "agreed", "path": "a.py", "line": 1, "rule": "r", "severity": "high",
            "message": "bad", "messages": {"B": "worse"}, "agents": ["A", "B"], "confidence": 0.5,
            "evidence": ["x"],
        },
        "port": {
            "state": "contradicted", "agents": ["A", "B"], "confidence": 1,
            "values": [{"value": 1, "agents": ["A"]}, {"value": 2, "agents": ["B"]}],
        },
    }  # fmt: skip
    assert given["contradictions"]["findings:port"] == [
        {"value": 1, "agents": ["A"]}, {"value": 2, "agents": ["B"], "confidence": 1},
    ]  # fmt: skip
    assert given["document"] == {"n": 3}
    assert given["agents"] == {"A": {"status": "active"}, "B": {"status": "active"}}
    assert "log" not in json.dumps(given) + json.dumps(given["findings"])
