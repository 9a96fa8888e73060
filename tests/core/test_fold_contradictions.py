"""Contradictions: they are shown, signalled to both agents, and closed in one of four ways."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fabric.core.rule_table import Merge
from tests.support.folding import Folding, mark

PORT = "findings:port"


@pytest.fixture
def folding() -> Folding:
    """A and B contradict each other; the signals about it have been taken."""
    folding = Folding()
    folding.find("A", "port", 6379, evidence="app.py:3", confidence=0.9)
    folding.find("B", "port", 6380)
    return folding


def state(folding: Folding) -> str:
    return str(folding.part(PORT)["state"])


def told(folding: Folding) -> list[tuple[str, Any]]:
    """Take the signals that the synthesizer has sent since the last call."""
    said = msgspec.json.decode(msgspec.json.encode(folding.signals))
    folding.signals.clear()
    return [(kind, payload) for kind, payload in said]


def answer(decision: str, by: str | None = None) -> list[tuple[str, Any]]:
    """Return the signal that the synthesizer sends when a contradiction is over."""
    return [("DECIDED", {"escalation": PORT, "decision": decision, "by": by})]


def test_the_document_shows_both_values_and_blends_none(folding: Folding) -> None:
    part = folding.part(PORT)
    assert part["state"] == "contradicted"
    assert "value" not in part
    assert folding.document()["contradictions"][PORT] == {
        "values": [
            [
                {
                    "agent": "A",
                    "log": 1,
                    "value": 6379,
                    "confidence": 0.9,
                    "evidence": "app.py:3",
                }
            ],
            [{"agent": "B", "log": 2, "value": 6380}],
        ]
    }
    assert folding.document()["complete"]["contradictions"] == 1


def test_conflict_detected_names_the_agents_their_values_and_why(folding: Folding) -> None:
    ((kind, conflict),) = folding.signals
    assert kind == "CONFLICT_DETECTED"
    assert msgspec.json.decode(msgspec.json.encode(conflict)) == {
        "resources": ["port"],
        "agents": ["A", "B"],
        "kind": "finding",
        "part": PORT,
        "values": [
            {
                "agents": ["A"],
                "digest": mark(6379),
                "value": 6379,
                "confidence": 0.9,
                "evidence": "app.py:3",
            },
            {"agents": ["B"], "digest": mark(6380), "value": 6380},
        ],
    }


def test_a_value_too_large_to_be_told_goes_by_its_digest() -> None:
    folding = Folding()
    folding.find("A", "text", "a" * 1_001)
    folding.find("B", "text", "b")
    conflict = folding.signals[0][1]
    assert conflict.values[0].value is msgspec.UNSET
    assert conflict.values[0].digest == mark("a" * 1_001)


def test_it_is_told_again_only_when_it_has_become_another(folding: Folding) -> None:
    told(folding)
    folding.say("A", {"findings": [{"key": "host", "value": "h"}]})
    folding.say("A", {"findings": [{"key": "port", "value": 6379}]}, log=0)
    assert told(folding) == []
    folding.find("C", "port", 6379)
    assert [kind for kind, _ in told(folding)] == ["CONFLICT_DETECTED"]
    values = folding.document()["contradictions"][PORT]["values"]
    assert [[one["agent"] for one in same] for same in values] == [["A", "C"], ["B"]]
    assert folding.document()["complete"]["contradictions"] == 1


def test_an_agent_that_withdraws_ends_it(folding: Folding) -> None:
    told(folding)
    folding.withdraw("B", "port")
    assert state(folding) == "agreed"
    assert folding.document()["contradictions"] == {}
    assert told(folding) == answer("withdrawn")


def test_an_agent_that_comes_to_agree_ends_it(folding: Folding) -> None:
    told(folding)
    folding.find("B", "port", 6379)
    assert state(folding) == "agreed"
    assert told(folding) == answer("agreed")


def test_an_agent_that_supersedes_ends_it(folding: Folding) -> None:
    told(folding)
    folding.find("B", "port", 6380, supersedes="port")
    assert (state(folding), folding.part(PORT)["value"]) == ("agreed", 6380)
    assert told(folding) == answer("superseded")


def test_a_person_ends_it_and_the_document_keeps_its_history(folding: Folding) -> None:
    told(folding)
    log = folding.decide(PORT, 6380, 6379)
    part = folding.part(PORT)
    assert (part["state"], part["value"]) == ("decided", 6380)
    assert part["verdict"] == {
        "decision": "A",
        "by": "alice",
        "log": log,
        "ms": 1_000 * log,
        "chosen": mark(6380),
        "rejected": [mark(6379)],
        "value": 6380,
        "others": [6379],
    }
    assert part["said"]["A"][0]["standing"] == "rejected"
    assert folding.says(PORT) == {"A": 6379, "B": 6380}
    assert folding.document()["contradictions"] == {}
    assert told(folding) == answer("A", "alice")


def test_what_a_person_has_considered_does_not_open_it_again(folding: Folding) -> None:
    folding.decide(PORT, 6380, 6379)
    told(folding)
    folding.find("C", "port", 6379)
    folding.find("B", "port", 6379)
    assert (state(folding), folding.part(PORT)["value"]) == ("decided", 6380)
    assert told(folding) == []


def test_a_value_that_nobody_has_considered_opens_it_again(folding: Folding) -> None:
    folding.decide(PORT, 6380, 6379)
    told(folding)
    folding.find("C", "port", 7000)
    assert state(folding) == "contradicted"
    open_one = folding.document()["contradictions"][PORT]
    assert [[one["agent"] for one in same] for same in open_one["values"]] == [["B"], ["C"]]
    assert [kind for kind, _ in told(folding)] == ["CONFLICT_DETECTED"]


def test_the_last_decision_counts(folding: Folding) -> None:
    folding.decide(PORT, 6380, 6379)
    folding.decide(PORT, 6379, 6380)
    assert folding.part(PORT)["value"] == 6379


def test_a_decision_outlives_the_words_that_it_was_about(folding: Folding) -> None:
    folding.decide(PORT, 6380, 6379)
    folding.withdraw("A", "port")
    folding.withdraw("B", "port")
    assert (state(folding), folding.part(PORT)["value"]) == ("decided", 6380)


def test_what_was_decided_is_one_of_the_values_even_if_no_agent_gives_it(
    folding: Folding,
) -> None:
    folding.decide(PORT, 6380, 6379)
    folding.withdraw("A", "port")
    folding.withdraw("B", "port")
    told(folding)
    folding.find("C", "port", 7000)
    open_one = folding.document()["contradictions"][PORT]
    assert [[one["agent"] for one in same] for same in open_one["values"]] == [["alice"], ["C"]]
    ((_, conflict),) = told(folding)
    assert [rival["value"] for rival in conflict["values"]] == [6380, 7000]


def test_what_supersedes_a_decided_finding_takes_its_place(folding: Folding) -> None:
    folding.decide(PORT, 6380, 6379)
    folding.find("C", "ports", [6379, 6380], supersedes="port")
    assert state(folding) == "superseded"


def test_who_decides_knows_what_supersedes_the_finding_so_far(folding: Folding) -> None:
    folding.find("C", "ports", [6379, 6380], supersedes="port")
    folding.decide(PORT, 6380, 6379)
    assert state(folding) == "decided"


def test_a_restart_ends_it_too(folding: Folding) -> None:
    folding.say("B", kind="STARTED", incarnation=2)
    assert state(folding) == "agreed"
    assert folding.document()["contradictions"] == {}


def test_a_place_of_a_document_can_be_one_where_agents_must_agree() -> None:
    folding = Folding(merges=[Merge("/title", "agree")])
    folding.say("A", {"title": "Fabric"})
    assert (folding.part("document:/title")["state"]) == "agreed"
    folding.say("B", {"title": "Signal Fabric"})
    assert folding.part("document:/title")["state"] == "contradicted"
    assert [payload.resources for _, payload in folding.signals] == [["/title"]]
    folding.decide("document:/title", "Signal Fabric", "Fabric")
    assert folding.part("document:/title")["value"] == "Signal Fabric"
    assert folding.document()["contradictions"] == {}


def test_null_is_a_value_of_a_finding_and_none_of_a_place() -> None:
    folding = Folding(merges=[Merge("/title", "agree")])
    folding.say("A", {"title": "Fabric", "findings": [{"key": "port", "value": None}]})
    folding.say("B", {"title": None, "findings": [{"key": "port", "value": 1}]})
    assert state(folding) == "contradicted"
    assert folding.part("document:/title")["state"] == "agreed"


def test_a_name_that_cannot_be_a_question_s_is_asked_about_by_its_digest() -> None:
    folding = Folding(merges=[Merge("/*", "agree")])
    for agent, value in (("A", 1), ("B", 2), ("B", 1)):
        folding.say(agent, {"nul\0": value})
    ((_, _), (kind, answer)) = folding.signals
    assert kind == "DECIDED"
    assert answer.escalation.startswith("document:#")
