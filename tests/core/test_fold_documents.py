"""Plain documents: maps merge by key, lists as sets, numbers by a reducer, texts by source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from fabric.core.rule_table import Merge
from tests.core.findings import REDUCERS
from tests.support.folding import Folding, entry

#: Any JSON value that a reducer can get.
LARGEST = 1.7976931348623157e308


#: A rule for lists that many agents add to.
UNION = [Merge("/list", "union"), Merge("/m", "union"), Merge("/a~1b/=", "union")]


@pytest.fixture
def folding() -> Folding:
    return Folding()


@pytest.fixture
def uniting() -> Folding:
    return Folding(merges=UNION)


def merged(reducer: str, *values: Any) -> dict[str, Any]:
    """Return the part of a place where each agent gives one of these values."""
    folding = Folding(merges=[Merge("/n", reducer)], reducers=REDUCERS)
    for number, value in enumerate(values):
        folding.say(f"A{number}", {"n": value})
    part: dict[str, Any] = folding.part("document:/n")
    return part


def items(folding: Folding, pointer: str = "/list") -> list[Any]:
    """Return the items of a list that at least one agent gives."""
    found = folding.document()["items"].items()
    return [
        one["value"]
        for name, one in sorted(found)
        if name.startswith(f"{pointer}=") and one["state"] == "agreed"
    ]


def test_maps_merge_by_key_however_deep(folding: Folding) -> None:
    folding.say("A", {"a": {"b": {"c": "x"}}})
    folding.say("B", {"a": {"b": {"d": "y"}, "e": "z"}})
    assert folding.document()["document"].keys() >= {"/a/b/c", "/a/b/d", "/a/e"}
    assert folding.says("document:/a/b/d") == {"B": "y"}


def test_texts_are_kept_by_source(folding: Folding) -> None:
    folding.say("A", {"title": "one"})
    folding.say("B", {"title": "two"})
    assert folding.part("document:/title")["state"] == "by_source"
    assert folding.says("document:/title") == {"A": "one", "B": "two"}


def test_an_agent_s_later_value_replaces_its_own_at_that_place_alone(folding: Folding) -> None:
    folding.say("A", {"title": "one", "n": 1})
    folding.say("A", {"title": "two"})
    assert folding.says("document:/title") == {"A": "two"}
    assert folding.says("document:/n") == {"A": 1}


def test_null_takes_back_what_the_agent_has_said_there_and_no_other(uniting: Folding) -> None:
    uniting.say("A", {"n": 1, "m": {"x": 1}, "list": ["a"]})
    uniting.say("B", {"n": 2, "m": {"x": 2}, "list": ["a", "b"]})
    uniting.say("A", {"n": None, "m": None, "list": None})
    assert uniting.part("document:/n")["value"] == 2
    assert uniting.says("document:/m/x") == {"B": 2}
    assert uniting.says('items:/list="a"') == {"B": "a"}
    uniting.say("B", {"n": None})
    assert uniting.part("document:/n")["state"] == "withdrawn"


@pytest.mark.parametrize("is_late", [False, True])
def test_a_value_takes_the_place_of_the_agent_s_map(folding: Folding, *, is_late: bool) -> None:
    said = [entry("A", 1, {"m": {"x": {"y": 1}}}), entry("A", 2, {"m": 5})]
    for fields in reversed(said) if is_late else said:
        folding.take([fields])
    assert folding.says("document:/m") == {"A": 5}
    assert folding.says("document:/m/x/y") == {}


@pytest.mark.parametrize("is_late", [False, True])
def test_and_a_map_takes_that_of_its_value(folding: Folding, *, is_late: bool) -> None:
    said = [entry("A", 1, {"m": 5}), entry("A", 2, {"m": {"x": {"y": 1}}})]
    for fields in reversed(said) if is_late else said:
        folding.take([fields])
    assert folding.says("document:/m") == {}
    assert folding.says("document:/m/x/y") == {"A": 1}


def test_an_item_that_comes_after_what_took_it_away_is_no_other_record() -> None:
    said = [entry("A", 1, {"list": ["x"]}), entry("A", 2, {"list": 5})]
    straight, late = Folding(), Folding()
    for forwards, backwards in zip(said, reversed(said), strict=True):
        straight.take([forwards])
        late.take([backwards])
    assert late.content() == straight.content()


def test_a_map_of_one_agent_and_a_value_of_another_stand_beside_each_other(
    folding: Folding,
) -> None:
    folding.say("A", {"m": 5})
    folding.say("B", {"m": {"x": 1}})
    assert folding.says("document:/m") == {"A": 5}
    assert folding.says("document:/m/x") == {"B": 1}
    assert folding.part("document:/m")["inner"] is True


def test_lists_that_many_agents_add_to_are_sets(uniting: Folding) -> None:
    uniting.say("A", {"list": ["a", "b", "a", 1, 1.0]})
    uniting.say("B", {"list": ["b", "c"]})
    assert items(uniting) == ["a", "b", "c", 1]
    assert uniting.says('items:/list="b"') == {"A": "b", "B": "b"}


def test_an_empty_list_takes_back_the_agent_s_items(uniting: Folding) -> None:
    uniting.say("A", {"list": ["a"]})
    uniting.say("A", {"list": []})
    assert items(uniting) == []
    assert uniting.part("document:/list")["value"] == []


def test_a_list_stays_beside_a_map_until_it_is_taken_back(uniting: Folding) -> None:
    uniting.say("A", {"m": ["a"]})
    uniting.say("A", {"m": {"x": 1}})
    assert items(uniting, "/m") == ["a"]
    uniting.say("A", {"m": None})
    assert items(uniting, "/m") == []


def test_a_list_may_be_appended_to_instead() -> None:
    folding = Folding(merges=[Merge("/log", "append")])
    folding.say("A", {"log": ["start", "end"]})
    folding.say("B", {"log": ["start"]})
    assert items(folding, "/log") == ["start", "end", "start"]


def test_a_long_item_goes_by_its_digest(uniting: Folding) -> None:
    uniting.say("A", {"list": ["x" * 10_000]})
    (name,) = uniting.document()["items"]
    assert len(name) == len("/list=") + 16
    assert items(uniting) == ["x" * 10_000]


def test_members_with_marks_in_their_names_are_not_mistaken(uniting: Folding) -> None:
    uniting.say("A", {"a/b": {"~": 1, "=": ["x"], "": 2, "nul\0": 3, "é: ": "t"}})
    document = uniting.document()
    assert set(document["document"]) >= {"/a~1b/~0", "/a~1b/", "/a~1b/nul\0", "/a~1b/é: "}
    assert set(document["items"]) == {'/a~1b/~2="x"'}
    assert uniting.patched() == document


def test_numbers_that_differ_are_a_contradiction(folding: Folding) -> None:
    folding.say("A", {"coverage": 87.5, "port": 8080})
    folding.say("B", {"coverage": 91, "port": 8080})
    assert folding.part("document:/coverage")["state"] == "contradicted"
    assert folding.says("document:/coverage") == {"A": 87.5, "B": 91}
    assert folding.part("document:/port")["value"] == 8080
    assert list(folding.document()["contradictions"]) == ["document:/coverage"]
    folding.decide("document:/coverage", 91, 87.5)
    assert folding.part("document:/coverage")["value"] == 91


@pytest.mark.parametrize(
    ("reducer", "values", "value"),
    [
        ("sum", [0.1] * 10, 1),
        ("sum", [1e16, 1, -1e16], 1),
        ("sum", [2**53, 1], 2**53 + 1),
        ("sum", [2**63 - 1, 1], float(2**63)),
        ("sum", [LARGEST, LARGEST], LARGEST),
        ("sum", [-LARGEST, -LARGEST], -LARGEST),
        ("mean", [1, 2], 1.5),
        ("mean", [LARGEST, LARGEST], LARGEST),
        ("max", [1, 2.5, -3], 2.5),
        ("min", [1, 2.5, -3], -3),
        ("last", ["one", "two"], "two"),
        ("count", ["one", "two"], 2),
    ],
)
def test_a_reducer_makes_one_value_of_several(reducer: str, values: list[Any], value: Any) -> None:
    part = merged(reducer, *values)
    assert (part["state"], part["reducer"], part["value"]) == ("reduced", reducer, value)


def test_large_numbers_of_opposite_sign_are_added_up() -> None:
    assert merged("sum", LARGEST, LARGEST, -LARGEST, -LARGEST)["value"] == 0


@pytest.mark.parametrize("reducer", ["sum", "mean", "max", "min"])
def test_numbers_and_texts_together_are_kept_by_source(reducer: str) -> None:
    part = merged(reducer, 1, "one")
    assert part["state"] == "by_source"
    assert "value" not in part


def test_true_is_no_number() -> None:
    assert merged("sum", 1, True)["state"] == "by_source"


@pytest.mark.parametrize(
    ("reducer", "error"),
    [
        ("fail", "fail failed: LookupError: nothing to look up"),
        ("chatter", "chatter failed: TypeError: "),
        ("missing", "no reducer missing is installed here"),
    ],
)
def test_a_reducer_that_fails_is_shown_and_blends_nothing(reducer: str, error: str) -> None:
    part = merged(reducer, 1, 2)
    assert part["state"] == "failed"
    assert part["error"].startswith(error)
    assert "value" not in part
    assert [one[0]["value"] for one in part["said"].values()] == [1, 2]


def test_a_reducer_sees_values_by_the_agents_names() -> None:
    seen: list[Sequence[Any]] = []

    def watch(values: Sequence[Any]) -> Any:
        seen.append(list(values))
        return None

    folding = Folding(merges=[Merge("/n", "watch")], reducers={"watch": watch})
    folding.take([entry("B", 1, {"n": "b"}), entry("C", 2, {"n": "c"}), entry("A", 3, {"n": "a"})])
    assert seen == [["a", "b", "c"]]


def test_what_is_removed_from_an_empty_list_leaves_it() -> None:
    folding = Folding(merges=[Merge("/*", "union")])
    folding.say("A", {"files": []})
    folding.say("A", {"files": {"$remove": ["a.py"]}})
    assert folding.document()["document"]["/files"]["value"] == []
