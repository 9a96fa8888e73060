"""A result with `all` is all that its agent still says: what it leaves out is withdrawn."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from fabric.core.policy import RestartPolicy
from fabric.view.report import report
from fabric.view.synthesis import Synthesis
from tests.support.folding import Folding, entry


def complete(result: Any, log: int, agent: str = "A", **options: Any) -> list[bytes]:
    payload = {"result": result, "all": True}
    return entry(agent, log, kind="COMPLETED", payload=payload, **options)


def keyed(*keys: str) -> dict[str, Any]:
    return {"findings": [{"key": key, "value": 1} for key in keys]}


def states(folding: Folding) -> dict[str, str]:
    return {key: one["state"] for key, one in folding.document()["findings"].items()}


HISTORY = [
    entry("A", 1, {**keyed("p", "q"), "n": {"$add": 3}, "todo": ["x"], "m": {"x": "a", "y": "b"}}),
    entry("B", 2, keyed("q")),
    complete({**keyed("p"), "m": {"x": "c"}}, 3),
]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_what_it_leaves_out_is_withdrawn_in_any_order(order: tuple[int, ...]) -> None:
    folding = Folding(sweep_parts=1)
    for at in order:
        folding.take([HISTORY[at]])
    assert states(folding) == {"p": "agreed", "q": "agreed"}
    assert folding.says("findings:q") == {"B": 1}
    assert Synthesis(folding.document()).plain == {"m": {"x": {"A": "c"}}}
    assert folding.document()["complete"]["findings"] == 2
    assert folding.patched() == folding.document()


def test_the_report_says_why_it_is_gone() -> None:
    folding = Folding()
    folding.take([entry("A", 1, keyed("p", "q")), complete(keyed("p"), 2)])
    text = "\n".join(report(Synthesis(folding.document()), "demo"))
    assert "~~`q`~~ withdrawn by A: its whole result leaves it out" in text


def test_an_empty_whole_result_withdraws_everything() -> None:
    folding = Folding()
    folding.take([entry("A", 1, keyed("p")), complete({}, 2)])
    assert states(folding) == {"p": "withdrawn"}


def test_a_result_that_could_not_be_read_withdraws_nothing() -> None:
    folding = Folding()
    folding.take([entry("A", 1, keyed("p"))])
    folding.take([complete({str(number): number for number in range(2_001)}, 2)])
    assert states(folding) == {"p": "agreed"}


def test_what_comes_after_it_holds() -> None:
    folding = Folding()
    whole = entry("A", 2, payload={"partial": keyed("q"), "all": True})
    folding.take([entry("A", 1, keyed("p")), whole, entry("A", 3, keyed("r"))])
    assert states(folding) == {"p": "withdrawn", "q": "agreed", "r": "agreed"}


def test_a_supersession_that_it_leaves_out_goes_with_it() -> None:
    folding = Folding()
    new = {"findings": [{"key": "new", "value": 2, "supersedes": "old"}]}
    folding.take([entry("B", 1, keyed("old")), entry("A", 2, new)])
    assert states(folding)["old"] == "superseded"
    folding.take([complete({}, 3)])
    assert states(folding) == {"new": "withdrawn", "old": "agreed"}


def test_it_says_as_little_of_a_dead_incarnation_as_the_rest_of_it() -> None:
    folding = Folding(RestartPolicy.REPLACE)
    folding.take([complete(keyed("p"), 1)])
    whole = entry("A", 3, payload={"partial": keyed("q"), "all": True}, incarnation=2)
    folding.take([whole, entry("A", 4, kind="FAILED", incarnation=2)])
    assert states(folding) == {"p": "withdrawn", "q": "agreed"}
    folding.take([entry("A", 5, kind="STARTED", incarnation=3)])
    assert states(folding) == {"p": "agreed", "q": "withdrawn"}
