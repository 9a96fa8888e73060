"""Revisions: one for each batch, with number, causes and completeness; and what each costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from fabric.core.rule_table import Merge
from tests.support.folding import Folding, entry


@pytest.fixture
def folding() -> Folding:
    return Folding()


def test_many_results_in_one_batch_make_one_revision_with_all_of_them_as_causes(
    folding: Folding,
) -> None:
    folding.take([entry(f"A{n}", n, {"n": {"$total": n}}) for n in range(1, 51)])
    assert len(folding.revisions) == 1
    assert folding.causes == [list(range(1, 51))]
    assert folding.part("document:/n")["value"] == sum(range(1, 51))


def test_each_batch_makes_the_next_revision(folding: Folding) -> None:
    for number in range(1, 6):
        folding.say("A", {"n": number})
        assert folding.document()["revision"] == len(folding.revisions) == number
        assert folding.patched() == folding.document()


def test_a_result_that_comes_again_makes_none(folding: Folding) -> None:
    given = [
        entry("A", 1, {"findings": [{"key": "k", "value": 1, "supersedes": "j"}], "list": ["x"]}),
        entry("A", 2, {"findings": [{"key": "k", "withdrawn": True}], "n": 1}, percent=50),
        entry("A", 3, kind="COMPLETED", payload={"result": {"n": 2}}),
    ]
    folding.take(given)
    before = dict(folding.hash)
    folding.take(given)
    for one in reversed(given):
        folding.take([one])
    assert folding.hash == before
    assert len(folding.revisions) == 1


def test_an_empty_batch_makes_none(folding: Folding) -> None:
    folding.take([])
    assert (folding.hash, folding.revisions, folding.document()) == ({}, [], {})


def test_it_says_how_far_it_has_come(folding: Folding) -> None:
    folding.say("A", kind="STARTED")
    folding.say("B", kind="STARTED")
    folding.say("A", {"findings": [{"key": "k", "value": 1}]}, percent=25)
    complete = folding.document()["complete"]
    assert complete["agents"] == 2
    assert complete["reported"] == 1
    assert complete["ended"] == 0
    assert complete["percent"] == 12.5
    assert complete["findings"] == 1
    assert not complete["final"]
    folding.say("A", kind="COMPLETED")
    assert folding.document()["complete"]["percent"] == 50
    assert folding.document()["complete"]["ended"] == 1


def test_what_an_agent_had_done_before_it_started_again_is_not_done(folding: Folding) -> None:
    folding.say("A", {"n": 1}, percent=75)
    folding.say("A", kind="STARTED", incarnation=2)
    assert folding.document()["complete"]["percent"] == 0


def test_a_percentage_that_comes_late_is_not_the_last(folding: Folding) -> None:
    folding.say("A", {"n": 1}, percent=75, log=9)
    folding.say("A", {"n": 1}, percent=50, log=5)
    assert folding.document()["agents"]["A"]["percent"] == 75


def test_it_is_final_when_all_agents_known_have_ended(folding: Folding) -> None:
    folding.say("A", kind="STARTED")
    folding.find("B", "k", 1)
    folding.say("A", kind="COMPLETED")
    assert folding.signals == []
    folding.say("B", kind="FAILED", payload={"error": "it broke"})
    ((kind, final),) = folding.signals
    assert kind == "SYNTHESIZED"
    assert (final.revision, final.agents, final.findings, final.contradictions) == (4, 2, 1, 0)
    assert folding.document()["complete"]["final"]
    assert folding.document()["agents"]["B"]["error"] == "it broke"


def test_an_agent_that_comes_after_the_end_takes_that_back(folding: Folding) -> None:
    folding.say("A", kind="COMPLETED")
    folding.say("B", kind="STARTED")
    assert not folding.document()["complete"]["final"]
    folding.say("B", kind="COMPLETED")
    assert folding.document()["complete"]["final"]
    assert [kind for kind, _ in folding.signals] == ["SYNTHESIZED", "SYNTHESIZED"]


def test_it_is_not_final_before_all_is_judged_anew(folding: Folding) -> None:
    folding.take([entry("A", n, {f"n{n}": n}) for n in range(1, 9)])
    started = entry("A", 9, kind="STARTED", incarnation=2)
    folding.take([started, entry("A", 10, kind="COMPLETED", incarnation=2)])
    ((_, final),) = folding.signals
    assert final.revision == len(folding.revisions)
    assert folding.part("document:/n8")["state"] == "withdrawn"


def test_what_a_refiner_makes_stands_beside_the_document(folding: Folding) -> None:
    folding.say("A", {"n": 1})
    payload = {"refiner": "brief", "value": {"text": "all is well", "n": 1.0}, "revision": 1}
    folding.say("REFINER", kind="REFINED", payload=payload, log=7)
    folding.say("REFINER", kind="REFINED", payload={**payload, "value": "older"}, log=6)
    assert folding.document()["refined"] == {
        "brief": {"value": {"text": "all is well", "n": 1}, "log": 7, "ms": 7_000, "revision": 1}
    }
    assert folding.document()["agents"].keys() == {"A"}, "a refiner is no agent of the session"


class Cost(NamedTuple):
    """How much one batch reads and writes."""

    fields_read: int
    bytes_read: int
    fields_written: int
    bytes_written: int


def _cost(folding: Folding, given: list[list[bytes]]) -> Cost:
    def spent() -> Cost:
        return Cost(
            folding.fields_read, folding.bytes_read, folding.fields_written, folding.bytes_written
        )

    before = spent()
    folding.take(given)
    return Cost(*(now - then for now, then in zip(spent(), before, strict=True)))


#: Number of a result → its content: about new parts each time, or about existing ones.
KINDS: dict[str, Callable[[int], Any]] = {
    "findings": lambda n: {"findings": [{"key": f"k{n:06d}", "value": "v" * 20}]},
    "places": lambda n: {"m": {f"place{n:06d}": "text"}},
    "items": lambda n: {"list": [f"item{n:06d}"]},
    "appended": lambda n: {"log": [f"line{n:06d}"]},
    "numbers": lambda n: {"files": 100_000 + n, "m": {"lines": 100_000 + n}},
    "replaced": lambda n: {"findings": [{"key": "k", "value": 100_000 + n}]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_more_costs_the_same_after_10_and_after_5_000(kind: str) -> None:
    """Log numbers have the same length and agents are the same, so only real growth would show."""
    folding = Folding(merges=[Merge("/log", "append")])
    start = 100_000
    agents = [f"A{number}" for number in range(10)]

    def given(number: int) -> list[bytes]:
        return entry(agents[number % 10], start + number, KINDS[kind](number))

    folding.take([given(number) for number in range(20)])
    early = _cost(folding, [given(20)])
    # A small revision number has fewer digits: use a large one in both cases.
    for first in range(21, 5_000, 500):
        folding.take([given(number) for number in range(first, first + 500)])
    late = _cost(folding, [given(5_030)])
    assert late.fields_read == early.fields_read
    assert late.fields_written == early.fields_written
    assert abs(late.bytes_read - early.bytes_read) <= 10
    assert abs(late.bytes_written - early.bytes_written) <= 30


def test_a_restart_costs_no_batch_more_than_a_slice() -> None:
    folding = Folding(sweep_parts=50)
    folding.take([entry("A", n, {f"place{n:06d}": "text"}) for n in range(1, 1_001)])
    written = folding.fields_written
    folding.take([entry("A", 1_001, kind="STARTED", incarnation=2)])
    # The last slice finds nothing more.
    slices = 1_000 // 50 + 1
    assert len(folding.revisions) == 2 + slices
    # Each slice writes its parts and its position; the restart writes the agent and the sweep.
    assert folding.fields_written - written == 1_000 + slices + 2
