"""The findings that a report is about: filtered, in the order that a reader expects, grouped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from fabric.core.limits import listed
from fabric.core.synthesis.state import Standing, State
from fabric.core.synthesis.typed import RANK
from fabric.view.document import Document
from fabric.view.value import flat
from fabric.wire import document as wire
from fabric.wire.document import Finding, Source

#: A finding counts while agents say so, in agreement or not.
_SHOWN = frozenset({State.AGREED, State.CONTRADICTED, State.DECIDED})

#: No agent stands by such a finding any more.
GONE = frozenset({State.SUPERSEDED, State.WITHDRAWN})

#: The severities that a filter may name, the worst first.
LEVELS = tuple(RANK)

#: Fields in which a statement that lost may differ from what holds, besides its value.
_TOLD = ("severity", "rule", "title")

#: The severity of a finding that names none.
UNRATED = "info"


class Group(StrEnum):
    """What the findings of a report are grouped by."""

    FILE = "file"
    SEVERITY = "severity"
    AGENT = "agent"


class Item(NamedTuple):
    """A finding as reports show it. Texts may be empty; `line` is 0 where there is none.

    `text` is the message, or else the title, the value or the key; `others` are the messages of
    agents that say it in other words. Without `is_rated` no agent has named a severity.
    """

    finding: Finding
    path: str
    line: int
    end_line: int
    rule: str
    severity: str
    title: str
    text: str
    others: dict[str, list[str]]
    suggestion: str
    url: str
    agents: tuple[str, ...]
    confidence: float | None
    is_rated: bool
    #: All agents of the session.
    known: int
    #: The statements that hold.
    claims: tuple[Source, ...]
    #: What has decided between different values, and what lost: a line each.
    outcome: tuple[str, ...]

    @property
    def told(self) -> str:
        """The text, with what was decided below it: for readers that show nothing else."""
        return "\n".join([self.text, *self.outcome])

    @property
    def place(self) -> str:
        """The path and the line, or the key where there is no path."""
        return f"{self.path}:{self.line}" if self.line else self.path or self.finding.key


def select(
    synthesis: Document,
    *,
    severity: str = UNRATED,
    confidence: float = 0,
    before: Mapping[str, Any] | None = None,
    states: frozenset[State] = _SHOWN,
) -> list[Item]:
    """Return the findings that hold, at least this severe and sure, by path, line and key.

    `before` is the document of an earlier revision: only findings that have changed since count. A
    finding is as sure as its surest agent; one of which nobody says how sure counts as sure. What
    several agents have found at one place is one item (`same.py`).
    """
    known = wire.findings(before or {})
    held = {key: one for key, one in synthesis.findings.items() if one.state in states}
    is_past = states is GONE
    groups = {} if is_past else synthesis.groups
    group_of = {key: name for name, keys in groups.items() for key in keys}
    joined: dict[str, list[str]] = {}
    for key in held:
        joined.setdefault(group_of.get(key, key), []).append(key)
    agents = synthesis.complete.agents
    found = [
        _joined([_item(held[key], agents) for key in keys])
        for keys in joined.values()
        if before is None or any(held[key] != known.get(key) for key in keys)
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


def _joined(items: list[Item]) -> Item:
    """Return findings of one thing as one, under the place of the least key.

    The severity is the worst; the text is that of the surest, and the others stand beside it.
    """
    if len(items) == 1:
        return items[0]
    items = sorted(items, key=lambda one: one.finding.key)
    sure = [one.confidence for one in items if one.confidence is not None]
    first = max(items, key=lambda one: one.confidence or 0)
    others: dict[str, list[str]] = {}
    for one in items:
        for text, agents in ((one.text, list(one.agents)), *one.others.items()):
            if text != first.text:
                others.setdefault(text, []).extend(agents)
    return items[0]._replace(
        severity=min((one.severity for one in items), key=RANK.__getitem__),
        title=first.title,
        text=first.text,
        others=others,
        suggestion=first.suggestion
        or next((one.suggestion for one in items if one.suggestion), ""),
        url=next((one.url for one in (first, *items) if one.url), ""),
        agents=tuple(sorted({agent for one in items for agent in one.agents})),
        confidence=max(sure, default=None),
        is_rated=any(one.is_rated for one in items),
        claims=tuple({said.agent: said for one in items[::-1] for said in one.claims}.values())[
            ::-1
        ],
        outcome=tuple(line for one in items for line in one.outcome),
    )


def _outcome(finding: Finding) -> Iterator[str]:
    """Yield what a person or a rule has decided on a finding, with the values that lost."""
    lost: dict[str, list[str]] = {}
    for one in finding.sources:
        if one.standing in (Standing.REJECTED, Standing.OVERRULED):
            said = [] if one.value is None else [flat(one.value)]
            own, kept = one.fields, finding.fields
            said += [
                f"{name} {own[name]}"
                for name in _TOLD
                if name in own and own[name] != kept.get(name)
            ]
            lost.setdefault(", ".join(said), []).append(one.agent)
    shown = "; ".join(f"{said} of {listed(agents)}".lstrip() for said, agents in lost.items())
    what = f"; not {shown}" if shown else ""
    if finding.verdict is not None and finding.state is State.DECIDED:
        yield f"Decided for {finding.verdict.decision} by {finding.verdict.by}{what}"
    elif finding.policy:
        yield f"Decided by the rule {finding.policy}{what}"


def _item(finding: Finding, known: int) -> Item:
    fields = finding.fields
    holding = [one for one in finding.sources if one.standing is Standing.HOLDS]
    sure = [one.confidence for one in holding if one.confidence is not None]
    title = str(fields.get("title") or "")
    text = str(fields.get("message") or title)
    if not text and finding.value is not None:
        text = finding.value if isinstance(finding.value, str) else flat(finding.value)
    if not text and finding.state is State.CONTRADICTED:
        rivals: dict[str, list[str]] = {}
        for one in holding:
            rivals.setdefault(flat(one.value), []).append(one.agent)
        text = " or ".join(f"{value} ({listed(agents)})" for value, agents in rivals.items())
    others: dict[str, list[str]] = {}
    for one in holding:
        message = str(one.fields.get("message") or one.fields.get("title") or text)
        if finding.state is not State.CONTRADICTED and one.value not in (None, finding.value):
            message = one.value if isinstance(one.value, str) else flat(one.value)
        if message != text:
            others.setdefault(message, []).append(one.agent)
    line = int(fields.get("line", 0))
    return Item(
        finding,
        str(fields.get("path", "")),
        line,
        max(line, int(fields.get("end_line", line))),
        str(fields.get("rule", "")),
        str(fields.get("severity", UNRATED)),
        title,
        text or finding.key,
        others,
        str(fields.get("suggestion", "")),
        str(fields.get("url", "")),
        tuple(sorted({one.agent for one in holding})),
        max(sure, default=None),
        "severity" in fields,
        known,
        tuple(holding),
        tuple(_outcome(finding)),
    )
