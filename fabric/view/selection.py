"""The findings that a report is about: filtered, in the order that a reader expects, grouped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from fabric.core.synthesis.state import Standing, State
from fabric.core.synthesis.typed import RANK
from fabric.view.synthesis import Synthesis
from fabric.wire.document import Finding

#: A finding counts while agents say so, in agreement or not.
_SHOWN = frozenset({State.AGREED, State.CONTRADICTED, State.DECIDED})

#: The severities that a filter may name, the worst first.
LEVELS = tuple(RANK)

#: The severity of a finding that names none.
UNRATED = "info"


class Group(StrEnum):
    """What the findings of a report are grouped by."""

    FILE = "file"
    SEVERITY = "severity"
    AGENT = "agent"


class Item(NamedTuple):
    """A finding as reports show it. Texts may be empty; `line` is 0 where there is none."""

    finding: Finding
    path: str
    line: int
    end_line: int
    rule: str
    severity: str
    text: str
    suggestion: str
    url: str
    agents: tuple[str, ...]
    confidence: float | None

    @property
    def place(self) -> str:
        """The path and the line, or the key where there is no path."""
        return f"{self.path}:{self.line}" if self.line else self.path or self.finding.key


def select(
    synthesis: Synthesis,
    *,
    severity: str = UNRATED,
    confidence: float = 0,
    before: Mapping[str, Any] | None = None,
) -> list[Item]:
    """Return the findings that hold, at least this severe and sure, by path, line and key.

    `before` is the document of an earlier revision: only findings that have changed since count. A
    finding is as sure as its surest agent; one of which nobody says how sure counts as sure.
    """
    records = synthesis.document.get("findings", {})
    known = (before or {}).get("findings", {})
    found = [
        _item(one)
        for key, one in synthesis.findings.items()
        if one.state in _SHOWN and (before is None or records[key] != known.get(key))
    ]
    found = [
        one
        for one in found
        if RANK[one.severity] <= RANK[severity]
        and (one.confidence is None or one.confidence >= confidence)
    ]
    return sorted(found, key=lambda one: (natural(one.path), one.line, natural(one.finding.key)))


def grouped(items: Iterable[Item], by: Group) -> dict[str, list[Item]]:
    """Return the items by group, the worst severity first, else in natural order."""
    found: dict[str, list[Item]] = {}
    for one in items:
        names = {Group.FILE: (one.path,), Group.SEVERITY: (one.severity,), Group.AGENT: one.agents}
        for name in names[by] or ("",):
            found.setdefault(name, []).append(one)
    if by is Group.SEVERITY:
        return dict(sorted(found.items(), key=lambda one: RANK[one[0]]))
    return dict(sorted(found.items(), key=lambda one: natural(one[0])))


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts numbers inside a text by their size: a2 before a10."""
    # Digits of other scripts, and numbers longer than Python reads at once, sort as texts.
    parts = re.split(r"([0-9]{1,18})", text)
    return [
        (0, int(part), "") if number % 2 else (1, 0, part)
        for number, part in enumerate(parts)
        if part
    ]


def _item(finding: Finding) -> Item:
    fields = finding.fields
    holding = [one for one in finding.sources if one.standing is Standing.HOLDS]
    sure = [one.confidence for one in holding if one.confidence is not None]
    text = str(fields.get("message") or fields.get("title") or "")
    if not text and isinstance(finding.value, str):
        text = finding.value
    line = int(fields.get("line", 0))
    return Item(
        finding,
        str(fields.get("path", "")),
        line,
        max(line, int(fields.get("end_line", line))),
        str(fields.get("rule", "")),
        str(fields.get("severity", UNRATED)),
        text or finding.key,
        str(fields.get("suggestion", "")),
        str(fields.get("url", "")),
        tuple(sorted({one.agent for one in holding})),
        max(sure, default=None),
    )
