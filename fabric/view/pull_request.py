"""A report for a comment on a pull request: bounded, folded by file, to be updated in place."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from fabric.core.record import AgentStatus
from fabric.core.synthesis.typed import SEVERITIES
from fabric.view import markdown
from fabric.view.selection import Group, Item, grouped
from fabric.view.synthesis import Synthesis, progress
from fabric.view.text import counted

#: Characters of a comment by default: GitHub takes 65,536.
CHARS_MAX = 60_000

#: Characters that the head of a comment and its last lines need.
CHARS_MIN = 5_000

#: Room for the last lines: how many findings are left out, and where they are.
_TAIL_CHARS = 1_000


def comment(
    synthesis: Synthesis,
    items: Sequence[Item],
    *,
    by: Group,
    chars_max: int,
    command: str,
    note: str = "",
) -> str:
    """Return the report as Markdown of at most `chars_max` characters.

    Its first line is a comment that nobody sees and that names the session: a program finds its own
    report by it. Findings are left out from the end, whole; `command` shows all of them.
    """
    session = synthesis.session
    lines = [
        f"<!-- signal-fabric: {_marker(session)} -->",
        f"## Synthesis of {markdown.text(session)}",
    ]
    lines += ["", progress(synthesis), "", *([note, ""] if note else []), *_counts(items), ""]
    lines += _failed(synthesis)
    room = chars_max - _TAIL_CHARS - sum(len(line) + 1 for line in lines)
    shown = 0
    for name, inside in grouped(items, by).items():
        title = f"<details><summary>{_summary(name, inside)}</summary>"
        block = ["", title, ""]
        used = sum(len(line) + 1 for line in block) + len("</details>\n")
        taken = 0
        for one in inside:
            said = _lines(one)
            size = sum(len(line) + 1 for line in said)
            if used + size > room:
                break
            block += said
            used += size
            taken += 1
        if taken:
            lines += [*block, "", "</details>"]
            room -= used + 1
            shown += taken
        if taken < len(inside):
            break
    total = sum(len(inside) for inside in grouped(items, by).values())
    if shown < total:
        lines += ["", f"… {total - shown:,} more: {markdown.code(command)}"]
    return "\n".join(lines)[:chars_max]


def command_of(session: str) -> str:
    """Return the command that shows the whole report."""
    return shlex.join(["fabric", "synthesis", session])


def _marker(session: str) -> str:
    # In JSON's spelling of `-` and `>` nothing ends the comment.
    return session.replace(">", r"\u003e").replace("--", r"-\u002d")


def _counts(items: Sequence[Item]) -> list[str]:
    if not items:
        return ["No findings."]
    counts = Counter(one.severity for one in items)
    rows = [[name, f"{counts[name]:,}"] for name in SEVERITIES if counts[name]]
    return markdown.table(("Severity", "Findings"), rows)


def _failed(synthesis: Synthesis) -> list[str]:
    failed = [
        f"- **{markdown.text(name)}** {agent.status.value} · {markdown.text(agent.error)}"
        for name, agent in synthesis.agents.items()
        if agent.status in (AgentStatus.FAILED, AgentStatus.DEAD)
    ]
    return [*failed, ""] if failed else []


def _summary(name: str, inside: Sequence[Item]) -> str:
    # Inside a tag Markdown is not read: what an agent wrote is escaped as HTML.
    from html import escape

    return f"{escape(name or 'no file')}: {counted(len(inside), 'finding')}"


def _lines(one: Item) -> list[str]:
    """Return a finding as an item of a list, its suggestion in a fence that it cannot leave."""
    head = [f"**{one.severity}**", markdown.code(one.place)]
    head += [markdown.code(one.rule)] if one.rule else []
    text = "<br>".join(markdown.prose(line) for line in one.text.split("\n") if line.strip())
    by = ", ".join(map(markdown.text, one.agents))
    sure = "" if one.confidence is None else f" ({one.confidence:.0%} sure)"
    lines = [f"- {' '.join(head)}: {text} · {by}{sure}"]
    if one.suggestion:
        lines += ["", *(f"  {line}" for line in markdown.block(one.suggestion.split("\n"))), ""]
    return lines
