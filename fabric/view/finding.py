"""One finding as lines of Markdown: what is said, by which agents, and why it no longer holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from fabric.core.limits import NAMES_SHOWN_MAX, listed
from fabric.core.synthesis.state import Standing, State
from fabric.view import markdown
from fabric.view.selection import Item
from fabric.view.text import rfc3339
from fabric.view.value import LINE_CHARS_MAX, TEXT_CHARS_MAX, is_short, outline, span
from fabric.wire.document import Finding, Source

#: Messages shown that say the same in other words.
OTHERS_MAX = 5

#: Characters of evidence, or of a message in other words, that a line shows.
WORDS_CHARS_MAX = 1_000

#: Members of `data` that a report shows.
DATA_MAX = 10

#: Lines of a suggestion.
SUGGESTION_LINES_MAX = 40

#: How a report marks statements that no longer hold.
_MARKS = {
    Standing.SUPERSEDED: "superseded",
    Standing.REJECTED: "rejected",
    Standing.OVERRULED: "overruled",
    Standing.REPLACED: "replaced since",
    Standing.WITHDRAWN: "withdrawn",
    Standing.OMITTED: "left out of the whole result",
    Standing.STALE: "not confirmed after a restart",
}


def name_of(name: str) -> str:
    """Return a name, or an error's words, as text on one line."""
    return markdown.text(markdown.cut(" ".join(name.split()), LINE_CHARS_MAX))


def span_of(name: str) -> str:
    """Return a key or a place as code; a blank name makes no code span, so it is quoted."""
    return markdown.code(markdown.cut(name, LINE_CHARS_MAX)) or span(name)


def claimed(claims: Sequence[Source]) -> str:
    """Name the agents of statements, each with how sure it is."""
    return listed(
        [
            name_of(one.agent) + ("" if one.confidence is None else f" ({one.confidence:.0%} sure)")
            for one in claims
        ]
    )


def evidence(claims: Sequence[Source]) -> str:
    """Return the reasons that statements give, as the end of a line."""
    shown = dict.fromkeys(_reason(one.evidence) for one in claims if one.evidence is not None)
    return f" · evidence: {', '.join(list(shown)[:NAMES_SHOWN_MAX])}" if shown else ""


def _reason(value: object) -> str:
    # A reason is read, not copied: a text is no code.
    return (
        markdown.prose(_words(value)) if isinstance(value, str) and value.strip() else span(value)
    )


def _words(value: str) -> str:
    return markdown.cut(" ".join(value.split()), WORDS_CHARS_MAX)


def finding(one: Item, code: Sequence[str] = ()) -> list[str]:
    """Return a finding that holds as an item of a list, with the code that it is about."""
    lines = _beginning(one, one.claims)
    for message, agents in list(one.others.items())[:OTHERS_MAX]:
        lines.append(f"  - {name_of(listed(agents))}: {markdown.prose(_words(message))}")
    if (more_said := len(one.others) - OTHERS_MAX) > 0:
        lines.append(f"  - and {more_said} more say it in other words")
    lines += _data(one)
    lines += _history(one)
    if code:
        lines += ["", *_block(code, one.path)]
    if one.suggestion:
        shown = markdown.cut(one.suggestion, TEXT_CHARS_MAX).splitlines()
        rest = len(shown) - SUGGESTION_LINES_MAX
        more = [f"… {rest} more lines"] if rest > 0 else []
        block = _block([*shown[:SUGGESTION_LINES_MAX], *more], one.path)
        lines += ["", "  Suggestion:", "", *block]
    return lines


