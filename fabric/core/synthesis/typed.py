"""Typed findings: what review, research and test tools say of a place, field by field.

Besides key, value, evidence and confidence, a finding has the fields of FIELDS. A field with
another name, or with a value that does not fit, is kept in `data`: nothing that an agent says is
lost. Without a `key` one follows from path, place and rule, so that agents that find the same thing
at the same place speak of one key. The fields of several agents are merged one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from fabric.core.contradiction import digest
from fabric.core.limits import NAME_CHARS_MAX
from fabric.core.resource_name import normalise
from fabric.core.synthesis.delta import is_number

#: Severities, the worst first, and what tools call them.
SEVERITIES: Final[Mapping[str, frozenset[str]]] = {
    "critical": frozenset({"critical", "fatal", "blocker", "crit", "emergency", "alert"}),
    "high": frozenset({"high", "error", "major", "severe", "err"}),
    "medium": frozenset({"medium", "warning", "moderate", "warn", "med"}),
    "low": frozenset({"low", "minor", "note", "notice", "style", "refactor", "convention"}),
    "info": frozenset({"info", "information", "informational", "hint", "none", "debug"}),
}
_SEVERITY_OF: Final = {word: name for name, words in SEVERITIES.items() for word in words}

#: The place of a severity in the order, the worst first.
RANK: Final = {name: rank for rank, name in enumerate(SEVERITIES)}

#: Largest number of a line.
LINE_MAX = 2**31 - 1

#: A key that names a place: the path of a file with a suffix, a line, and perhaps columns or lines
#: after it, then what is found there.
_PLACE = re.compile(
    r"(?P<path>[^\s:][^:]*\.[A-Za-z][A-Za-z0-9]{0,9}):(?P<line>[0-9]{1,9})"
    r"(?:[-:][0-9]{1,9})*(?::(?P<rule>.+))?"
)

_decode = msgspec.json.Decoder().decode


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else None


def _path(value: Any) -> Any:
    if not isinstance(value, str) or not value:
        return None
    return normalise(value if "://" in value else value.replace("\\", "/"))


def _line(value: Any) -> Any:
    if isinstance(value, str) and value.isdecimal() and len(value) <= len(str(LINE_MAX)):
        value = int(value)
    if not is_number(value) or value != int(value):
        return None
    return int(value) if 1 <= value <= LINE_MAX else None


def _severity(value: Any) -> Any:
    return _SEVERITY_OF.get(value.strip().lower()) if isinstance(value, str) else None


def _keys(value: Any) -> Any:
    keys = [value] if isinstance(value, str) else value
    is_list = isinstance(keys, list) and all(isinstance(key, str) and key for key in keys)
    return sorted(set(keys)) if is_list else None


def _map(value: Any) -> Any:
    return value if isinstance(value, dict) else None


#: Field → what reads it: its value in one spelling, or None if it does not fit.
FIELDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "path": _path,
    "line": _line,
    "end_line": _line,
    "rule": _text,
    "severity": _severity,
    "title": _text,
    "message": _text,
    "suggestion": _text,
    "url": _text,
    "source": _text,
    "same_as": _keys,
    "distinct_from": _keys,
    "data": _map,
}

#: Fields that name other findings: each agent's count.
LINKS: Final = frozenset({"same_as", "distinct_from"})

#: Where a finding's fields are kept that are none of those above.
DATA: Final = "data"


def read(members: Mapping[str, Raw]) -> dict[str, Any]:
    """Return the typed fields of a finding, given its members besides key, value and the like."""
    found: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, raw in members.items():
        value = _decode(raw)
        if value is None:
            continue
        reader = FIELDS.get(name)
        fitting = reader(value) if reader is not None else None
        if fitting is None:
            others[name] = value
        else:
            found[name] = fitting
    if others:
        found[DATA] = {**found.get(DATA, {}), **others}
    return found


def key_of(fields: Mapping[str, Any]) -> str:
    """Return the key that follows from a finding's fields: `src/a.py:42:sql-injection`.

    Without a rule, the title tells findings of one place apart, or a digest of the message. Returns
    "" if the fields say nothing of what the finding is about.
    """
    rule = fields.get("rule") or fields.get("title") or ""
    if not rule and fields.get("message"):
        rule = f"#{digest(Raw(fields['message'].encode()))}"
    if not rule and "path" not in fields:
        return ""
    parts = [fields.get("path", ""), str(fields.get("line", "")), rule]
    key = ":".join(part for part in parts if part)
    key = "".join(char if char.isprintable() else " " for char in key).strip()
    if len(key) > NAME_CHARS_MAX:
        mark = f"#{digest(Raw(key.encode()))}"
        key = key[: NAME_CHARS_MAX - len(mark)] + mark
    return key


def place_in(key: str) -> tuple[str, int, str] | None:
    """Return path, line and rule of a key such as `src/a.py:42:sql-injection`, else None."""
    match = _PLACE.fullmatch(key)
    if match is None:
        return None
    return normalise(match["path"]), int(match["line"]), match["rule"] or ""


def merge(said: Iterable[tuple[str, float, Mapping[str, Any]]]) -> dict[str, Any]:
    """Merge the fields that agents give: (agent, confidence, fields) of each.

    The severity is the worst. Each other field is that of the surest agent that gives it; of two as
    sure, of the first by name. `data` is merged the same way, member by member.
    """
    merged: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for _, _, fields in sorted(said, key=lambda one: (-one[1], one[0])):
        for name, value in fields.items():
            if name == DATA:
                data = {**value, **data}
            elif name == "severity" and name in merged:
                merged[name] = min(merged[name], value, key=RANK.__getitem__)
            elif name in LINKS and name in merged:
                merged[name] = sorted({*merged[name], *value})
            else:
                merged.setdefault(name, value)
    if data:
        merged[DATA] = data
    return merged


def confidence_of(value: float | msgspec.UnsetType) -> float:
    """Return how sure an agent is; one that does not say counts as not sure."""
    return 0.0 if value is UNSET else float(value)
