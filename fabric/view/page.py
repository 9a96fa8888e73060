"""The report as one page of HTML. Nothing that agents wrote is markup in it."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from fabric.core.limits import listed
from fabric.core.record import AgentStatus
from fabric.core.synthesis.typed import RANK
from fabric.view.document import Document, progress
from fabric.view.finding import why_gone
from fabric.view.markdown import cut
from fabric.view.selection import GONE, Group, Item, grouped, select
from fabric.view.text import counted
from fabric.view.value import TEXT_CHARS_MAX, flat
from fabric.wire.stored import checked_reading, printable

_encode = msgspec.json.Encoder().encode
_pretty = msgspec.json.format

_STYLE = (
    "body{font-family:sans-serif;max-width:70em;margin:auto;padding:1em;overflow-wrap:anywhere}"
    "td,th{text-align:left;vertical-align:top;padding:.2em .6em}"
    "td:first-child{white-space:nowrap}pre{white-space:pre-wrap}"
    ".critical,.high,.failed{color:#b00}.medium{color:#a60}"
)


def page(
    synthesis: Document,
    session: str,
    items: Sequence[Item],
    by: Group,
    code: Callable[[str, int, int], Sequence[str]],
    *,
    is_whole: bool = True,
) -> str:
    """Return the report on a session's synthesis as a page. Raises TamperedError.

    `code` returns lines of a file. A whole report also has the findings that no longer hold.
    """
    title = _text(f"Synthesis of {session}")
    with checked_reading(synthesis.key, "synthesis"):
        lines = [
            "<!doctype html>",
            f'<html lang="en"><meta charset="utf-8"><title>{title}</title>',
            f"<style>{_STYLE}</style>",
            f"<h1>{title}</h1><p>{_text(progress(synthesis))}</p>",
            *_count_rows(items),
            *_failed(synthesis),
            *_contradictions(synthesis),
        ]
        for name, inside in grouped(items, by).items():
            words = f"{name or 'no ' + by.value}: {counted(len(inside), 'finding')}"
            lines.append(f"<h2>{_text(words)}</h2><table>")
            lines += [_row(one, code) for one in inside]
            lines.append("</table>")
        lines += _gone(synthesis) if is_whole else []
        lines += _values("Document", synthesis.plain or {})
        lines += _values("Refined", {name: one.value for name, one in synthesis.refined.items()})
    return "\n".join([*lines, "</html>"])


def _text(value: str) -> str:
    """Return a text as HTML, with an escape for each character that does not print."""
    lines = ["\t".join(map(printable, line.split("\t"))) for line in value.splitlines()]
    return html.escape("\n".join(lines))


def _prose(value: Any) -> str:
    text = value if isinstance(value, str) else flat(value)
    return _text(cut(text, TEXT_CHARS_MAX)).replace("\n", "<br>")


def _count_rows(items: Sequence[Item]) -> Iterator[str]:
    counts = Counter(one.severity if one.is_rated else "not rated" for one in items)
    names = [name for name in (*RANK, "not rated") if counts[name]]
    rows = (f"<tr><td>{name}</td><td>{counts[name]:,}</td></tr>" for name in names)
    yield f"<table><tr><th>severity</th><th>findings</th></tr>{''.join(rows)}</table>"


def _failed(synthesis: Document) -> Iterator[str]:
    for name, agent in synthesis.agents.items():
        if agent.status in (AgentStatus.FAILED, AgentStatus.DEAD):
            word = f"{_text(name)} {agent.status.value}"
            yield f'<p class="failed"><b>{word}</b> {_prose(agent.error)}</p>'


def _contradictions(synthesis: Document) -> Iterator[str]:
    found = synthesis.contradictions
    if found:
        yield "<h2>Open contradictions</h2>"
    for part, one in found.items():
        yield f"<h3>{_text(part)}</h3><ul>"
        for claims in one.values:
            by = _text(listed([claim.agent for claim in claims]))
            yield f"<li><b>{_prose(claims[0].value)}</b>: {by}</li>"
        yield "</ul>"


def _gone(synthesis: Document) -> Iterator[str]:
    past = select(synthesis, states=GONE)
    if past:
        yield f"<h2>No longer held: {counted(len(past), 'finding')}</h2><ul>"
        for one in past:
            reason = why_gone(one.finding, str, str, lambda value: cut(flat(value), 1_000))
            yield f"<li><s>{_text(one.finding.key)}</s> {_text(reason)}</li>"
        yield "</ul>"


def _values(title: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a section with what stands beside the findings: texts as they are, all else as JSON."""
    if values:
        yield f"<h2>{title}</h2>"
    for name, value in values.items():
        yield f"<h3>{_text(name)}</h3><pre>{_text(cut(_shown(value), TEXT_CHARS_MAX))}</pre>"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and all(isinstance(one, str) for one in value.values()):
        return "\n".join(f"{name}: {one}" for name, one in value.items())  # each agent's text
    return _pretty(_encode(value)).decode()


def _row(one: Item, code: Callable[[str, int, int], Sequence[str]]) -> str:
    text = _prose(one.text)
    if one.title and one.title != one.text:
        text = f"<b>{_text(one.title)}</b><br>{text}"
    if one.line and (lines := code(one.path, one.line, one.end_line)):
        text += f"<pre>{_text(chr(10).join(lines))}</pre>"
    for line in one.outcome:
        text += f"<br>{_prose(line)}"
    for message, agents in one.others.items():
        text += f"<br>{_text(listed(agents))}: {_prose(message)}"
    if one.suggestion:
        text += f"<p>Suggestion:</p><pre>{_text(one.suggestion)}</pre>"
    cells = [_text(one.place), _text(one.rule), text, _text(", ".join(one.agents))]
    shown = "".join(f"<td>{cell}</td>" for cell in cells)
    severity = one.severity if one.is_rated else ""
    return f'<tr><td class="{severity}">{severity}</td>{shown}</tr>'
