"""What becomes of several values, as `oracle.py` works it out: texts, lists, tables, numbers."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

from tests.core.findings import REDUCERS

LARGEST = Fraction(1.7976931348623157e308)


def text(value: Any) -> str:
    """Return JSON that is the same for the same value: 1.0 is 1, and members have no order."""
    return json.dumps(whole(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [whole(item) for item in value]
    if isinstance(value, dict):
        return {name: whole(item) for name, item in value.items()}
    return value


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


#: What each operator takes.
OPERATORS: dict[str, Any] = {
    "$add": (int, float), "$total": (int, float), "$append": list, "$remove": list, "$text": str
}  # fmt: skip


def is_delta(value: Any) -> bool:
    """Whether a map changes what was said, or is a total."""
    names = set(value) if isinstance(value, dict) else set()
    return (len(names) == 1 and names <= set(OPERATORS)) or names == {"$append", "$remove"}


def joined(lists: list[list[Any]]) -> list[Any]:
    """Return one list of several: each item as often as the list has it that has it most often."""
    made: list[Any] = []
    for one in lists:
        had = [text(item) for item in made]
        for item in one:
            if text(item) in had:
                had.remove(text(item))
            else:
                made.append(item)
    return made


def table(given: dict[str, list[Any]], key: str) -> list[Any]:
    """Return one table of several: rows with the same key are one."""
    keys: list[Any] = []
    others: list[list[Any]] = []
    for agent in sorted(given):
        rows = [row for row in given[agent] if isinstance(row, dict) and key in row]
        for row in rows:
            if text(row[key]) not in map(text, keys):
                keys.append(row[key])
        others.append([item for item in given[agent] if item not in rows])
    made = []
    for one in keys:
        said = {
            agent: row
            for agent in sorted(given)
            for row in given[agent]
            if isinstance(row, dict) and key in row and text(row[key]) == text(one)
        }
        row = {key: one}
        for name in dict.fromkeys(name for row in said.values() for name in row if name != key):
            values = {agent: row[name] for agent, row in said.items() if name in row}
            is_one = len({text(value) for value in values.values()}) == 1
            row[name] = next(iter(values.values())) if is_one else values
        made.append(row)
    return [*made, *joined(others)]


def amount(value: Any) -> Any:
    return value["$total"] if is_delta(value) else value


def reduced(name: str, values: list[Any]) -> tuple[str, Any]:
    """Return state and value of what becomes of several values."""
    values = [amount(value) for value in values]
    if name in ("sum", "mean", "max", "min"):
        if not all(map(is_number, values)):
            return "by_source", None
        if name in ("max", "min"):
            return "reduced", max(values) if name == "max" else min(values)
        total = sum(map(Fraction, values), Fraction(0))
        if name == "mean":
            return "reduced", float(total / len(values))
        if all(isinstance(value, int) for value in values) and abs(total) < 2**63:
            return "reduced", int(total)
        return "reduced", float(max(-LARGEST, min(total, LARGEST)))
    if name == "count":
        return "reduced", REDUCERS[name](values)
    return "failed", None


def is_close(one: Any, other: Any) -> bool:
    """Whether two numbers differ by no more than the rounding of a mean."""
    return is_number(one) and is_number(other) and math.isclose(one, other, rel_tol=1e-12)
