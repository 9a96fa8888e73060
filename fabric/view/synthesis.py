"""A synthesis as a program reads it and as a person does: typed views, a summary, a report.

Reports and changes are Markdown. Whatever agents wrote is code or escaped text in them: it cannot
make a heading, a link or a tag.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial, wraps
from typing import Any, TypeVar

import msgspec

from fabric.core.contradiction import ITEMS
from fabric.core.limits import NAMES_SHOWN_MAX, VALUE_SHOWN_CHARS_MAX, listed
from fabric.core.synthesis import state as records
from fabric.core.synthesis.partial import list_of, unescape
from fabric.core.synthesis.state import Complete, Contributor, Standing, State
from fabric.errors import TamperedError
from fabric.view import markdown
from fabric.view.text import counted, plain, rfc3339
from fabric.wire import document
from fabric.wire.document import Contradiction, Finding, Refinement, Source
from fabric.wire.stored import checked_reading, shortened

T = TypeVar("T")

#: Characters of a value or of evidence that a line of a report shows; `--json` has all of it.
REPORT_CHARS_MAX = 200

#: Characters of a name that a line about a change shows.
CHANGE_CHARS_MAX = 100

#: Findings that a summary shows; the report has all of them.
SUMMARY_LINES_MAX = 20

#: How a report marks statements that no longer hold.
_MARKS = {
    Standing.SUPERSEDED: "superseded",
    Standing.REJECTED: "rejected",
    Standing.REPLACED: "replaced since",
    Standing.WITHDRAWN: "withdrawn",
    Standing.STALE: "not confirmed after a restart",
}

_encode = msgspec.json.Encoder().encode


def _view(make: Callable[[Synthesis], T]) -> cached_property[T]:
    """Make a view once, when it is first used. Reading it can raise TamperedError."""

    @wraps(make)
    def checked(synthesis: Synthesis) -> T:
        with checked_reading(synthesis.key, "synthesis"):
            return make(synthesis)

    return cached_property(checked)


class Synthesis:
    """A synthesis at one revision: `print` shows a summary, a notebook the whole report.

    `document` is the official document as the patches make it; the other attributes are views of
    it, made when first used. `key` is the key it was read from: a view raises TamperedError,
    naming the key, if somebody else wrote there.
    """

    def __init__(self, document: dict[str, Any], key: str = "synthesis") -> None:
        self.document = document
        self.key = key

    def __str__(self) -> str:
        return "\n".join(_or_error(lambda: summary(self)))

    def __repr__(self) -> str:
        return f"<{' '.join(_or_error(lambda: [_named(self)]))}>"

    def _repr_markdown_(self) -> str:
        """Return the report: a notebook shows it for a cell that ends with a synthesis."""
        return "\n".join(_or_error(lambda: report(self, self.session)))

    @property
    def session(self) -> str:
        """The session's name; "" while there is no revision."""
        return str(self.document.get("session", ""))

    @property
    def revision(self) -> int:
        """The revision's number; 0 while there is none."""
        with checked_reading(self.key, "synthesis"):
            return int(self.document.get("revision", 0))

    @_view
    def complete(self) -> Complete:
        """How complete it is: how many agents are known, have reported, have ended; percent."""
        return msgspec.convert(self.document.get("complete", {}), Complete)

    @property
    def is_final(self) -> bool:
        """Whether all known agents have ended, and all their results are in it."""
        return self.complete.final

    @_view
    def agents(self) -> dict[str, Contributor]:
        """What is known of each agent, by name."""
        return msgspec.convert(self._section("agents"), dict[str, Contributor])

    @_view
    def findings(self) -> dict[str, Finding]:
        """All findings by key, those too that no longer hold."""
        return {key: document.finding(key, part) for key, part in self._section("findings").items()}

    @_view
    def contradictions(self) -> dict[str, Contradiction]:
        """The open contradictions by part, such as `findings:port`."""
        found = self._section("contradictions").items()
        return {part: document.contradiction(part, record) for part, record in found}

    @_view
    def plain(self) -> Any:
        """The plain document, merged: everything agents gave besides findings."""
        return document.nested(self._section("document"), self._section("items"))

    @_view
    def refined(self) -> dict[str, Refinement]:
        """What refiners have made of it, by refiner."""
        return msgspec.convert(self._section("refined"), dict[str, Refinement])

    def _section(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.document.get(name, {})
        return dict(sorted(found.items()))


# A summary: a few lines of plain text.


def _or_error(make: Callable[[], list[str]]) -> list[str]:
    """Return lines; the error in their place if a key was tampered with, so that `print` works."""
    try:
        return make()
    except TamperedError as error:
        return [str(error)]


def _named(synthesis: Synthesis) -> str:
    state = "final" if synthesis.is_final else "not final"
    return f"Synthesis of {synthesis.session!r}: revision {synthesis.revision}, {state}"


def progress(synthesis: Synthesis) -> str:
    """Return one line that says how complete a synthesis is."""
    if not synthesis.revision:
        return "There is no revision yet: no agent has started, or no synthesizer is running."
    known = synthesis.complete
    state = "final" if known.final else "not final yet"
    return (
        f"Revision {synthesis.revision}, {state}: {known.reported} of "
        f"{counted(known.agents, 'agent')} reported, {known.ended} ended, {known.percent:g} %, "
        f"{counted(known.findings, 'finding')}, "
        f"{counted(known.contradictions, 'contradiction')} open."
    )


def summary(synthesis: Synthesis) -> list[str]:
    """Return its progress, open contradictions, then findings, in short. Raises TamperedError."""
    with checked_reading(synthesis.key, "synthesis"):
        lines = [
            f"  contradiction over {_line(one.part)}: {_sides(one, _json, plain)}"
            for one in synthesis.contradictions.values()
        ]
        for found in synthesis.findings.values():
            if found.state in (State.AGREED, State.DECIDED):
                by = listed([plain(one.agent) for one in _holding(found.sources)]) or found.state
                lines.append(f"  {_line(found.key)}: {_json(found.value)} ({by})")
    of = f"Synthesis of {plain(synthesis.session)}. " if synthesis.session else ""
    if (more := len(lines) - SUMMARY_LINES_MAX) > 0:
        lines[SUMMARY_LINES_MAX:] = [f"  and {more} more"]
    return [of + progress(synthesis), *lines]


def _sides(one: Contradiction, value: Callable[[Any], str], name: Callable[[str], str]) -> str:
    """Return the values that compete, each with its agents."""
    return " or ".join(
        f"{value(claims[0].value)} ({listed([name(claim.agent) for claim in claims])})"
        for claims in one.values
    )


def _holding(statements: Iterable[Source]) -> list[Source]:
    return [one for one in statements if one.standing is Standing.HOLDS]


def _line(name: str) -> str:
    return shortened(plain(name), CHANGE_CHARS_MAX)


def _json(value: Any) -> str:
    return shortened(plain(_encode(value).decode()), VALUE_SHOWN_CHARS_MAX)


# The report: Markdown, open contradictions first.


def report(synthesis: Synthesis, session: str, note: str = "") -> list[str]:
    """Return the report on a session's synthesis, as lines of Markdown. Raises TamperedError.

    `note` is Markdown that follows its first sentence.
    """
    with checked_reading(synthesis.key, "synthesis"):
        lines = [f"# Synthesis of {markdown.text(session)}", "", progress(synthesis)]
        lines += ["", note] if note else []
        if not synthesis.revision:
            return lines
        if synthesis.contradictions:
            lines += ["", "## Open contradictions"]
            for one in synthesis.contradictions.values():
                lines += ["", *contradiction(one, session)]
        if synthesis.findings:
            lines += ["", "## Findings", ""]
            for found in synthesis.findings.values():
                lines += _finding(found)
        if synthesis.plain:
            lines += ["", "## Document", "", *_members(synthesis.plain, "")]
        for name, refinement in synthesis.refined.items():
            lines += ["", *_refined(name, refinement)]
        if synthesis.agents:
            lines += ["", "## Agents", ""]
            lines += [_agent(name, agent) for name, agent in synthesis.agents.items()]
        return lines


def contradiction(one: Contradiction, session: str) -> list[str]:
    """Return an open contradiction as lines of Markdown, with the command that decides it."""
    sides = [
        f"- {_value(claims[0].value)}: {_names(claims)}{_evidence(claims)}" for claims in one.values
    ]
    words = shlex.join(["fabric", "decide", "-s", session, one.question])
    choices = " | ".join(shlex.quote(name) for name in one.options[:NAMES_SHOWN_MAX])
    decide = f"To decide: {markdown.code(f'{words} {choices}')}"
    return [f"### {_member(one.part)}", "", *sides, "", decide]


def _finding(finding: Finding) -> list[str]:
    holding = _holding(finding.sources)
    key, since = _member(finding.key), rfc3339(finding.first_ms)
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
    if (verdict := finding.verdict) is not None:
        chosen = f"decided for {_name(verdict.decision)} by {_name(verdict.by)}"
        lines.append(f"  - {chosen} · {rfc3339(verdict.ms)}")
    for one in finding.sources:
        if one.standing is not Standing.HOLDS:
            shown = "" if one.value is None else f"{_value(one.value)} "
            source = f"{shown}of {_name(one.agent)} · {rfc3339(one.ms)}"
            lines.append(f"  - {_MARKS[one.standing]}: {source}")
    return lines


def _members(value: Any, indent: str) -> Iterator[str]:
    """Yield a document's lines: one for each member, and what lies in it beneath."""
    if isinstance(value, Mapping):
        members = [(f"{_member(name)}:", one) for name, one in value.items()]
    else:
        members = [("", one) for one in value]
    for name, one in members:
        if isinstance(one, Mapping | list) and one:
            yield f"{indent}- {name}".rstrip()
            yield from _members(one, indent + "  ")
        else:
            yield f"{indent}- {name} {_value(one)}" if name else f"{indent}- {_value(one)}"


def _refined(name: str, refinement: Refinement) -> list[str]:
    value = refinement.value
    text = value if isinstance(value, str) else msgspec.json.format(_encode(value)).decode()
    made = f"Made of revision {refinement.revision} · {rfc3339(refinement.ms)}"
    return [f"## Refined: {markdown.text(name)}", "", made, "", *markdown.block(text.split("\n"))]


def _agent(name: str, agent: Contributor) -> str:
    parts = [f"- {_name(name)}: {agent.status.value}"]
    if not agent.has_ended:
        parts.append(f"{agent.percent:g} %")
    if agent.incarnation > 1:
        parts.append(f"incarnation {agent.incarnation}")
    parts.append(f"first result {rfc3339(agent.reported_ms)}" if agent.reported else "no result")
    if agent.error:
        parts.append(_name(agent.error))
    return " · ".join(parts)


def _names(claims: Sequence[Source]) -> str:
    return listed(
        [
            _name(one.agent) + ("" if one.confidence is None else f" ({one.confidence:.0%} sure)")
            for one in claims
        ]
    )


def _evidence(claims: Sequence[Source]) -> str:
    shown = dict.fromkeys(_value(one.evidence) for one in claims if one.evidence is not None)
    return f" · evidence: {', '.join(list(shown)[:NAMES_SHOWN_MAX])}" if shown else ""


def _name(name: str) -> str:
    return markdown.text(shortened(name, REPORT_CHARS_MAX))


def _member(name: str, chars_max: int = REPORT_CHARS_MAX) -> str:
    # A blank name makes no code span.
    return markdown.code(shortened(name, chars_max)) or _value(name, chars_max)


def _value(value: Any, chars_max: int = REPORT_CHARS_MAX) -> str:
    return markdown.code(shortened(_encode(value).decode(), chars_max))


# What a revision changes: a line of Markdown for each change.


def changes(
    number: int, patch: Iterable[Mapping[str, Any]], *, is_final: bool, key: str = "revisions"
) -> Iterator[str]:
    """Yield a line for each member of the document that a revision sets or removes.

    Raises TamperedError, naming the key, if the patch sets anything that the fabric does not write.
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
    if section == records.CONTRADICTIONS:
        if record is None:
            return f"contradiction over {_changed(name)}: **closed**"
        sides = _sides(document.contradiction(name, record), _short, markdown.text)
        return f"contradiction over {_changed(name)}: **open**, {sides}"
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
    shown = f"{_short(record['value'])}, " if "value" in record else ""
    return f"{section} {_changed(name)}: {shown}{word}{_holders(record)}"


def _holders(record: Mapping[str, Any], *, with_values: bool = False) -> str:
    """Name the agents whose statements hold, with their values where each stands for itself."""
    shown = [
        markdown.text(one.agent) + (f" {_short(one.value)}" if with_values else "")
        for one in _holding(document.sources(record))
    ]
    return f" · {listed(shown)}" if shown else ""


_changed = partial(_member, chars_max=CHANGE_CHARS_MAX)
_short = partial(_value, chars_max=VALUE_SHOWN_CHARS_MAX)
