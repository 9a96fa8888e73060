"""Which statements a part keeps depends on the set of statements, not on their order."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from fabric.core.contradiction import digest
from fabric.core.synthesis.canonical import canonical, canonical_raw
from fabric.core.synthesis.state import (
    INCARNATIONS_KEPT_MAX,
    VALUES_KEPT,
    Statement,
    keep,
    last_values,
)
from tests.support.effort import examples


def said(log: int, incarnation: int = 1, *, withdrawn: bool = False) -> Statement:
    return Statement(log, 1_000 * log, incarnation, withdrawn=withdrawn)


def kept_of(statements: list[Statement]) -> list[tuple[int, int]]:
    """Return the incarnation and log number of the kept statements, the last first."""
    kept: list[Statement] = []
    for one in statements:
        kept = keep(kept, one) or kept
    return [(one.incarnation, one.log) for one in kept]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Statement], list[Statement]]:
    """Return statements of one agent, and the same ones shuffled, some of them twice."""
    # In a real log the numbers rise with the incarnations; nothing may depend on that.
    logs = draw(st.lists(st.integers(1, 60), unique=True, max_size=12))
    most = draw(st.sampled_from([1, 3, 2 * INCARNATIONS_KEPT_MAX]))
    made = [said(log, draw(st.integers(1, most)), withdrawn=draw(st.booleans())) for log in logs]
    if most > INCARNATIONS_KEPT_MAX:
        made += [said(100 + number, number) for number in range(1, most)]
    again = draw(st.lists(st.sampled_from(made), max_size=3)) if made else []
    return made, draw(st.permutations([*made, *again]))


@examples(200)
@given(cases())
def test_the_same_statements_leave_the_same_in_any_order(
    case: tuple[list[Statement], list[Statement]],
) -> None:
    made, shuffled = case
    assert kept_of(shuffled) == kept_of(made)
    incarnations = sorted({one.incarnation for one in made}, reverse=True)[:INCARNATIONS_KEPT_MAX]
    expected = []
    for incarnation in incarnations:
        same = sorted((one.log for one in made if one.incarnation == incarnation), reverse=True)
        values = [log for log in same if log in {one.log for one in made if not one.withdrawn}]
        expected += [(incarnation, log) for log in sorted({same[0], *values[:2]}, reverse=True)]
    assert kept_of(made) == expected


def test_the_last_two_values_are_kept_and_what_took_them_back() -> None:
    assert VALUES_KEPT == 2
    made = [said(1), said(2), said(3), said(4, withdrawn=True)]
    assert kept_of(made) == [(1, 4), (1, 3), (1, 2)]


def test_a_withdrawal_is_kept_only_while_it_is_the_last() -> None:
    assert kept_of([said(1), said(2, withdrawn=True), said(3)]) == [(1, 3), (1, 1)]


def test_nothing_changes_with_what_is_known_or_too_old() -> None:
    kept = [said(5), said(4)]
    assert keep(kept, said(5)) is None
    assert keep(kept, said(3)) is None
    assert keep(kept, said(3, withdrawn=True)) is None


def test_the_highest_incarnations_are_kept() -> None:
    made = [said(number, number) for number in range(1, INCARNATIONS_KEPT_MAX + 3)]
    assert [one for one, _ in kept_of(made)] == list(range(INCARNATIONS_KEPT_MAX + 2, 2, -1))


def test_each_incarnation_has_a_last_value() -> None:
    kept = [said(9, 2, withdrawn=True), said(8, 2), said(7, 2), said(3, 1)]
    assert [one.log for one in last_values(kept).values()] == [8, 3]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"1.0", b"1"),
        (b"-0.0", b"0"),
        (b"1e3", b"1000"),
        (b'{"a":1,"b":[2.0]}', b'{ "b": [2], "a": 1.0 }'),
        (b'"\\u00e9"', '"é"'.encode()),
        (b'"\\/"', b'"/"'),
        (b'{"a":1,"a":2}', b'{"a":2}'),
    ],
)
def test_two_spellings_of_a_value_are_one(one: bytes, other: bytes) -> None:
    assert canonical_raw(Raw(one)) == canonical_raw(Raw(other))
    assert digest(canonical_raw(Raw(one))) == digest(canonical_raw(Raw(other)))


def test_two_values_are_two() -> None:
    values: list[object] = [
        None,
        True,
        False,
        0,
        1,
        1.5,
        "1",
        "",
        "a",
        "A",
        [],
        {},
        [1],
        [[1]],
        {"a": 1},
    ]
    values += [2**53 - 1, 2**53, [1, 2], [2, 1], {"a": {}}, {"": None}, {"a": None}]
    assert len({canonical(value) for value in values}) == len(values)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
)  # fmt: skip


@examples(60)
@given(json_values)
def test_a_canonical_value_stays_as_it_is(value: object) -> None:
    assert canonical_raw(Raw(canonical(value))) == Raw(canonical(value))


def test_digests_are_short_and_differ() -> None:
    marks = {digest(Raw(canonical(value))) for value in chain(range(1_000), map(str, range(1_000)))}
    assert len(marks) == 2_000
    assert {len(one) for one in marks} == {16}
