"""What revisions change, as lines of Markdown: one for each change.

Whatever agents wrote is code or escaped text in them: it cannot make a heading, a link or a tag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from fabric.core.contradiction import FINDINGS, ITEMS
from fabric.core.limits import VALUE_SHOWN_CHARS_MAX, listed
from fabric.core.synthesis import state as records
from fabric.core.synthesis.contributor import Contributor
from fabric.core.synthesis.partial import list_of, unescape
from fabric.core.synthesis.state import Standing, State
from fabric.view import markdown
from fabric.view.value import span
from fabric.wire import document
from fabric.wire.document import Contradiction, Finding, Source
from fabric.wire.stored import checked_reading

#: Characters of a name that a line about a change shows.
CHANGE_CHARS_MAX = 100


class Change(Protocol):
    """What is read of a revision here."""

    @property
    def number(self) -> int: ...
    @property
    def patch(self) -> list[dict[str, Any]]: ...
    @property
    def is_final(self) -> bool: ...


def joined_changes(revisions: Sequence[Change], key: str = "revisions") -> Iterator[str]:
    """Yield the lines of what several revisions, one after the other, change in all."""
    first, last = revisions[0], revisions[-1]
    span_ = str(last.number) if first is last else f"{first.number}–{last.number}"
    patch: dict[str, Mapping[str, Any]] = {}
    for revision in revisions:
        for operation in revision.patch:
            if operation["path"] == "":
                patch.clear()
            patch.pop(operation["path"], None)
            patch[operation["path"]] = operation
    return changes(span_, patch.values(), is_final=last.is_final, key=key)


def changes(
    number: int | str, patch: Iterable[Mapping[str, Any]], *, is_final: bool, key: str = "revisions"
) -> Iterator[str]:
    """Yield a line for each member of the document that a revision sets or removes.

    Agents are on one line. A part that is contradicted is told once, with the values that compete.
    Raises TamperedError, naming the key, if the patch sets anything that the fabric does not write.
    """
    ways = [(operation["path"].split("/"), operation.get("value")) for operation in patch]
    is_related = any(way == ["", records.RELATIONS] for way, _ in ways)
    # Others are the number, and how complete the synthesis is.
    members = [(way[1], unescape(way[2]), record) for way, record in ways if len(way) == 3]
    open_ = {name for section, name, one in members if section == records.CONTRADICTIONS and one}
    agents = []
    for section, name, record in members:
        with checked_reading(key, "stream"):
            change = _change(section, name, record)
        if section == records.AGENTS:
            agents.append(change)
        elif f"{section}:{name}" not in open_:
            yield f"- {number} · {change}"
    if is_related:
        yield f"- {number} · other findings are one, or paths have other names"
    if agents:
        yield f"- {number} · {'; '.join(agents)}"
    if is_final:
        yield f"- {number} · **final**"


def _change(section: str, name: str, record: Any) -> str:
    if section == records.CONTRADICTIONS:
        if record is None:
            return f"contradiction over {_changed(name)}: **closed**"
        rivals = sides(document.contradiction(name, record), _short, markdown.text)
        return f"contradiction over {_changed(name)}: **open**, {rivals}"
    if record is None:
        return f"{section} {_changed(name)}: gone"
    if section == records.AGENTS:
        agent = msgspec.convert(record, Contributor)
        done = "" if agent.has_ended else f", {agent.percent:g} %"
        return f"{markdown.text(name)} is {agent.status.value}{done}"
    if section == records.REFINED:
        return f"refined by {markdown.text(name)}: {_short(record['value'])}"
    state = State(record["state"])
    if section == ITEMS:
        place, shown = list_of(name), _short(record.get("value"))
        return f"item of {_changed(place)}: {shown}, {state.value}{_holders(record)}"
    word = state.value.replace("_", " ")
    if state in (State.BY_SOURCE, State.FAILED):
        return f"{section} {_changed(name)}: {word}{_holders(record, with_values=True)}"
    if section == FINDINGS:
        found = document.finding(name, record)
        severity = f"**{found.fields['severity']}** " if "severity" in found.fields else ""
        words = said(found)
        is_text = isinstance(words, str) and found.value is None
        told = markdown.prose(_cut(words)) if is_text else _short(words)
        shown = f"{severity}{told}, " if "value" in record else ""
        return f"{section} {_changed(name)}: {shown}{word}{_holders(record)}"
    shown = f"{_short(record['value'])}, " if "value" in record else ""
    return f"{section} {_changed(name)}: {shown}{word}{_holders(record)}"


def _holders(record: Mapping[str, Any], *, with_values: bool = False) -> str:
    """Name the agents whose statements hold, with their values where each stands for itself."""
    shown = [
        markdown.text(one.agent) + (f" {_short(one.value)}" if with_values else "")
        for one in holding(document.sources(record))
    ]
    return f" · {listed(shown)}" if shown else ""


def _changed(name: str) -> str:
    # A blank name makes no code span.
    return markdown.code(markdown.cut(name, CHANGE_CHARS_MAX)) or _short(name)


def _cut(words: str) -> str:
    return markdown.cut(" ".join(words.split()), VALUE_SHOWN_CHARS_MAX)


_short = partial(span, chars_max=VALUE_SHOWN_CHARS_MAX)


def sides(one: Contradiction, value: Callable[[Any], str], name: Callable[[str], str]) -> str:
    """Return the values that compete, each with its agents."""
    return " or ".join(
        f"{value(claims[0].value)} ({listed([name(claim.agent) for claim in claims])})"
        for claims in one.values
    )


def holding(statements: Iterable[Source]) -> list[Source]:
    return [one for one in statements if one.standing is Standing.HOLDS]


def said(finding: Finding) -> Any:
    """Return what a finding says: its value, or the words of a typed one."""
    fields = finding.fields
    if finding.value is not None or not fields:
        return finding.value
    return fields.get("message") or fields.get("title") or fields.get("rule") or finding.value
