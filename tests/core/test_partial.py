"""A partial result is taken apart into statements by part, or refused with a reason."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from fabric.core.limits import PARTIAL_PARTS_MAX
from fabric.core.rule_table import Merge
from fabric.core.synthesis.merge import Strategies
from fabric.core.synthesis.partial import (
    Origin,
    Refusal,
    ResultPayload,
    escape,
    list_of,
    places_above,
    pointers_above,
    prefixes_inside,
    statements,
    unescape,
)
from fabric.core.synthesis.state import Statement
from tests.core.findings import documents
from tests.support.effort import examples

SAID = Origin("A", 1, 7, 7_000)

names = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("~/=:0123"), max_size=8)


def taken_apart(raw: bytes, *merges: Merge) -> dict[str, Statement] | Refusal:
    return statements(ResultPayload(partial=Raw(raw)), SAID, Strategies(merges).of)


def parts(value: Any, *merges: Merge) -> dict[str, Any]:
    """Return the value of each part."""
    found = taken_apart(msgspec.json.encode(value), *merges)
    assert not isinstance(found, Refusal), found
    return {
        name: msgspec.json.decode(one.value) if isinstance(one.value, Raw) else None
        for name, one in found.items()
    }


def test_findings_are_parts_by_their_keys() -> None:
    findings = [{"key": "port", "value": 1}, {"key": "a/b", "withdrawn": True}]
    assert parts({"findings": findings}) == {"findings:port": 1, "findings:a/b": None}


def test_of_two_findings_for_one_key_the_last_counts() -> None:
    findings = [{"key": "k", "value": 1}, {"key": "k", "value": 2}]
    assert parts({"findings": findings}) == {"findings:k": 2}


def test_keys_that_are_superseded_are_named_once() -> None:
    raw = b'{"findings":[{"key":"k","value":1,"supersedes":["b","a","b"]}]}'
    found = taken_apart(raw)
    assert isinstance(found, dict)
    assert found["findings:k"].supersedes == ["a", "b"]


def test_each_value_of_a_document_is_a_part_by_its_pointer() -> None:
    document: dict[str, Any] = {
        "a": {"b": 1, "c": {"d": "x"}},
        "empty": {},
        "none": None,
        "list": [],
    }
    assert parts(document) == {
        "document:/a/b": 1,
        "document:/a/c/d": "x",
        "document:/empty": {},
        "document:/none": None,
        "document:/list": [],
    }


def test_each_item_of_a_list_is_a_part_by_its_json() -> None:
    assert parts({"a": {"list": ["x", 1, {"b": 1, "a": 2}]}}, Merge("/a/list", "union")) == {
        'items:/a/list="x"': "x",
        "items:/a/list=1": 1,
        'items:/a/list={"a":2,"b":1}': {"a": 2, "b": 1},
    }


def test_each_item_of_a_list_that_is_appended_is_a_part_by_log_number_and_place() -> None:
    assert parts({"log": ["x", "x"]}, Merge("/log", "append")) == {
        "items:/log=0000000000000007.000000": "x",
        "items:/log=0000000000000007.000001": "x",
    }


def test_a_list_that_is_merged_otherwise_is_one_part() -> None:
    assert parts({"list": ["x", 1]}, Merge("/list", "last")) == {"document:/list": ["x", 1]}


@examples(200)
@given(st.lists(names, min_size=1, max_size=5))
def test_names_of_members_come_back_from_their_pointers(members: list[str]) -> None:
    assert [unescape(escape(member)) for member in members] == members
    pointer = "".join(f"/{escape(member)}" for member in members)
    ancestors = ["".join(f"/{escape(one)}" for one in members[:n]) for n in range(1, len(members))]
    assert list(pointers_above(pointer)) == ancestors[::-1]


@examples(200)
@given(documents, documents)
def test_above_and_beneath_are_each_others_opposite(one: Any, other: Any) -> None:
    found = list({**parts(one), **parts(other), **parts({"m": one})})
    for name in found:
        for place in (name for name in found if name.startswith("document:")):
            is_beneath = any(name.startswith(prefix) for prefix in prefixes_inside(place))
            assert is_beneath == (place in places_above(name)), (name, place)


def test_a_list_is_known_by_its_items_names() -> None:
    (item,) = parts({"a=b": {"~2/": ["=x="]}}, Merge("/**", "union"))
    assert list_of(item.partition(":")[2]) == "/a=b/~02~1"
    assert places_above(item) == ["document:/a=b/~02~1", "document:/a=b"]


def test_as_many_values_as_a_commit_holds_are_taken() -> None:
    assert len(parts({str(n): n for n in range(PARTIAL_PARTS_MAX)})) == PARTIAL_PARTS_MAX


@pytest.mark.parametrize(
    "value",
    [
        {str(n): n for n in range(PARTIAL_PARTS_MAX + 1)},
        {"list": {"$append": list(range(PARTIAL_PARTS_MAX + 1))}},
        {"findings": [{"key": str(n), "value": n} for n in range(PARTIAL_PARTS_MAX + 1)]},
        {"a": {"$append": list(range(1_500))}, "b": {str(n): n for n in range(1_500)}},
    ],
)
def test_more_are_refused_and_a_way_out_is_named(value: Any) -> None:
    refusal = taken_apart(msgspec.json.encode(value))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.given) == ("LIMIT", "more than 2000 values")
    assert refusal.allowed.startswith("2000: send it in several")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"findings":5}',
        b'{"findings":[{"value":1}]}',
        b'{"findings":[{"key":"k"}]}',
        b'{"findings":[{"key":"k","value":1,"withdrawn":true}]}',
        b'{"findings":[{"key":"k","value":1e999}]}',
        b'{"findings":[{"key":"k\\u0000","value":1}]}',
        b'{"findings":[{"key":"k","value":1,"confidence":2}]}',
        b'{"n":1e999}',
        b'{"n":-1e999}',
        b'{"n":{"$add":"3"}}',
        b'{"n":{"$total":true}}',
        b'{"n":{"$append":"x"}}',
        b'{"n":{"$append":[],"$remove":5}}',
        b'{"n":{"$text":["x"]}}',
    ],
)
def test_what_cannot_be_read_is_refused(raw: bytes) -> None:
    refusal = taken_apart(raw)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "VALUE"


def test_a_number_larger_than_64_bits_is_still_a_number() -> None:
    found = taken_apart(b'{"n":%s,"list":[%s]}' % (b"9" * 40, b"9" * 40))
    assert isinstance(found, dict)
    assert found["document:/n"].value == Raw(b"9" * 40)


@pytest.mark.parametrize(
    "given",
    [ResultPayload(), ResultPayload(partial=Raw(b"null")), ResultPayload(result=Raw(b"null"))],
)
def test_nothing_is_no_statement(given: ResultPayload) -> None:
    assert statements(given, SAID, Strategies().of) == {}
