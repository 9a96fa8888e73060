"""Deltas: values that change what their agent said before, instead of replacing it.

An agent gives one where a value of its document would stand: `{"$add": 3}` counts on,
`{"$append": […]}` and `{"$remove": […]}` change a list, `{"$text": "…"}` continues a text. Each is
an item of its own, named by its log number, so it counts once however often it arrives, costs the
same however much came before it, and in patches is no longer than itself. `{"$total": 12}` is no
delta: it is the agent's whole number, to be added to those of the others.

The whole follows when the document is read: `applied` goes through an agent's value and its deltas
in the order of the log. A later whole value of the agent replaces both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, Final, NamedTuple

ADD: Final = "$add"
TOTAL: Final = "$total"
APPEND: Final = "$append"
REMOVE: Final = "$remove"
TEXT: Final = "$text"

#: Names of members that make a map a delta, alone or as the one pair that goes together.
_ALONE: Final = frozenset({ADD, TOTAL, APPEND, REMOVE, TEXT})
_PAIR: Final = frozenset({APPEND, REMOVE})

_NUMBER, _LIST, _TEXT = "a number", "a list", "a text"
_TAKES: Final = {ADD: _NUMBER, TOTAL: _NUMBER, APPEND: _LIST, REMOVE: _LIST, TEXT: _TEXT}

#: The largest number that JSON readers can hold.
_LARGEST = 1.7976931348623157e308
_LARGEST_WHOLE = int(_LARGEST)
_WHOLE_MAX = 2**63 - 1

#: Stands for no value.
NOTHING: Final[Any] = object()


class Delta(NamedTuple):
    """One delta as a document keeps it; they sort in the order in which they count."""

    log: int
    at: int
    agent: str
    operator: str
    value: Any


def operators(value: Any) -> list[tuple[str, Any]]:
    """Return the operators of a value, in the order in which they count; none if it is plain.

    Raises ValueError if an operator is given what it cannot take.
    """
    if not isinstance(value, Mapping) or not 1 <= len(value) <= len(_PAIR):
        return []
    names = value.keys()
    if not (names <= _ALONE and (len(names) == 1 or names == _PAIR)):
        return []
    for name, given in value.items():
        if _kind(given) != _TAKES[name]:
            raise ValueError(f"{name} takes {_TAKES[name]}")
    return [(name, value[name]) for name in sorted(names, reverse=True)]


def total_of(value: Any) -> Any:
    """Return a number that is given as a total; any other value as it is."""
    if isinstance(value, dict) and len(value) == 1 and is_number(value.get(TOTAL)):
        return value[TOTAL]
    return value


def is_total(value: Any) -> bool:
    """Whether a value is a number given as a total."""
    return isinstance(value, dict) and total_of(value) is not value


def item_name(operator: str, log: int, index: int) -> str:
    """Return the name of a delta among the items of its place. No JSON begins like it."""
    return f"{operator}:{log:016d}.{index:06d}"


def operator_of(item: str) -> str:
    """Return the operator of an item, given its name there; "" if it is no delta."""
    name = item.partition(":")[0] if item.startswith("$") else ""
    return name if name in _ALONE else ""


def index_of(item: str) -> int:
    """Return which of the deltas of one result an item is."""
    return int(item.rpartition(".")[2])


def applied(values: Mapping[str, Any], deltas: Iterable[Delta]) -> dict[str, Any]:
    """Return what each agent says at a place: its whole value, changed by its deltas in turn.

    A delta that does not fit what the agent said before begins anew.
    """
    found = {agent: total_of(value) for agent, value in values.items()}
    sums: dict[str, Fraction] = {}
    joined: dict[str, list[str]] = {}
    for delta in sorted(deltas, key=lambda one: one[:2]):
        agent, given = delta.agent, delta.value
        known = found.get(agent, NOTHING)
        if delta.operator == ADD:
            # Added up once at the end, and exactly, whatever the number of deltas.
            if agent not in sums:
                sums[agent] = Fraction(known) if is_number(known) else Fraction()
            sums[agent] += Fraction(given)
            found[agent] = 0
        elif delta.operator == TEXT:
            if agent not in joined:
                joined[agent] = [known] if isinstance(known, str) else []
            joined[agent].append(given)
            found[agent] = ""
        else:
            items = known if isinstance(known, list) else []
            found[agent] = (
                [*items, given]
                if delta.operator == APPEND
                else [item for item in items if not is_same(item, given)]
            )
    for agent, total in sums.items():
        if is_number(found[agent]):
            found[agent] = number(total)
    for agent, texts in joined.items():
        if isinstance(found[agent], str):
            found[agent] = "".join(texts)
    return found


def number(exact: Fraction) -> int | float:
    """Return an exact number as JSON has it: whole where it is, else rounded once, and finite."""
    if exact.denominator == 1 and abs(exact) <= _WHOLE_MAX:
        return int(exact)
    return rounded(exact)


def rounded(exact: Fraction) -> float:
    """Return the nearest finite float: the only rounding there is."""
    return float(max(Fraction(-_LARGEST_WHOLE), min(exact, Fraction(_LARGEST_WHOLE))))


def is_number(value: Any) -> bool:
    """Whether a value is a number; JSON's true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: unlike in Python, true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[name], other[name]) for name in one)
    return bool(one == other)


def join_lists(lists: Mapping[str, list[Any]], key: str = "") -> list[Any]:
    """Return one list of the agents' lists: the first agent's in its order, then what others add.

    Agents come by name. An item is there as often as in the list that has it most often.
    """
    made: list[Any] = []
    counts: dict[Any, int] = {}
    for agent in sorted(lists):
        own: dict[Any, int] = {}
        for item in lists[agent]:
            mark = _mark(item)
            own[mark] = own.get(mark, 0) + 1
            if own[mark] > counts.get(mark, 0):
                counts[mark] = own[mark]
                made.append(item)
    return made


def join_rows(lists: Mapping[str, list[Any]], key: str) -> list[Any]:
    """Return one table of the agents' tables: rows with the same value in column `key` are one.

    The later of an agent's own rows counts. Where agents give different values for one column of a
    row, the row has each value under its agent's name. What is no row with a key stays as it is.
    """
    rows: dict[Any, dict[str, dict[str, Any]]] = {}
    keys: dict[Any, Any] = {}
    others: dict[str, list[Any]] = {}
    for agent in sorted(lists):
        for item in lists[agent]:
            if isinstance(item, dict) and key in item:
                mark = _mark(item[key])
                keys.setdefault(mark, item[key])
                rows.setdefault(mark, {})[agent] = item
            else:
                others.setdefault(agent, []).append(item)
    made = [_row(row, key, keys[mark]) for mark, row in rows.items()]
    return [*made, *join_lists(others)]


def _row(said: Mapping[str, dict[str, Any]], key: str, value: Any) -> dict[str, Any]:
    row = {key: value}
    columns = dict.fromkeys(name for one in said.values() for name in one if name != key)
    for name in columns:
        given = {agent: one[name] for agent, one in said.items() if name in one}
        values = list(given.values())
        is_agreed = all(is_same(values[0], other) for other in values[1:])
        row[name] = values[0] if is_agreed else given
    return row


def _mark(value: Any) -> Any:
    """Return something hashable that is equal for the same JSON only."""
    if isinstance(value, dict):
        return ("{", frozenset((name, _mark(one)) for name, one in value.items()))
    if isinstance(value, list):
        return ("[", *map(_mark, value))
    return (type(value) is bool, value)


def _kind(value: Any) -> str:
    if is_number(value):
        return _NUMBER
    return _LIST if isinstance(value, list) else _TEXT if isinstance(value, str) else ""
