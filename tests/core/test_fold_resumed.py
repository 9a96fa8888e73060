"""What was found before the checkpoint that a restarted agent resumes from stands."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from fabric.view.synthesis import Synthesis
from tests.support.folding import Folding, entry


def find(log: int, value: Any, *, key: str = "k", incarnation: int = 1, since: int = 0) -> Any:
    partial = {"findings": [{"key": key, "value": value}], "n": {"$add": 1}}
    return entry("A", log, partial, incarnation=incarnation, since=since)


def start(log: int, incarnation: int, since: int = 0) -> list[bytes]:
    return entry("A", log, kind="STARTED", incarnation=incarnation, since=since)


#: Checkpoints are passed at 3 and 7; two counts before the first, three more before the second.
HISTORY = [
    find(1, "early"), find(2, "first"),
    *(find(log, f"at {log}", since=3) for log in (4, 5, 6)), find(6, "later", key="new", since=3),
    find(8, "late", since=7), find(9, "last", since=7),
]  # fmt: skip


@pytest.mark.parametrize(
    ("since", "value", "new", "count"),
    [(0, None, None, 0), (3, "first", None, 2), (7, "at 6", "later", 5)],
)
def test_what_was_found_by_then_stands(since: int, value: Any, new: Any, count: int) -> None:
    folding = Folding(sweep_parts=1)
    folding.take(HISTORY)
    folding.take([start(10, 2, since)])
    says = {key: folding.says(f"findings:{key}").get("A") for key in ("k", "new")}
    assert says == {"k": value, "new": new}
    assert Synthesis(folding.document()).plain.get("n", 0) == count
    assert folding.patched() == folding.document()


def test_in_any_order() -> None:
    history = [find(1, 1), find(3, 2, since=2), find(4, 3, since=2), start(5, 2, 2)]
    made = set()
    for order in permutations(history):
        folding = Folding()
        for one in order:
            folding.take([one])
        assert folding.says("findings:k") == {"A": 1}
        made.add(folding.content())
    assert len(made) == 1


def test_an_incarnation_after_it_must_resume_as_well() -> None:
    folding = Folding()
    folding.take([find(1, 1), start(3, 2, 2), start(5, 3, 2)])
    assert folding.says("findings:k") == {"A": 1}
    folding.take([start(6, 4)])
    assert folding.says("findings:k") == {}


def test_it_stands_for_good_once_the_incarnation_that_resumed_has_completed() -> None:
    folding = Folding()
    completed = entry("A", 4, kind="COMPLETED", incarnation=2)
    folding.take([find(1, 1), start(3, 2, 2), completed, start(5, 3)])
    assert folding.says("findings:k") == {"A": 1}


def test_a_whole_result_before_the_checkpoint_still_leaves_out_what_it_did() -> None:
    folding = Folding()
    for log, keys, since in ((1, "ab", 0), (2, "a", 0), (4, "ab", 3), (5, "", 3)):
        findings = [{"key": key, "value": 1} for key in keys]
        payload = {"partial": {"findings": findings}, "all": True}
        folding.take([entry("A", log, payload=payload, since=since)])
    assert folding.says("findings:a") == {}
    folding.take([start(6, 2, 3)])
    assert folding.says("findings:a") == {"A": 1}
    assert folding.says("findings:b") == {}
