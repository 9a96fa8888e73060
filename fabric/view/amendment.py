"""What a revision of a synthesis changes, a line of Markdown for each change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from fabric.core.contradiction import ITEMS
from fabric.core.limits import NAMES_SHOWN_MAX, VALUE_SHOWN_CHARS_MAX
from fabric.core.synthesis.part import Standing, State
from fabric.core.synthesis.partial import list_of, unescape
from fabric.core.synthesis.state import AGENTS, CONTRADICTIONS, REFINED, Contributor
from fabric.view import markdown
from fabric.wire.document import contradiction, sources
from fabric.wire.printable import shortened
from fabric.wire.stored import checked_reading

#: Characters of a name that a line shows.
SHOWN_CHARS_MAX = 100

_encode = msgspec.json.Encoder().encode


def amendments(
    number: int, patch: Iterable[Mapping[str, Any]], *, is_final: bool, key: str = "revisions"
) -> Iterator[str]:
    """Yield a line for each member of the document that a revision sets or takes away.

    Raises TamperedError, naming the key, when it sets what is not ours.
    """
    for operation in patch:
        _, *way = operation["path"].split("/")
        if len(way) == 2:  # else it is the number, or how complete the synthesis is
            section, name = way[0], unescape(way[1])
            with checked_reading(key, "stream"):
                change = _change(section, name, operation.get("value"))
            yield f"- {number} · {change}"
    if is_final:
        yield f"- {number} · **final**"


def _change(section: str, name: str, record: Any) -> str:
    if section == CONTRADICTIONS:
        return _contradiction(name, record)
    if record is None:
        return f"{section} {_named(name)}: gone"
    if section == AGENTS:
        agent = msgspec.convert(record, Contributor)
        done = "" if agent.has_ended else f", {agent.percent:g} %"
        return f"{markdown.text(name)} is {agent.status.value}{done}"
    if section == REFINED:
        return f"refined by {markdown.text(name)}: {_short(record['value'])}"
    state = State(record["state"])
    if section == ITEMS:
        place, shown = list_of(name), _short(record.get("value"))
        return f"item of {_named(place)}: {shown}, {state.value}{_by(record)}"
    word = state.value.replace("_", " ")
    if state in (State.BY_SOURCE, State.FAILED):
        return f"{section} {_named(name)}: {word}{_by(record, with_values=True)}"
    shown = f"{_short(record['value'])}, " if "value" in record else ""
    return f"{section} {_named(name)}: {shown}{word}{_by(record)}"


def _contradiction(part: str, record: Any) -> str:
    if record is None:
        return f"contradiction over {_named(part)}: **closed**"
    sides = [
        f"{_short(claims[0].value)} ({_listed([markdown.text(one.agent) for one in claims])})"
        for claims in contradiction(part, record).values
    ]
    return f"contradiction over {_named(part)}: **open**, {' or '.join(sides)}"


def _by(record: Mapping[str, Any], *, with_values: bool = False) -> str:
    """Say whose word holds, and what that is where each stands for itself."""
    shown = [
        markdown.text(one.agent) + (f" {_short(one.value)}" if with_values else "")
        for one in sources(record)
        if one.standing is Standing.HOLDS
    ]
    return f" · {_listed(shown)}" if shown else ""


def _listed(shown: list[str]) -> str:
    more = len(shown) - NAMES_SHOWN_MAX
    return ", ".join(shown[:NAMES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _named(name: str) -> str:
    # A blank name makes no code span.
    return markdown.code(shortened(name, SHOWN_CHARS_MAX)) or _short(name)


def _short(value: Any) -> str:
    return markdown.code(shortened(_encode(value).decode(), VALUE_SHOWN_CHARS_MAX))
