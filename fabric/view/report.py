"""The report on a synthesis, as Markdown: for people, or bounded for a comment on a pull request.

Whatever agents wrote is code or escaped text in it: it cannot make a heading, a link or a tag, call
anybody, or end a fold.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import NamedTuple

from fabric.core.limits import NAMES_SHOWN_MAX, listed
from fabric.core.record import AgentStatus
from fabric.core.synthesis.contributor import Contributor
from fabric.core.synthesis.typed import RANK, SEVERITIES
from fabric.view import markdown
from fabric.view.document import Document, progress
from fabric.view.finding import claimed, evidence, finding, gone, name_of, span_of
from fabric.view.selection import GONE, Group, Item, grouped, select
from fabric.view.text import counted, rfc3339
from fabric.view.value import is_short, outline, span
from fabric.wire.document import Contradiction, Refinement, Source
from fabric.wire.stored import checked_reading

#: Characters of a comment by default: GitHub takes 65,536.
CHARS_MAX = 60_000

#: Characters that the head of a report and its last lines need.
CHARS_MIN = 5_000

#: Room for the last lines: how many findings are left out, and where they are.
_TAIL_CHARS = 500

#: Shares of the room for what is not findings.
_REFINED, _CONTRADICTIONS, _DOCUMENT, _GONE, _FAILED = 0.25, 0.25, 0.15, 0.1, 0.05

#: Share of the room for code from the files, where it has no room beside every finding.
_CODE = 0.3


def no_code(path: str, line: int, end_line: int) -> Sequence[str]:
    """Return no lines of any file."""
    return ()


class Layout(NamedTuple):
    """How a report is laid out.

    `folded`: for a comment on a pull request, with a hidden mark by which a program finds it again.
    `code` returns lines of a file, `command` shows the whole report, `note` is Markdown below the
    first sentence.
    """

    by: Group = Group.FILE
    chars_max: int | None = None
    folded: bool = False
    code: Callable[[str, int, int], Sequence[str]] = no_code
    command: str = ""
    note: str = ""


def report(
    synthesis: Document,
    session: str,
    items: Sequence[Item] | None = None,
    layout: Layout | None = None,
) -> list[str]:
    """Return the report on a session's synthesis, as lines of Markdown. Raises TamperedError.

    `items` are the findings that it shows: all by default, and then also those that no agent stands
    by any more. If it may have only so many characters, the worst findings are kept, whole.
    """
    layout = layout or Layout()
    with checked_reading(synthesis.key, "synthesis"):
        is_whole = items is None
        past = select(synthesis, states=GONE) if is_whole else []
        items = select(synthesis) if items is None else items
        room = inf if layout.chars_max is None else layout.chars_max - _TAIL_CHARS
        begins = _head(synthesis, session, layout)
        if not synthesis.revision:
            return begins
        begins += _counts(items)
        joined = synthesis.complete.findings - len(items)
        if is_whole and joined > 0:
            begins += ["", f"{counted(joined, 'finding')} joined with others about the same thing."]
        if layout.folded:
            begins += _within(_failed(synthesis), room * _FAILED, layout.command)
        refined, share = synthesis.refined, room * _REFINED
        each = share / (len(refined) + 1)
        blocks = (["", *_refined(name, one, each)] for name, one in refined.items())
        begins += _within(blocks, share, layout.command)
        begins += _contradictions(synthesis, session, room * _CONTRADICTIONS)
        ends = _past(past, layout, room * _GONE)
        ends += _document(synthesis, layout, room * _DOCUMENT)
        ends += [] if layout.folded else _agents(synthesis, room * _FAILED)
        room -= _size(begins) + _size(ends)
        return [*begins, *_findings(items, layout, room), *ends]


def command_of(session: str) -> str:
    """Return the command that shows the whole report."""
    return shlex.join(["fabric", "synthesis", session])


def _size(lines: Iterable[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _within(blocks: Iterable[list[str]], room: float, command: str = "") -> list[str]:
    """Return the lines of the blocks that have room, and how many more there are."""
    found: list[str] = []
    left_out = 0
    for lines in blocks:
        if (size := _size(lines)) > room:
            left_out += 1
            continue
        room -= size
        found += lines
    if left_out:
        where = f" ({markdown.code(command)})" if command else ""
        found += ["", f"… {left_out:,} more{where}"]
    return found


def _head(synthesis: Document, session: str, layout: Layout) -> list[str]:
    # In JSON's spelling of `-` and `>` nothing ends the comment.
    mark = session.replace(">", r"\u003e").replace("--", r"-\u002d")
    lines = [f"<!-- signal-fabric: {mark} -->"] if layout.folded else []
    lines += [f"{'##' if layout.folded else '#'} Synthesis of {markdown.text(session)}"]
    lines += ["", progress(synthesis)]
    return [*lines, "", layout.note] if layout.note else lines


def _counts(items: Sequence[Item]) -> list[str]:
    """Return a table of how many findings are how severe; none if no finding says so."""
    if not any(one.is_rated for one in items):
        return []
    counts = Counter(one.severity if one.is_rated else "not rated" for one in items)
    rows = [[name, f"{counts[name]:,}"] for name in (*SEVERITIES, "not rated") if counts[name]]
    return ["", *markdown.table(("Severity", "Findings"), rows)]


def _failed(synthesis: Document) -> Iterator[list[str]]:
    for name, agent in synthesis.agents.items():
        if agent.status in (AgentStatus.FAILED, AgentStatus.DEAD):
            words = " ".join(agent.error.split())
            reason = f" · {markdown.prose(markdown.cut(words, 500))}" if words else ""
            yield ["", f"**{name_of(name)} {agent.status.value}**{reason}"]


def _contradictions(synthesis: Document, session: str, room: float) -> list[str]:
    found = synthesis.contradictions.values()
    if not found:
        return []
    blocks = (["", *contradiction(one, session)] for one in found)
    where = shlex.join(["fabric", "escalations", "-s", session])
    return ["", "## Open contradictions", *_within(blocks, room, where)]


def contradiction(one: Contradiction, session: str) -> list[str]:
    """Return an open contradiction as lines of Markdown, with the command that decides it."""
    sides = [line for claims in one.values for line in _side(claims)]
    words = shlex.join(["fabric", "decide", "-s", session, one.question])
    choices = " | ".join(shlex.quote(name) for name in one.options[:NAMES_SHOWN_MAX])
    decide = f"To decide: {markdown.code(f'{words} {choices}')}"
    return [f"### {span_of(one.part)}", "", *sides, "", decide]


def _side(claims: Sequence[Source]) -> Iterator[str]:
    value = claims[0].value
    other = [f"{span(one.value)} of {name_of(one.agent)}" for one in claims if one.value != value]
    by = claimed(claims) + evidence(claims) + (f" · written {listed(other)}" if other else "")
    if is_short(value):
        yield f"- {span(value)}: {by}"
    else:
        yield f"- {by}:"
        yield ""
        yield from outline(value, "  ")


def _findings(items: Sequence[Item], layout: Layout, room: float) -> list[str]:
    """Return the findings by group, in natural order; the worst ones if not all have room."""
    if not items:
        return ["", "No findings."] if layout.folded else []
    pairs = [(name, one) for name, group in grouped(items, layout.by).items() for one in group]
    shown = _chosen(pairs, layout, room, room)
    if len(shown) < len(pairs):
        shown = _chosen(pairs, layout, room, room * _CODE)
    lines = ["", "## Findings"]
    sizes = Counter(name for name, _ in pairs)
    groups: dict[str, list[list[str]]] = {}
    for number in sorted(shown):
        groups.setdefault(pairs[number][0], []).append(shown[number])
    for name, inside in groups.items():
        lines += ["", *_group(name, sizes[name], inside, layout)]
    if more := len(pairs) - len(shown):
        lines += ["", f"… {more:,} more: {markdown.code(layout.command)}"]
    return lines


def _chosen(
    pairs: Sequence[tuple[str, Item]], layout: Layout, room: float, code_room: float
) -> dict[int, list[str]]:
    """Return the lines of the worst findings, as many as have room, by their number."""
    shown: dict[int, list[str]] = {}
    begun: set[str] = set()
    for number in sorted(range(len(pairs)), key=lambda one: RANK[pairs[one][1].severity]):
        name, one = pairs[number]
        lines = finding(one)
        code = layout.code(one.path, one.line, one.end_line) if code_room > 0 and one.line else ()
        if code and (size := _size(with_code := finding(one, code)) - _size(lines)) <= code_room:
            lines = with_code
            code_room -= size
        room -= _size(lines)
        if name not in begun:
            # The number of those shown has at most as many digits as that of all.
            room -= _size(_group(name, len(pairs), [], layout)) + len(str(len(pairs)))
        if room < 0:
            break
        begun.add(name)
        shown[number] = lines
    return shown


def _group(name: str, size: int, shown: Sequence[list[str]], layout: Layout) -> list[str]:
    some = "" if len(shown) == size else f"{len(shown)} of "
    words = f"{name or _NO_GROUP[layout.by]}: {some}{counted(size, 'finding')}"
    lines = [line for lines in shown for line in lines]
    if layout.folded:
        return markdown.folded(words, lines)
    return [f"### {markdown.text(words)}", "", *lines] if name else list(lines)


#: What findings are in that are in no group.
_NO_GROUP = {Group.FILE: "no file", Group.SEVERITY: "no severity", Group.AGENT: "no agent"}


def _past(items: Sequence[Item], layout: Layout, room: float) -> list[str]:
    if not items:
        return []
    lines = _within((gone(one) for one in items), room, layout.command)
    words = f"No longer held: {counted(len(items), 'finding')}"
    folded = markdown.folded(words, lines)
    return ["", *folded] if layout.folded else ["", "## No longer held", "", *lines]


def _document(synthesis: Document, layout: Layout, room: float) -> list[str]:
    plain = synthesis.plain
    if not plain:
        return []
    blocks = (list(outline({name: one})) for name, one in plain.items())
    lines = _within(blocks, room, layout.command)
    folded = markdown.folded("Document", lines)
    return ["", *folded] if layout.folded else ["", "## Document", "", *lines]


def _refined(name: str, refinement: Refinement, room: float) -> list[str]:
    value = refinement.value
    if isinstance(value, str) and room < inf:
        value = markdown.cut(value, int(room))
    made = f"Made of revision {refinement.revision} · {rfc3339(refinement.ms)}"
    lines = [f"## Refined: {markdown.text(name)}", "", made, ""]
    if refinement.markdown:
        write = markdown.trusted
        return [*lines, *(write(value) if isinstance(value, str) else outline(value, "", write))]
    if isinstance(value, str):
        return [*lines, *markdown.block(value.splitlines())]
    return [*lines, *outline(value)]


def _agents(synthesis: Document, room: float) -> list[str]:
    if not synthesis.agents:
        return []
    blocks = ([_agent(name, agent)] for name, agent in synthesis.agents.items())
    return ["", "## Agents", "", *_within(blocks, room)]


def _agent(name: str, agent: Contributor) -> str:
    has_failed = agent.status in (AgentStatus.FAILED, AgentStatus.DEAD)
    word = f"**{agent.status.value}**" if has_failed else agent.status.value
    parts = [f"- {name_of(name)}: {word}"]
    if not agent.has_ended:
        parts.append(f"{agent.percent:g} %")
    if agent.incarnation > 1:
        parts.append(f"incarnation {agent.incarnation}")
    parts.append(f"first result {rfc3339(agent.reported_ms)}" if agent.reported else "no result")
    if agent.error:
        parts.append(name_of(agent.error))
    return " · ".join(parts)
