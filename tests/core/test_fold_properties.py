"""The same results make the same synthesis: in any order, with repeats, in any batches."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.synthesis.partial import unescape
from fabric.wire.document import finding, nested
from fabric.wire.same import groups_of
from tests.core import oracle, oracle_groups, oracle_values
from tests.core.findings import REDUCERS, Event, Rules, rules, shuffled
from tests.core.oracle_deltas import with_deltas
from tests.core.oracle_fields import fields_of
from tests.support.effort import examples
from tests.support.folding import Folding

slices = st.integers(1, 5)

Case = tuple[list[Event], list[list[Event]]]


def made(rules: Rules, sweep_parts: int) -> Folding:
    on = rules.contradict_on
    return Folding(
        rules.policy, rules.merges, REDUCERS, sweep_parts, contradict_on=on, same=rules.same
    )


def folded(batches: list[list[Event]], rules: Rules, sweep_parts: int = 3) -> Folding:
    folding = made(rules, sweep_parts)
    for batch in batches:
        folding.take([event.fields() for event in batch])
    return folding


@examples(150)
@given(shuffled(), rules, slices)
def test_order_repeats_and_batches_leave_no_trace(
    case: Case, rules: Rules, sweep_parts: int
) -> None:
    history, batches = case
    straight = folded([[event] for event in history], rules)
    other = folded(batches, rules, sweep_parts)
    assert msgspec.json.decode(other.content()) == msgspec.json.decode(straight.content())
    assert other.content() == straight.content()
    assert other.records() == straight.records()
    assert other.said == straight.said
    assert groups_of(other.document()) == groups_of(straight.document())


@examples(100)
@given(shuffled(), rules, slices)
def test_every_revision_is_the_patches_up_to_it(case: Case, rules: Rules, sweep_parts: int) -> None:
    folding = made(rules, sweep_parts)
    for batch in case[1]:
        folding.take([event.fields() for event in batch])
        assert folding.patched() == folding.document()


@examples(150)
@given(shuffled(), rules)
def test_a_synthesis_says_what_all_results_at_once_say(case: Case, rules: Rules) -> None:
    """The synthesis agrees with an oracle that knows no order, batches, records or patches."""
    history, batches = case
    document = folded(batches, rules).document()
    if not document:  # no path has got another name, no key is another one
        assert all(event.relation for event in history)
        assert oracle_groups.related(history) == ([], {})
        return
    assert_agrees(document, history, rules)
    assert_complete(document, history, rules)
    assert_whole(document, history, rules)
    assert_fields(document, history, rules)
    assert_related(document, history)
    oracle_groups.check(document, history, rules)


def assert_fields(document: dict[str, Any], history: list[Event], rules: Rules) -> None:
    """The typed fields of each finding are those that the oracle merges."""
    expected = fields_of(history, rules)
    for key, part in document["findings"].items():
        if part["state"] in ("agreed", "contradicted", "decided"):
            found = finding(key, {"said": {}, **part}).fields
            if any(one["standing"] == "holds" for one in holding(part)):
                chosen = part.get("verdict", {}).get("value")
                wanted = dict(expected.get(key, {}))
                if rules.contradict_on and part["state"] == "decided" and isinstance(chosen, dict):
                    # What a person has decided for goes before what agents say.
                    wanted |= {name: one for name, one in chosen.items() if name != "value"}
                assert found == wanted, (key, found, wanted)


def assert_related(document: dict[str, Any], history: list[Event]) -> None:
    """Of each pair of keys, and of each path, the latest word is kept."""
    renamed, pairs = oracle_groups.related(history)
    kept = document.get("relations", {})
    found = {one["from"]: one["to"] for one in kept.get("renamed", [])}
    assert found == {old: new for _, old, new in renamed}
    told = {frozenset(one["keys"]): one.get("distinct", False) for one in kept.get("pairs", [])}
    assert told == pairs


def holding(part: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the statements of a part with their standing."""
    said = part.get("said", {}).values()
    return [{"standing": "holds", **one} for statements in said for one in statements]


