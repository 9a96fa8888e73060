"""A question to a person as the lines that `fabric escalations` prints."""

from __future__ import annotations

import shlex

import msgspec

from fabric.core.event import ORCHESTRATOR
from fabric.core.record import EscalationRecord, EscalationState
from fabric.view.text import ago, plain, rfc3339

#: Lines shown of a question and of its context, and characters of each; `--json` prints all.
LINES_SHOWN = 8
CHARS_SHOWN = 200

#: Width of the labels.
_WIDTH = 9


def question_lines(
    session: str, id_: str, record: EscalationRecord, *, home: str | None
) -> list[str]:
    """Return a question: who asks, what, who waits, and the command that answers it.

    `home` is the session that `fabric decide` uses by default: the command need not name it.
    """
    asked = f"asked {ago(record.asked_ms)} ago by {record.asker or ORCHESTRATOR}"
    subject = ": ".join(filter(None, (record.subject, record.about)))
    lines = [plain(f"{id_}  in {session}, {asked}" + (f" ({subject})" if subject else ""))]
    lines += [f"  {line}" for line in _cut(record.question)]
    if record.to:
        lines += _labelled("asked of", [plain(record.to)])
    if record.options:
        lines += _labelled("options", _cut("\n".join(map(plain, record.options))))
    if isinstance(record.context, msgspec.Raw) and bytes(record.context) not in {b"", b"null"}:
        context = msgspec.json.format(bytes(record.context), indent=2)
        lines += _labelled("context", _cut(context.decode("utf-8", "replace")))
    if record.state is not EscalationState.OPEN:
        by = f"by {record.by}, " if record.by else ""
        lines += _labelled("decided", _cut(record.decision))
        return lines + _labelled("", [plain(f"{by}{rfc3339(record.decided_ms)}")])
    waiting = [name for name in dict.fromkeys([record.asker, *record.waiting]) if name]
    if waiting:
        lines += _labelled("waiting", _cut(plain(", ".join(waiting))))
    if record.concerned:
        lines += _labelled("told", _cut(plain(", ".join(record.concerned))))
    named = [] if session == home else ["--session", session]
    dashed = ["--"] if id_.startswith("-") else []
    answer = f"fabric decide {shlex.join([*named, *dashed, id_])} ANSWER"
    return lines + _labelled("answer", [plain(answer)])


def _labelled(label: str, lines: list[str]) -> list[str]:
    """Return lines beside a label; all labels have the same width."""
    heads = [f"{label}:" if label else "", *[""] * len(lines)]
    return [f"  {head:<{_WIDTH}} {line}" for head, line in zip(heads, lines, strict=False)]


def _cut(text: str) -> list[str]:
    """Return the first lines of a text, each cut; the last one counts what is left out."""
    lines = [plain(line) for line in text.splitlines()] or [""]
    cut = [line if len(line) <= CHARS_SHOWN else f"{line[:CHARS_SHOWN]} …" for line in lines]
    more = len(cut) - LINES_SHOWN
    return [*cut[:LINES_SHOWN], f"… {more} more lines (--json)"] if more > 0 else cut
