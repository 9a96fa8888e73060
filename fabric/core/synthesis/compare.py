"""Whether two values say the same, although they are written differently.

A rule names the comparison of a place; without one it is LOOSE. Each comparison gives a value a
*form*, and values with equal forms are one side of a contradiction. Numbers, quantities and dates
are on one side while they are no further apart than the tolerance: sides are cut from the sorted
values, beginning with the smallest, so that the order in which agents spoke leaves no trace. What a
comparison cannot read is compared loosely.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from fabric.core.policy import Comparison, ContradictionPolicy
from fabric.core.synthesis.canonical import canonical
from fabric.core.synthesis.delta import is_number
from fabric.core.synthesis.unit import UNITS


class Agreement(NamedTuple):
    """How the values of one place are compared, and what follows if they differ."""

    comparison: Comparison = Comparison.DEFAULT
    tolerance: float = 0
    policy: ContradictionPolicy = ContradictionPolicy.ASK
    #: Fields of typed findings that contradict each other as values do.
    contradict_on: tuple[str, ...] = ()


#: How sessions compare that began before there were comparisons.
EXACTLY: Final = Agreement(Comparison.EXACT)

#: A text as JSON would write the number: no other spelling of it, so that "1.10" is not "1.1".
_AS_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{0,16}[1-9])?")
_AMOUNT = re.compile(
    r"([+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,30})?(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?)"
    r"\s*([^\s0-9.,+-][^0-9]{0,15})?"
)
_DAY = re.compile(r"([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})")
#: Each takes four characters.
_MONTHS: Final = "jan feb mar apr may jun jul aug sep oct nov dec"
#: 30 November 2026, and November 30, 2026.
_NAMED_DAY = re.compile(
    r"(?:(?P<d1>[0-9]{1,2})(?:st|nd|rd|th)?\.?\s+(?P<m1>[a-z]{3,9})\.?|"
    r"(?P<m2>[a-z]{3,9})\.?\s+(?P<d2>[0-9]{1,2})(?:st|nd|rd|th)?),?\s+(?P<y>[0-9]{4})"
)
_DAY_S: Final = 86_400

_decode = msgspec.json.Decoder().decode


def sides(values: Sequence[Raw], agreement: Agreement) -> dict[bytes, int]:
    """Return the side that each value is on: values of one side are the same.

    Sides are numbered from 0, in no order that means anything.
    """
    plain = {bytes(raw): _decode(raw) for raw in values}
    measured = {raw: _measure(value, agreement.comparison) for raw, value in plain.items()}
    by_day = any(one is not None and one.is_day for one in measured.values())
    numbers: dict[Hashable, int] = {}
    found: dict[bytes, int] = {}
    scales: dict[str, list[tuple[Fraction, bytes]]] = {}
    for raw, value in plain.items():
        one = measured[raw]
        if one is None:
            found[raw] = numbers.setdefault(_form(value, agreement.comparison), len(numbers))
        else:
            amount = Fraction(one.amount // _DAY_S * _DAY_S) if by_day else one.amount
            scales.setdefault(one.scale, []).append((amount, raw))
    for scale, amounts in scales.items():
        least: Fraction | None = None
        for amount, raw in sorted(amounts):
            if least is None or not _is_near(least, amount, agreement):
                least = amount
            found[raw] = numbers.setdefault(("", scale, least), len(numbers))
    return found


def is_same(one: Raw, other: Raw, agreement: Agreement) -> bool:
    """Whether two values are the same."""
    return one == other or len(set(sides([one, other], agreement).values())) == 1


def is_remark(raw: Raw, agreement: Agreement) -> bool:
    """Whether a value says nothing but remarks, where these contradict nothing."""
    is_prose = agreement.comparison is Comparison.PROSE and bytes(raw)[:1] in (b'"', b"[", b"{")
    return is_prose and _without_remarks(_decode(raw)) is _REMARK


#: In place of a text of several words, and of what holds nothing else.
_REMARK: Final = object()


def _without_remarks(value: Any) -> Any:
    """Return a value without the texts of several words in it; _REMARK if nothing is left."""
    if isinstance(value, str):
        return _REMARK if len(value.split(None, 1)) > 1 and any(map(str.isalpha, value)) else value
    if isinstance(value, dict) and value:
        inner = {name: _without_remarks(item) for name, item in value.items()}
        return {name: item for name, item in inner.items() if item is not _REMARK} or _REMARK
    if isinstance(value, list) and value:
        return [item for item in map(_without_remarks, value) if item is not _REMARK] or _REMARK
    return value


def date_of(value: Any) -> Fraction | None:
    """Return a date, as seconds since the epoch; None if it cannot be read."""
    measure = _date(value)
    return None if measure is None else measure.amount


class _Measure(NamedTuple):
    """Something that is measured: what in, and how much of it."""

    scale: str
    amount: Fraction
    #: A date without a time.
    is_day: bool = False


def _is_near(least: Fraction, amount: Fraction, agreement: Agreement) -> bool:
    tolerance = Fraction(agreement.tolerance)
    if agreement.comparison is Comparison.QUANTITY:
        tolerance *= max(abs(least), abs(amount))
    return amount - least <= tolerance


def _measure(value: Any, comparison: Comparison) -> _Measure | None:
    if comparison is Comparison.NUMBER:
        return _number(value)
    if comparison is Comparison.QUANTITY:
        return _quantity(value)
    return _date(value) if comparison is Comparison.DATE else None


def _number(value: Any) -> _Measure | None:
    found = _quantity(value)
    return found if found is not None and found.scale == "" else None


def _quantity(value: Any) -> _Measure | None:
    """Read `1.5 GB`, `1500 MB`, 1500, or a map of `value` and `unit`."""
    if isinstance(value, dict) and value.keys() == {"value", "unit"}:
        value = f"{value['value']} {value['unit']}"
    if is_number(value):
        return _Measure("", Fraction(value))
    if not isinstance(value, str):
        return None
    match = _AMOUNT.fullmatch(value.strip())
    if match is None or not any(map(str.isdigit, match[1])):
        return None
    unit = (match[2] or "").strip()
    known = UNITS.get(unit) or UNITS.get(unit.lower())
    scale, factor, offset = known or (unit.casefold(), Fraction(1), Fraction())
    return _Measure(scale, (Fraction(match[1].replace(",", "")) + offset) * factor)


def _date(value: Any) -> _Measure | None:
    if not isinstance(value, str):
        return None
    text = value.strip()
    try:
        if (day := _DAY.fullmatch(text)) is not None:
            made = datetime(int(day[1]), int(day[2]), int(day[3]), tzinfo=UTC)
            return _moment(made, is_day=True)
        if (day := _NAMED_DAY.fullmatch(text.lower())) is not None:
            month = _MONTHS.index((day["m1"] or day["m2"])[:3]) // 4 + 1
            made = datetime(int(day["y"]), month, int(day["d1"] or day["d2"]), tzinfo=UTC)
            return _moment(made, is_day=True)
        # Python's own parser takes much that is no date: a date begins with its year.
        if re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]", text):
            return _moment(datetime.fromisoformat(text.upper()), is_day=False)
    except (ValueError, OverflowError):
        return None
    return None


def _moment(when: datetime, *, is_day: bool) -> _Measure:
    """Return a moment; one without a time zone is in UTC."""
    at = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = Fraction(since.days * _DAY_S + since.seconds) + Fraction(since.microseconds, 10**6)
    return _Measure("date", seconds, is_day)


def _form(value: Any, comparison: Comparison) -> Hashable:
    if comparison is Comparison.PROSE and isinstance(value, dict | list):
        said = _without_remarks(value)
        return _loose(value if said is _REMARK else said)
    if comparison is Comparison.EXACT:
        return canonical(value)
    if comparison is Comparison.TEXT:
        return _folded(value if isinstance(value, str) else canonical(value).decode())
    if comparison is Comparison.SET:
        items = value if isinstance(value, list) else [value]
        return frozenset(_loose(item) for item in items)
    return _loose(value)


def _loose(value: Any) -> Hashable:
    """Return the form of a value by which spelling, types of scalars and order do not count."""
    if isinstance(value, str):
        text = _folded(value)
        if text in ("true", "false"):
            return ("bool", text == "true")
        return ("number", Fraction(text)) if _AS_NUMBER.fullmatch(text) else text
    if isinstance(value, bool):
        return ("bool", value)
    if is_number(value):
        return ("number", Fraction(value))
    if isinstance(value, list):
        counts: dict[Hashable, int] = {}
        for item in value:
            form = _loose(item)
            counts[form] = counts.get(form, 0) + 1
        return ("list", frozenset(counts.items()))
    if isinstance(value, Mapping):
        return ("map", frozenset((name, _loose(item)) for name, item in value.items()))
    return (None,)


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
