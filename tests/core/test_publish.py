"""A revision as data: the fields to write, the operations, and the signals."""

from __future__ import annotations

from fabric.core.policy import RestartPolicy
from fabric.core.signal import SignalType
from fabric.core.synthesis.fold import Result, fold, needs
from fabric.core.synthesis.merge import Strategies
from fabric.core.synthesis.partial import Origin
from fabric.core.synthesis.publish import Publisher, Revision
from fabric.core.synthesis.state import SynthesisState, Verdict
from fabric.wire.result import decode
from tests.support.folding import Folding, entry

POLICY = RestartPolicy.REPLACE
STRATEGIES = Strategies()
PUBLISHER = Publisher(POLICY, STRATEGIES, {})


def take(synthesis: SynthesisState, *entries: list[bytes]) -> Revision | None:
    """Fold results into a synthesis that is completely in memory."""
    for fields in entries:
        result = decode(fields, STRATEGIES.of)
        synthesis.records |= dict.fromkeys(needs(synthesis, result))
        fold(synthesis, result, POLICY)
    return PUBLISHER.publish(synthesis)


def test_a_revision_writes_what_has_changed_and_nothing_else() -> None:
    synthesis = SynthesisState("demo")
    take(synthesis, entry("A", 1, {"n": 1, "m": {"x": 1}}))
    revision = take(synthesis, entry("A", 2, {"n": 2}))
    assert revision is not None
    assert set(revision.fields) == {"document:/n"}
    assert [(one.section, one.name) for one in revision.operations] == [("document", "/n")]
    assert (revision.number, revision.causes, revision.ms) == (2, [2], 2_000)


def test_what_leads_to_a_part_is_stored_and_not_shown() -> None:
    finding = {"key": "new", "value": 1, "supersedes": "old"}
    revision = take(SynthesisState("demo"), entry("A", 1, {"findings": [finding], "m": {"x": 1}}))
    assert revision is not None
    assert {"findings:old", "document:/m"} <= revision.fields.keys()
    assert {(one.section, one.name) for one in revision.operations} == {
        *(("agents", "A"), ("findings", "new"), ("document", "/m/x"))
    }


def test_parts_that_an_agent_speaks_of_for_the_first_time_are_indexed() -> None:
    synthesis = SynthesisState("demo")
    first = take(synthesis, entry("A", 1, {"n": 1}), entry("B", 2, {"n": 1}))
    again = take(synthesis, entry("A", 3, {"n": 2, "m": 1}))
    assert first is not None
    assert again is not None
    assert first.index == {"A": ["document:/n"], "B": ["document:/n"]}
    assert again.index == {"A": ["document:/m"]}


def test_the_same_revision_is_the_same_bytes() -> None:
    entries = [
        entry("B", 1, {"findings": [{"key": "k", "value": {"b": 1, "a": 2}}], "z": 1, "a": 2}),
        entry("A", 2, {"findings": [{"key": "k", "value": {"a": 2, "b": 1.0}}], "l": ["y", "x"]}),
    ]
    forwards, backwards = Folding(), Folding()
    forwards.take(entries)
    backwards.take(entries[::-1])
    assert forwards.revisions == backwards.revisions


def test_records_name_agents_in_their_order_whoever_spoke_first() -> None:
    folding = Folding()
    for agent in ("C", "A", "B"):
        folding.find(agent, "k", 1)
    assert list(folding.part("findings:k")["said"]) == ["A", "B", "C"]


def test_a_decision_without_its_value_takes_it_from_who_gives_it() -> None:
    """The chosen value was too large for the question, so only its digest is known."""
    folding = Folding()
    folding.find("A", "k", "long" * 500)
    folding.find("B", "k", "short")
    claims = folding.signals[0][1].values
    payload = {
        "part": "findings:k",
        "decision": "A",
        "by": "alice",
        "chosen": claims[0].digest,
        "rejected": [claims[1].digest],
    }
    folding.say("alice", kind="DECIDED", payload=payload)
    assert folding.part("findings:k")["state"] == "decided"
    assert folding.part("findings:k")["value"] == "long" * 500
    folding.withdraw("A", "k")
    assert folding.part("findings:k")["value"] == "long" * 500


def test_a_decision_about_what_nobody_says_shows_nothing() -> None:
    synthesis = SynthesisState("demo")
    verdict = Verdict("A", "alice", 1, 1_000, "00")
    result = Result(
        SignalType.DECIDED, Origin("alice", 1, 1, 1_000), verdict=("findings:k", verdict)
    )  # fmt: skip
    synthesis.records["findings:k"] = None
    fold(synthesis, result, POLICY)
    revision = PUBLISHER.publish(synthesis)
    assert revision is not None
    assert revision.operations == []
    assert synthesis.complete.findings == 0
