"""A finding that supersedes others takes their place, whether it comes before or after them."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from fabric.core.synthesis.merge import EXACT
from tests.support.folding import Folding, entry


def finding(key: str, value: Any, *supersedes: str) -> dict[str, Any]:
    return {"findings": [{"key": key, "value": value, "supersedes": list(supersedes)}]}


def states(folding: Folding) -> dict[str, str]:
    return {key: one["state"] for key, one in folding.document()["findings"].items()}


def test_a_finding_takes_the_place_of_another_key_s() -> None:
    folding = Folding()
    folding.find("A", "port", 6379)
    log = folding.find("B", "ports", [6379, 6380], supersedes="port")
    assert states(folding) == {"port": "superseded", "ports": "agreed"}
    assert folding.part("findings:port")["superseded_by"] == [
        {"key": "ports", "agent": "B", "log": log}
    ]
    assert folding.document()["complete"]["findings"] == 1


def test_it_does_so_before_the_other_arrives() -> None:
    folding = Folding()
    folding.find("B", "ports", [6379, 6380], supersedes="port", log=2)
    assert states(folding) == {"ports": "agreed"}
    folding.find("A", "port", 6379, log=1)
    assert states(folding) == {"port": "superseded", "ports": "agreed"}


def test_a_later_value_opens_the_question_again() -> None:
    folding = Folding()
    folding.find("A", "p", 1)
    folding.find("B", "p", 3, supersedes="p")
    folding.find("C", "p", 4)
    part = folding.part("findings:p")
    assert part["state"] == "contradicted"
    values = folding.document()["contradictions"]["findings:p"]["values"]
    assert [[one["agent"] for one in side] for side in values] == [["B"], ["C"]]
    assert part["said"]["A"][0]["standing"] == "superseded"


def test_what_was_superseded_is_no_news_from_anybody() -> None:
    folding = Folding()
    folding.find("A", "p", 1)
    folding.find("B", "p", 3, supersedes="p")
    for agent in ("C", "A"):
        folding.find(agent, "p", 1)
        assert states(folding) == {"p": "agreed"}


def test_an_agent_s_own_update_inherits_what_it_supersedes() -> None:
    folding = Folding()
    folding.find("A", "p", 1)
    folding.find("B", "p", 2, supersedes="p")
    for value in (3, 4, 5):
        folding.find("B", "p", value)
        assert (states(folding), folding.part("findings:p")["value"]) == ({"p": "agreed"}, value)
    folding.find("B", "p", 6, supersedes=[])
    assert states(folding) == {"p": "contradicted"}


def test_sessions_that_began_earlier_go_on_as_they_began() -> None:
    folding = Folding(version=EXACT)
    folding.find("A", "p", 1)
    folding.find("B", "p", 3, supersedes="p")
    folding.find("C", "p", 4)
    assert states(folding) == {"p": "agreed"}
    folding.find("B", "p", 3)
    assert states(folding) == {"p": "contradicted"}
    folding.find("A", "host", "Linux")
    folding.find("B", "host", "linux")
    assert states(folding) == {"p": "contradicted", "host": "contradicted"}


def test_it_may_take_the_place_of_the_others_words_for_its_own_key() -> None:
    folding = Folding()
    folding.find("A", "port", 6379)
    folding.find("B", "port", 6380, supersedes="port")
    part = folding.part("findings:port")
    assert (part["state"], part["value"]) == ("agreed", 6380)
    assert part["said"]["A"][0]["standing"] == "superseded"
    assert folding.document()["contradictions"] == {}


def test_what_it_superseded_is_back_when_it_is_withdrawn() -> None:
    folding = Folding()
    folding.find("A", "port", 6379)
    folding.find("B", "ports", [], supersedes=["port", "host"])
    folding.withdraw("B", "ports")
    assert states(folding) == {"port": "agreed", "ports": "withdrawn"}
    assert "superseded_by" not in folding.part("findings:port")


def test_what_it_superseded_is_back_when_it_no_longer_says_so() -> None:
    folding = Folding()
    folding.find("A", "port", 6379)
    folding.find("B", "ports", [], supersedes="port")
    folding.find("B", "ports", [], supersedes=[])
    assert states(folding) == {"port": "agreed", "ports": "agreed"}


def test_what_it_superseded_is_back_when_its_agent_starts_again() -> None:
    folding = Folding()
    folding.find("A", "port", 6379)
    folding.find("B", "ports", [], supersedes="port")
    folding.say("B", kind="STARTED", incarnation=2)
    assert states(folding) == {"port": "agreed", "ports": "withdrawn"}


@pytest.mark.parametrize("order", list(permutations(range(2))))
def test_of_two_that_supersede_each_other_the_later_holds(order: tuple[int, ...]) -> None:
    said = [entry("A", 1, finding("x", 1, "y")), entry("B", 2, finding("y", 2, "x"))]
    folding = Folding()
    for number in order:
        folding.take([said[number]])
    assert states(folding) == {"x": "superseded", "y": "agreed"}


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_ring_of_three_does_not_leave_nothing(order: tuple[int, ...]) -> None:
    said = [
        entry("A", 1, finding("x", 1, "y")),
        entry("B", 2, finding("y", 2, "z")),
        entry("C", 3, finding("z", 3, "x")),
    ]
    folding = Folding()
    for number in order:
        folding.take([said[number]])
    # A finding yields only to a later one: x yields to z, but y not to x, and z not to y.
    assert states(folding) == {"x": "superseded", "y": "agreed", "z": "agreed"}


def test_a_chain_leaves_its_end() -> None:
    folding = Folding()
    folding.find("A", "v1", 1)
    folding.find("B", "v2", 2, supersedes="v1")
    folding.find("C", "v3", 3, supersedes="v2")
    assert states(folding) == {"v1": "superseded", "v2": "superseded", "v3": "agreed"}
