"""An agent's latest statement holds, in any order of arrival, until the agent starts again."""

from __future__ import annotations

import pytest

from fabric.core.policy import RestartPolicy
from tests.support.folding import Folding, entry

EVERY_POLICY = list(RestartPolicy)


@pytest.fixture
def folding() -> Folding:
    return Folding()


def test_a_finding_says_who_found_it_when_and_why(folding: Folding) -> None:
    log = folding.find("A", "port", 6379, evidence="app.py:3", confidence=0.9)
    assert folding.part("findings:port") == {
        "state": "agreed",
        "value": 6379,
        "said": {"A": [{"log": log, "ms": 1_000 * log, "evidence": "app.py:3", "confidence": 0.9}]},
        "first": {"log": log, "ms": 1_000 * log, "agent": "A"},
    }


def test_an_agent_s_later_value_replaces_its_own(folding: Folding) -> None:
    folding.find("A", "port", 6379)
    folding.find("A", "port", 6380)
    assert folding.says("findings:port") == {"A": 6380}
    assert folding.part("findings:port")["state"] == "agreed"
    assert folding.document()["contradictions"] == {}


def test_what_was_replaced_is_kept_beside_it(folding: Folding) -> None:
    folding.find("A", "port", 6379)
    folding.find("A", "port", 6380)
    said = folding.part("findings:port")["said"]["A"]
    assert [(one.get("value"), one.get("standing")) for one in said] == [
        (None, None),
        (6379, "replaced"),
    ]


def test_an_earlier_value_that_comes_late_replaces_nothing(folding: Folding) -> None:
    folding.say("A", {"findings": [{"key": "port", "value": 6380}], "n": 2}, log=9)
    folding.say("A", {"findings": [{"key": "port", "value": 6379}], "n": 1}, log=4)
    assert folding.says("findings:port") == {"A": 6380}
    assert folding.says("document:/n") == {"A": 2}


def test_the_first_to_speak_is_named_even_when_it_comes_last(folding: Folding) -> None:
    for log in (9, 7, 5, 3):
        folding.say("A", {"findings": [{"key": "port", "value": log}]}, log=log)
    assert folding.part("findings:port")["first"]["log"] == 3


def test_one_is_the_same_value_as_one_point_zero(folding: Folding) -> None:
    folding.find("A", "share", {"of": 1, "in": [2.0]})
    folding.find("B", "share", {"in": [2], "of": 1.0})
    assert folding.part("findings:share")["state"] == "agreed"
    assert folding.part("findings:share")["value"] == {"in": [2], "of": 1}


@pytest.mark.parametrize(
    ("one", "other"), [(1.1, "1.10"), (1, True), (0, None), ([], {}), ("a", "b")]
)
def test_values_of_other_kinds_differ(folding: Folding, one: object, other: object) -> None:
    folding.find("A", "k", one)
    folding.find("B", "k", other)
    assert folding.part("findings:k")["state"] == "contradicted"


def test_a_finding_that_is_withdrawn_is_said_by_nobody(folding: Folding) -> None:
    folding.find("A", "port", 6379)
    folding.withdraw("A", "port")
    assert folding.says("findings:port") == {}
    assert folding.part("findings:port")["state"] == "withdrawn"
    assert folding.document()["complete"]["findings"] == 0


def test_what_was_withdrawn_can_be_said_again(folding: Folding) -> None:
    folding.find("A", "port", 6379)
    folding.withdraw("A", "port")
    folding.find("A", "port", 6380)
    assert folding.says("findings:port") == {"A": 6380}


def test_a_dead_incarnation_still_counts_while_no_other_has_begun(folding: Folding) -> None:
    folding.find("A", "port", 6379)
    folding.say("A", kind="FAILED", payload={"error": "silent"}, silent=True)
    assert folding.says("findings:port") == {"A": 6379}
    assert folding.document()["agents"]["A"]["status"] == "dead"


