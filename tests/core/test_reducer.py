"""Reducers of numbers: the order of the agents leaves no trace, and no sum is too large."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.synthesis.part import canonical
from fabric.core.synthesis.reducer import KNOWN, NUMBERS, SPECIAL, is_number
from tests.support.effort import examples

#: The largest number there is in JSON, as nearly all readers take it.
LARGEST = 1.7976931348623157e308

floats = st.floats(allow_nan=False, allow_infinity=False)
wholes = st.integers(-(2**63), 2**64 - 1)
#: Sums of these stay far from the largest number, whatever the order.
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
        *("agree", "append", "by_source", "last", "max", "mean", "min", "sum", "union")
    ]
    assert not NUMBERS.keys() & SPECIAL
