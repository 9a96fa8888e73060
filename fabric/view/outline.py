"""A synthesis as Markdown that a person reads: what is open comes first, then what was found.

Whatever agents wrote is code or escaped text here: nothing of it is a heading, a link or a tag.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from fabric.core.limits import NAMES_SHOWN_MAX
from fabric.core.synthesis.part import Standing, State
from fabric.core.synthesis.state import Contributor
from fabric.view import markdown
from fabric.wire.document import Contradiction, Finding, Refinement, Source, Synthesis
from fabric.wire.printable import shortened
from fabric.wire.stored import checked_reading

#: Characters of a value or of evidence that a line shows; `--json` has all of it.
SHOWN_CHARS_MAX = 200

#: How statements that no longer hold are marked.
_MARKS = {
    Standing.SUPERSEDED: "superseded",
    Standing.REJECTED: "rejected",
    Standing.REPLACED: "replaced since",
    Standing.WITHDRAWN: "withdrawn",
    Standing.STALE: "not confirmed after a restart",
}

_encode = msgspec.json.Encoder().encode


def outline(synthesis: Synthesis, session: str) -> list[str]:
    """Return the lines of the report on a synthesis. Raises TamperedError, as its views do."""
    with checked_reading(synthesis.key, "synthesis"):
        return _outline(synthesis, session)


def _outline(synthesis: Synthesis, session: str) -> list[str]:
    lines = [f"# Synthesis of {markdown.text(session)}", "", progress(synthesis)]
    if not synthesis.revision:
        return lines
    if synthesis.contradictions:
        lines += ["", "## Open contradictions"]
        for one in synthesis.contradictions.values():
            lines += ["", *_contradiction(one, session)]
    if synthesis.findings:
        lines += ["", "## Findings", ""]
        for finding in synthesis.findings.values():
            lines += _finding(finding)
    if synthesis.plain:
        lines += ["", "## Document", "", *_nested(synthesis.plain, "")]
    for name, refinement in synthesis.refined.items():
        lines += ["", *_refined(name, refinement)]
    if synthesis.agents:
        lines += ["", "## Agents", ""]
        lines += [_agent(name, one) for name, one in synthesis.agents.items()]
    return lines


def progress(synthesis: Synthesis) -> str:
    """Say in a line how complete a synthesis is."""
    if not synthesis.revision:
        return "There is no revision yet: no agent has started, or no synthesizer is at work."
    known = synthesis.complete
    parts = [
        f"{known.reported} of {_count(known.agents, 'agent')} reported",
        f"{known.ended} ended",
        f"{known.percent:g} %",
        _count(known.findings, "finding"),
        f"{_count(known.contradictions, 'contradiction')} open",
    ]
    state = "final" if known.final else "not final yet"
    return f"Revision {synthesis.revision}, {state}: {', '.join(parts)}."


def _contradiction(one: Contradiction, session: str) -> list[str]:
    lines = [f"### {_member(one.part)}", ""]
    for claims in one.values:
        lines.append(f"- {_value(claims[0].value)}: {_names(claims)}{_evidence(claims)}")
    words = shlex.join(["fabric", "decide", "-s", session, one.question])
    choices = " | ".join(shlex.quote(name) for name in one.options[:NAMES_SHOWN_MAX])
    return [*lines, "", f"To decide: {markdown.code(f'{words} {choices}')}"]


def _finding(finding: Finding) -> list[str]:
    said = [one for one in finding.sources if one.is_said]
    holding = [one for one in said if one.standing is Standing.HOLDS]
    key, since = _member(finding.key), when(finding.first_ms)
    if finding.state is State.CONTRADICTED:
        lines = [f"- {key}: **contradicted**, see above · {since}"]
    elif finding.state is State.SUPERSEDED:
        by = [f"{_member(edge.key)} of {_name(edge.agent)}" for edge in finding.superseded_by]
        lines = [f"- ~~{key}~~ superseded by {', '.join(dict.fromkeys(by))} · {since}"]
    elif finding.state is State.WITHDRAWN:
        lines = [f"- ~~{key}~~ withdrawn · {since}"]
    else:
        shown = _value(finding.value) if finding.value is not None or holding else "decided"
        lines = [f"- {key}: {shown} · {_names(holding)} · {since}{_evidence(holding)}"]
    if finding.ruling is not None:
        ruling = finding.ruling
        chosen = f"decided for {_name(ruling.decision)} by {_name(ruling.by)}"
        lines.append(f"  - {chosen} · {when(ruling.ms)}")
    for one in finding.sources:
        if one.standing is not Standing.HOLDS:
            shown = "" if one.value is None else f"{_value(one.value)} "
            mark = _MARKS[one.standing]
            lines.append(f"  - {mark}: {shown}of {_name(one.agent)} · {when(one.ms)}")
    return lines


def _nested(value: Any, indent: str) -> Iterator[str]:
    """Yield a document's lines: a name each, what lies in it beneath."""
    if isinstance(value, Mapping):
        members = [(f"{_member(name)}:", one) for name, one in value.items()]
    else:
        members = [("", one) for one in value]
    for name, one in members:
        if isinstance(one, Mapping | list) and one:
            yield f"{indent}- {name}".rstrip()
            yield from _nested(one, indent + "  ")
        else:
            yield f"{indent}- {name} {_value(one)}" if name else f"{indent}- {_value(one)}"


def _member(name: str) -> str:
    # A blank name makes no code span.
    return markdown.code(_cut(name)) or markdown.code(_encode(name).decode())


def _refined(name: str, refinement: Refinement) -> list[str]:
    value = refinement.value
    text = value if isinstance(value, str) else msgspec.json.format(_encode(value)).decode()
    made = f"Made of revision {refinement.revision} · {when(refinement.ms)}"
    return [f"## Refined: {markdown.text(name)}", "", made, "", *markdown.block(text.split("\n"))]


def _agent(name: str, agent: Contributor) -> str:
    parts = [f"- {_name(name)}: {agent.status.value}"]
    if not agent.has_ended:
        parts.append(f"{agent.percent:g} %")
    if agent.incarnation > 1:
        parts.append(f"incarnation {agent.incarnation}")
    first = f"first result {when(agent.reported_ms)}" if agent.reported else "no result"
    parts.append(first)
    if agent.error:
        parts.append(markdown.text(_cut(agent.error)))
    return " · ".join(parts)


def _names(claims: Sequence[Source]) -> str:
    shown = [
        _name(one.agent) + (f" ({one.confidence:.0%} sure)" if one.confidence is not None else "")
        for one in claims[:NAMES_SHOWN_MAX]
    ]
    more = len(claims) - NAMES_SHOWN_MAX
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _evidence(claims: Sequence[Source]) -> str:
    shown = dict.fromkeys(_value(one.evidence) for one in claims if one.evidence is not None)
    return f" · evidence: {', '.join(list(shown)[:NAMES_SHOWN_MAX])}" if shown else ""


def _name(name: str) -> str:
    return markdown.text(_cut(name))


def _value(value: Any) -> str:
    return markdown.code(_cut(_encode(value).decode()))


def _cut(text: str) -> str:
    return shortened(text, SHOWN_CHARS_MAX)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def when(ms: int) -> str:
    """Return a time as RFC 3339, to the second, in UTC."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):  # a time that somebody has made up
        return str(ms)