def _beginning(one: Item, claims: Sequence[Source]) -> list[str]:
    """Return the first lines of a finding: how severe, where, what, by which agents."""
    found = one.finding
    since = "" if found.fields else rfc3339(found.first_ms)
    by = " · ".join(filter(None, (claimed(claims), since))) + evidence(claims)
    head = [f"**{one.severity}**"] if one.is_rated else []
    if one.path:
        head += [span_of(one.place), *([span_of(one.rule)] if one.rule else [])]
    else:
        head += [span_of(found.key)]
    start = f"- {' '.join(head)}:"
    if found.state is State.CONTRADICTED:
        return [f"{start} **contradicted**, see above · {claimed(claims)}"]
    if not found.fields:
        if is_short(found.value):
            return [f"{start} {span(found.value)} · {by}"]
        return [f"{start} {by}", "", *outline(found.value, "  ")]
    said = markdown.paragraphs(markdown.cut(one.text, TEXT_CHARS_MAX)) or [span(one.text)]
    if one.title and one.title != one.text:
        said.insert(0, f"**{name_of(one.title)}**")
        said[0] += "" if said[1].startswith("`" * 3) else "\\"
    if found.value is not None and (one.title or found.fields.get("message")):
        by = f"{span(found.value)} · {by}"
    if len(one.agents) > 1:
        by += f" · {len(one.agents)} of {one.known} agents"
    if source := found.fields.get("source"):
        by += f" · {name_of(str(source))}"
    if one.url:
        by += f" · {markdown.code(markdown.cut(one.url, LINE_CHARS_MAX))}"
    if len(said) == 1:
        return [f"{start} {said[0]} · {by}"]
    first, *rest = said
    tail = ["", f"  {by}"]
    # A fence begins on a line of its own.
    head_lines = (
        [start, "", f"  {first}"] if not first or first.startswith("```") else [f"{start} {first}"]
    )
    return [*head_lines, *(f"  {line}".rstrip() for line in rest), *tail]


def _data(one: Item) -> Iterator[str]:
    """Yield what an agent said beside the fields that all findings have."""
    data = one.finding.fields.get("data", {})
    for name, value in list(data.items())[:DATA_MAX]:
        yield f"  - {span_of(name)}: {span(value)}"
    if (more := len(data) - DATA_MAX) > 0:
        yield f"  - and {more} more members"


def _block(lines: Sequence[str], path: str) -> list[str]:
    suffix = PurePosixPath(path).suffix.removeprefix(".")
    language = suffix if suffix.isalnum() and suffix.isascii() else ""
    return [f"  {line}".rstrip() for line in markdown.block(lines, language)]


def _history(one: Item, but: Sequence[Standing] = ()) -> Iterator[str]:
    """Yield the decision on a finding, and the statements of it that no longer hold."""
    found = one.finding
    if (verdict := found.verdict) is not None:
        chosen = f"decided for {name_of(verdict.decision)} by {name_of(verdict.by)}"
        yield f"  - {chosen} · {rfc3339(verdict.ms)}"
    if found.policy:
        yield f"  - decided by the rule {markdown.code(found.policy)}"
    for said in found.sources:
        if said.standing is not Standing.HOLDS and said.standing not in but:
            shown = "" if said.value is None else f"{span(said.value)} "
            reason = evidence([said]) if said.standing is Standing.WITHDRAWN else ""
            source = f"{shown}of {name_of(said.agent)} · {rfc3339(said.ms)}{reason}"
            yield f"  - {_MARKS.get(said.standing, said.standing.value)}: {source}"


def gone(one: Item) -> list[str]:
    """Return a finding that no agent stands by any more as an item of a list, with the reason."""
    found = one.finding
    words = why_gone(found, span_of, name_of, _reason)
    told = (Standing.WITHDRAWN, Standing.OMITTED, Standing.STALE)
    history = _history(one, but=told)
    return [f"- ~~{span_of(found.key)}~~ {words} · {rfc3339(found.first_ms)}", *history]


def why_gone(
    found: Finding,
    key: Callable[[str], str],
    name: Callable[[str], str],
    reason: Callable[[object], str],
) -> str:
    """Say why a finding is gone; keys, agents' names and reasons are written as the caller does."""
    if found.state is State.SUPERSEDED:
        by = [f"{key(edge.key)} of {name(edge.agent)}" for edge in found.superseded_by]
        return f"superseded by {', '.join(dict.fromkeys(by))}"
    return "; ".join(dict.fromkeys(_reasons(found.sources, name, reason))) or "withdrawn"


def _reasons(
    sources: Iterable[Source], name: Callable[[str], str], words: Callable[[object], str]
) -> Iterator[str]:
    for one in sources:
        agent = name(one.agent)
        if one.standing is Standing.WITHDRAWN:
            reason = "" if one.evidence is None else f" ({words(one.evidence)})"
            yield f"withdrawn by {agent}{reason}"
        elif one.standing is Standing.OMITTED:
            yield f"withdrawn by {agent}: its whole result leaves it out"
        elif one.standing is Standing.STALE:
            yield f"{agent} has started again and has not repeated it"
