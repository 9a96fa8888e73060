"""The places of a synthesis, each by itself, as the one document that they are places of.

A place where each agent's value stands for itself shows them by agent. One that a person, a rule
or agreement has given one value shows that. Empty maps vanish in what others put there. Where
agents do not agree on what a place is, nothing is lost: what is no map stands in the map under "",
and a value beside a list is the list's last item.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric.core.synthesis.part import SAID, Standing, State
from fabric.core.synthesis.partial import list_of, unescape

#: One value holds here.
_SINGLE = frozenset({State.AGREED, State.DECIDED, State.REDUCED})

#: Nobody says anything here any more.
_GONE = frozenset({State.WITHDRAWN, State.SUPERSEDED})

_NOTHING: Any = object()


class _Place:
    """A place: what is given there, the items of its list, the places in it."""

    __slots__ = ("inner", "items", "value")

    def __init__(self) -> None:
        self.value: Any = _NOTHING
        self.items: list[tuple[int, str, Any]] = []
        self.inner: dict[str, _Place] = {}


def nested(places: Mapping[str, Any], items: Mapping[str, Any]) -> Any:
    """Return the document that parts make: places by pointer, items by list and item."""
    root = _Place()
    for pointer, part in places.items():
        value = _value(part)
        if value is not _NOTHING:
            _find(root, pointer).value = value
    for name, part in items.items():
        if State(part["state"]) not in _GONE:
            item = (part["first"]["log"], name, part["value"])
            _find(root, list_of(name)).items.append(item)
    made = _made(root)
    return {} if made is _NOTHING else made


def _find(root: _Place, pointer: str) -> _Place:
    place = root
    for token in pointer.split("/")[1:]:
        place = place.inner.setdefault(unescape(token), _Place())
    return place


def _value(part: Mapping[str, Any]) -> Any:
    state = State(part["state"])
    if state in _GONE:
        return _NOTHING
    if state in _SINGLE:
        return part["value"]
    given = {}
    for agent in sorted(part["said"]):
        for one in part["said"][agent]:
            if one.get("standing", Standing.HOLDS) in SAID and not one.get("withdrawn"):
                given[agent] = one.get("value", part.get("value"))
                break
    return {} if all(value == {} for value in given.values()) else given


def _made(place: _Place) -> Any:
    """Return what stands at a place. Nesting is bounded, as it is in payloads."""
    inner = {name: _made(one) for name, one in sorted(place.inner.items())}
    inner = {name: value for name, value in inner.items() if value is not _NOTHING}
    value = place.value
    if place.items:
        listed = [item for _, _, item in sorted(place.items, key=lambda item: item[:2])]
        value = listed if value is _NOTHING or value in ([], {}) else [*listed, value]
    if not inner:
        return value
    if value is not _NOTHING and value not in ([], {}):
        inner.setdefault("", value)
    return inner
