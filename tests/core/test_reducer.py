"""Reducers of numbers, in any order and of any size; and which place has which reducer."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.rule_table import Merge
from fabric.core.synthesis import merge
from fabric.core.synthesis.canonical import canonical
from fabric.core.synthesis.delta import is_number
from fabric.core.synthesis.merge import KNOWN, NUMBERS, SPECIAL, Strategies
from tests.support.effort import examples

#: The largest number that nearly all JSON readers accept.
LARGEST = 1.7976931348623157e308

floats = st.floats(allow_nan=False, allow_infinity=False)
wholes = st.integers(-(2**63), 2**64 - 1)
#: Sums of these never reach the largest number.
modest = st.lists(st.floats(-1e300, 1e300) | wholes, min_size=1, max_size=8)
extreme = st.lists(
    st.sampled_from([LARGEST, -LARGEST, LARGEST / 2, -LARGEST / 3, 1, -0.5, 5e-324, 2**64 - 1]),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("name", NUMBERS)
@examples(60)
@given(st.data(), modest)
def test_the_order_leaves_no_trace(name: str, data: st.DataObject, values: list[Any]) -> None:
    shuffled = data.draw(st.permutations(values))
    assert canonical(NUMBERS[name](shuffled)) == canonical(NUMBERS[name](values))


@examples(200)
@given(st.lists(wholes, min_size=1, max_size=8))
def test_whole_numbers_are_added_up_exactly(values: list[int]) -> None:
    total = NUMBERS["sum"](values)
    if abs(sum(values)) < 2**63:
        assert (type(total), total) == (int, sum(values))
    else:
        assert total == float(sum(values))


@examples(200)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=8))
def test_others_are_rounded_once(values: list[float]) -> None:
    assert NUMBERS["sum"](values) == float(sum(map(Fraction, values)))


@examples(200)
@given(extreme)
def test_sums_beyond_the_largest_number_are_the_largest(values: list[Any]) -> None:
    exact = sum(map(Fraction, values), Fraction(0))
    total = NUMBERS["sum"](values)
    assert math.isfinite(total)
    assert total == float(max(-Fraction(LARGEST), min(exact, Fraction(LARGEST))))


@pytest.mark.parametrize("name", NUMBERS)
@examples(60)
@given(values=extreme | modest)
def test_what_comes_out_is_json(name: str, values: list[Any]) -> None:
    assert is_number(msgspec.json.decode(canonical(NUMBERS[name](values))))


@examples(100)
@given(floats | wholes, st.integers(1, 7))
def test_the_mean_of_one_value_is_that_value(value: float, count: int) -> None:
    assert NUMBERS["mean"]([value] * count) == pytest.approx(value, rel=1e-15)


def test_the_mean_of_the_largest_numbers_is_no_overflow() -> None:
    assert NUMBERS["mean"]([LARGEST] * 3) == pytest.approx(LARGEST)
    assert NUMBERS["mean"]([LARGEST, -LARGEST]) == 0


def test_names_that_a_rule_file_may_use() -> None:
    assert sorted(KNOWN) == [
        *("agree", "append", "by_source", "last", "list", "max", "mean", "min"),
        *("rows", "sum", "union"),
    ]
    assert not NUMBERS.keys() & SPECIAL


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *((1, "agree"), (1.5, "agree"), (True, "by_source"), ("1", "by_source")),
        *((None, "by_source"), ([], "list"), (["x"], "list"), ({}, "by_source")),
        *(({"$total": 3}, "sum"), ({"$add": 3}, "delta"), ({"$append": []}, "delta")),
        *(({"$add": 3, "n": 1}, "by_source"), ({"$ref": "#"}, "by_source")),
    ],
)
def test_without_rules_it_is_by_what_is_there(value: Any, name: str) -> None:
    assert Strategies().of("/a", value) == name


@pytest.mark.parametrize(
    ("pattern", "pointer", "matches"),
    [
        ("/n", "/n", True),
        ("/n", "/n/m", False),
        ("/n", "/m/n", False),
        ("/*", "/n", True),
        ("/*", "/n/m", False),
        ("/metrics/*/latency", "/metrics/http/latency", True),
        ("/metrics/*/latency", "/metrics/a/b/latency", False),
        ("/metrics/**", "/metrics/a/b/latency", True),
        ("/**/latency", "/metrics/a/latency", True),
        ("/a~1b", "/a~1b", True),
        ("/a~1*", "/a~1b", True),
        ("/*_ms", "/wait_ms", True),
    ],
)
def test_a_path_is_a_pointer_or_a_glob_of_several(
    pattern: str, pointer: str, *, matches: bool
) -> None:
    strategies = Strategies([Merge(pattern, "max")])
    assert (strategies.of(pointer, "text") == "max") is matches
    assert (strategies.of(pointer, "text") == "max") is matches, "the same, when it is remembered"


def test_of_several_rules_the_first_counts() -> None:
    strategies = Strategies([Merge("/n/m", "max"), Merge("/n/*", "min"), Merge("/**", "last")])
    assert [strategies.of(place, 1) for place in ("/n/m", "/n/x", "/y")] == ["max", "min", "last"]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "_REMEMBERED_MAX", 10)
    strategies = Strategies([Merge("/n*", "max")])
    for number in range(100):
        assert strategies.of(f"/n{number}", 1) == "max"
        assert strategies.of(f"/m{number}", 1) == "agree"
        assert len(strategies._remembered) <= 10