def assert_whole(document: dict[str, Any], history: list[Event], rules: Rules) -> None:
    """Places that deltas change have the value that the oracle finds."""
    plain = nested(document["document"], document["items"])
    for pointer, wanted in with_deltas(history, rules).items():
        found = plain
        for token in pointer.split("/")[1:]:
            found = found[unescape(token)]
        is_close = oracle_values.is_close(found, wanted)
        assert is_close or oracle_values.text(found) == oracle_values.text(wanted), pointer


def assert_agrees(document: dict[str, Any], history: list[Event], rules: Rules) -> None:
    camped: dict[str, oracle.Seen] = {}
    expected, found = oracle.judged(history, rules, camped), oracle.seen(document)
    assert found.keys() == expected.keys()
    for part, wanted in expected.items():
        if oracle_values.is_close(found[part]["value"], wanted["value"]):
            found[part]["value"] = wanted["value"]
        assert found[part] == wanted, (part, found[part], wanted)
    open_ones = {part for part, seen in expected.items() if seen["state"] == "contradicted"}
    assert document["contradictions"].keys() == open_ones
    for part in open_ones:
        values = document["contradictions"][part]["values"]
        claimed = sorted(sorted(one["agent"] for one in same) for same in values)
        candidate = [["a person"]] if camped[part].has_candidate else []
        assert claimed == sorted([*map(sorted, camped[part].camps), *candidate]), part
    for part, record in _records(document).items():
        told = [(event, oracle.said_in(event, rules).get(part)) for event in history]
        given = [event.log for event, said in told if said is not None and not said[2]]
        first = record.get("first", {}).get("log")
        assert first == min(given, default=None), part


def _records(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{section}:{name}": record
        for section in ("findings", "document", "items")
        for name, record in document[section].items()
    }


def assert_complete(document: dict[str, Any], history: list[Event], rules: Rules) -> None:
    """The fold keeps the counts up to date; this counts everything anew."""
    complete = document["complete"]
    standing = ("agreed", "contradicted", "decided")
    findings = [one for one in document["findings"].values() if one["state"] in standing]
    own = [one for one in history if one.agent != "a person" and one.refined is None]
    agents = {one.agent for one in own}
    assert document["agents"].keys() == agents
    shares, ended, reported = 0, set(), set()
    for agent in agents:
        events = [one for one in own if one.agent == agent]
        incarnation = max(one.incarnation for one in events)
        present = [one for one in events if one.incarnation == incarnation]
        percent = max((one.percent for one in present if one.percent is not None), default=0)
        ends = [one for one in present if one.kind in ("COMPLETED", "FAILED")]
        ended |= {agent for _ in ends}
        is_completed = any(one.kind == "COMPLETED" for one in ends)
        shares += 10_000 if is_completed else round(percent * 100)
        record = document["agents"][agent]
        assert record.get("incarnation", 0) == incarnation
        assert record.get("error", "") == ("it broke" if ends and not is_completed else "")
        given = [one.log for one in events if oracle.said_in(one, rules)]
        assert record.get("reported", 0) == min(given, default=0)
        reported |= {agent for _ in given}
    phase, first_final = complete.pop("state"), complete.pop("first_final", 0)
    assert phase in (("final", "amended") if complete["final"] else ("open",))
    assert bool(first_final) >= complete["final"]
    times = [1_000 * one.log for one in own if one.kind in ("COMPLETED", "FAILED")]
    assert complete.pop("ended_ms", 0) == max(times, default=0)
    assert complete == {
        "agents": len(agents),
        "reported": len(reported),
        "ended": len(ended),
        "percent": round(shares / max(len(agents), 1)) / 100,
        "findings": len(findings),
        "contradictions": len(document["contradictions"]),
        "final": bool(agents) and ended == agents,
        "shares": shares,
        "sweeps": 0,
        "parts": len(_records(document)),
    }
    refined = {}
    for one in history:
        if one.refined is not None:
            refined[one.refined[0]] = oracle_values.whole(one.refined[1])
    assert {name: one["value"] for name, one in document["refined"].items()} == refined