def test_a_restart_replaces_what_was_not_confirmed(folding: Folding) -> None:
    folding.say("A", {"findings": [{"key": "port", "value": 6379}], "n": 5, "list": ["x"]})
    folding.say("A", kind="STARTED", incarnation=2)
    assert folding.says("findings:port") == folding.says("document:/n") == {}
    assert folding.says("document:/list") == {}
    assert folding.part("findings:port")["said"]["A"][0]["standing"] == "stale"


def test_a_restart_keeps_it_where_the_rules_say_so() -> None:
    folding = Folding(RestartPolicy.KEEP)
    folding.find("A", "port", 6379)
    folding.say("A", kind="STARTED", incarnation=2)
    assert folding.says("findings:port") == {"A": 6379}


@pytest.mark.parametrize("policy", EVERY_POLICY)
def test_what_the_next_incarnation_says_replaces_it_in_any_case(policy: RestartPolicy) -> None:
    folding = Folding(policy)
    folding.find("A", "port", 6379)
    folding.say("A", {"findings": [{"key": "port", "value": 6380}]}, incarnation=2)
    assert folding.says("findings:port") == {"A": 6380}


@pytest.mark.parametrize("policy", EVERY_POLICY)
def test_an_incarnation_that_completed_is_confirmed(policy: RestartPolicy) -> None:
    folding = Folding(policy)
    folding.find("A", "port", 6379)
    folding.say("A", kind="COMPLETED")
    folding.say("A", kind="STARTED", incarnation=2)
    assert folding.says("findings:port") == {"A": 6379}


def test_it_is_confirmed_even_when_that_comes_after_the_restart(folding: Folding) -> None:
    folding.say("A", {"findings": [{"key": "port", "value": 6379}]}, log=1)
    folding.say("A", kind="STARTED", incarnation=2, log=3)
    assert folding.says("findings:port") == {}
    folding.say("A", kind="COMPLETED", log=2)
    assert folding.says("findings:port") == {"A": 6379}


def test_a_restart_goes_through_all_parts_a_slice_at_a_time() -> None:
    folding = Folding(sweep_parts=2)
    folding.take([entry("A", n, {"findings": [{"key": f"k{n}", "value": n}]}) for n in range(1, 8)])
    before = len(folding.revisions)
    folding.say("A", kind="STARTED", incarnation=2, log=8)
    assert len(folding.revisions) > before + 3
    assert folding.document()["complete"]["findings"] == 0
    assert folding.document()["complete"]["sweeps"] == 0
    assert folding.patched() == folding.document()
    assert not [field for field in folding.hash if field.startswith("sweep:")]


def test_a_result_at_the_end_counts_as_all_others_do(folding: Folding) -> None:
    result = {"findings": [{"key": "port", "value": 6379}], "verdict": "good"}
    folding.say("A", kind="COMPLETED", payload={"result": result})
    assert folding.says("findings:port") == {"A": 6379}
    assert folding.says("document:/verdict") == {"A": "good"}


@pytest.mark.parametrize(
    ("result", "part"),
    [
        ("done", "document:/result"),
        (7, "document:/result"),
        (["x"], "document:/result"),
        ({"findings": "our own"}, "document:/findings"),
        ({"findings": [{"mine": 1}]}, "document:/findings"),
    ],
)
def test_a_result_of_any_kind_has_its_place(folding: Folding, result: object, part: str) -> None:
    folding.say("A", kind="COMPLETED", payload={"result": result})
    assert list(folding.says(part)) == ["A"]


def test_how_far_an_agent_is_does_not_depend_on_who_wrote_a_point(folding: Folding) -> None:
    """25 and 25.0 are the same percentage, whichever comes first."""
    other = Folding()
    for one, percents in ((folding, (25, 25.0)), (other, (25.0, 25))):
        for log, percent in enumerate(percents, 1):
            one.say("A", kind="PROGRESS", percent=percent, log=log if one is folding else 3 - log)
    assert folding.records() == other.records()
