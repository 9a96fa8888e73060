"""Lays a board out as lines of a given width, and at most a given number of them. Pure."""

from __future__ import annotations

import shlex
import unicodedata
from collections import Counter
from collections.abc import Sequence

from fabric.core.escalation import MASS_SILENCE
from fabric.core.record import HELD_UP, AgentRecord, AgentStatus
from fabric.view.text import clock, counted
from fabric.watch.board import Board, Growth
from fabric.wire.stored import printable

#: Size where none is known: output that goes to a file or a pipe.
WIDTH_DEFAULT, HEIGHT_DEFAULT = 120, 60

#: On a narrower terminal lines are cut.
WIDTH_MIN = 40

#: Characters of an agent's name and stream that are shown at most.
_NAME_CHARS_MAX, _STREAM_CHARS_MAX = 20, 8

#: Findings and questions that are shown.
_FINDINGS_MAX, _QUESTIONS_MAX = 3, 3

_STATUS_CHARS = max(map(len, AgentStatus))
_CHART_CHARS, _CHART = 40, "▁▂▃▄▅▆▇█"

_STYLES = {
    AgentStatus.ACTIVE: "cyan",
    AgentStatus.BLOCKED: "yellow",
    AgentStatus.PAUSED: "yellow",
    AgentStatus.COMPLETED: "green",
    AgentStatus.FAILED: "red",
    AgentStatus.DEAD: "red",
}

#: The pieces of a line: text and style, as rich names styles.
Line = Sequence[tuple[str, str]]


def text_of(line: Line) -> str:
    """Return a line without its styles."""
    return "".join(text for text, _ in line).rstrip()


def frame(board: Board, width: int = WIDTH_DEFAULT, height: int = HEIGHT_DEFAULT) -> list[Line]:
    """Return the lines that show a board. None is wider than `width` cells of a terminal."""
    width = max(width, WIDTH_MIN)
    middle = [part for part in (_growth(board.growth, width), _questions(board, width)) if part]
    # The title, and an empty line before each part.
    rest = height - 3 - sum(len(part) + 1 for part in middle)
    agents = _agents(board, width, max(4, rest * 3 // 5, min(11, rest - 6)))
    timeline = _timeline(board, width, max(2, rest - len(agents)))
    lines = [_title(board, width)]
    for part in (agents, *middle, timeline):
        lines += [[("", "")], *part] if part else []
    return lines[:height]


def cells(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def fit(text: str, width: int = 200) -> str:
    """Return the printable start of a text that takes at most `width` cells."""
    text = printable(text)
    if cells(text) <= width:
        return text
    text = text[:width]
    while cells(text) >= max(1, width):
        text = text[:-1]
    return text + "…"[:width]


def row(width: int, *columns: tuple[str, int, str]) -> Line:
    """Return a line of columns: text, cells, style. The last one takes what room is left."""
    line = []
    for text, chars, style in columns[:-1]:
        shown = fit(text, min(chars, width))
        line.append((shown + " " * (min(chars + 1, width) - cells(shown)), style))
        width = max(0, width - chars - 1)
    text, _, style = columns[-1]
    return [*line, (fit(text, width), style)]


def row_of(width: int, texts: Sequence[str], widths: Sequence[int], style: str = "") -> Line:
    return row(width, *((text, chars, style) for text, chars in zip(texts, widths, strict=True)))


def _title(board: Board, width: int) -> Line:
    statuses = Counter(agent.status for agent in board.agents.values())
    counts = ", ".join(f"{statuses[one]:,} {one}" for one in AgentStatus if statuses[one])
    agents = f"{counted(len(board.agents), 'agent')}: {counts}" if counts else "no agents yet"
    text = f"{board.session}  {clock(board.at_ms, 0)}  {board.trouble or agents}"
    return row(width, (text, 0, "bold red" if board.trouble else "bold"))


def _agents(board: Board, width: int, lines_max: int) -> list[Line]:
    """Return a line for each agent, by stream. Where not all have room, those held up come first,
    then those at work.
    """
    named = sorted(board.agents.items(), key=lambda item: (item[1].stream, item[0]))
    room = lines_max - 1 if len(named) < lines_max else lines_max - 2
    left_out = dict(sorted(named, key=_urgency)[room:])
    shown = [item for item in named if item[0] not in left_out]
    name_chars = min(_NAME_CHARS_MAX, max([5, *(cells(name) for name, _ in shown)]))
    stream_chars = min(_STREAM_CHARS_MAX, max([6, *(cells(one.stream) for _, one in shown)]))
    widths = (stream_chars, name_chars, 10 if width < 100 else 24, 5, _STATUS_CHARS, 5, 0)
    titles = ("STREAM", "AGENT", "", " DONE", "STATUS", "FOUND", "WAITS FOR / AT")
    lines = [row_of(width, titles, widths, "dim")]
    found = board.growth.counts
    last = None
    for name, agent in shown:
        columns = _columns(board, name, agent, found[name], widths[2], agent.stream != last)
        cut = zip(columns, widths, strict=True)
        lines.append(row(width, *((text, chars, style) for (text, style), chars in cut)))
        last = agent.stream
    if left_out:
        counts = Counter(one.status for one in left_out.values())
        more = ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
        lines.append(row(width, (f"… and more: {more}", 0, "dim")))
    return lines if named else []


def _columns(
    board: Board, name: str, agent: AgentRecord, found: int, bar_chars: int, is_first: bool
) -> list[tuple[str, str]]:
    """Return text and style of each column of an agent's line."""
    percent = 100 if agent.status is AgentStatus.COMPLETED else agent.percent
    done = min(max(percent or 0, 0), 100)
    filled = round(bar_chars * done / 100)
    style = _STYLES[agent.status]
    detail = (agent.checkpoint or agent.task, "dim")
    if agent.error:
        detail = agent.error, "red"
    elif board.waits.get(name):
        detail = ", ".join(board.waits[name]), "yellow"
    elif agent.is_stuck:
        detail = f"only heartbeats since {clock(agent.idle_since_ms, board.opened_ms)}", "yellow"
    return [
        (agent.stream if is_first else "", "bold"),
        (name, ""),
        ("█" * filled + "·" * (bar_chars - filled), style),
        (f"{done:3.0f} %" if percent is not None else "", ""),
        (agent.status.value, style),
        (f"{found:>5,}" if found else "", ""),
        detail,
    ]


def _urgency(named: tuple[str, AgentRecord]) -> tuple[bool, bool, int]:
    status = named[1].status
    is_held_up = status in HELD_UP or named[1].is_stuck
    return not is_held_up, status is not AgentStatus.ACTIVE, -named[1].seen_ms


def _growth(growth: Growth, width: int) -> list[Line]:
    """Return how far the synthesis is, a chart of its findings over time, and the newest ones."""
    if not growth.points:
        return [row(width, ("Synthesis", 9, "bold"), ("no revision yet", 0, "dim"))]
    now = growth.points[-1]
    said = f"revision {now.number:,}, {now.percent:.0f} %, {counted(now.findings, 'finding')}"
    if now.contradictions:
        said += f", {counted(now.contradictions, 'open contradiction')}"
    said += ", final" if growth.is_final else ""
    drawn = chart(growth, min(_CHART_CHARS, width - len(said) - 11))
    lines = [row(width, ("Synthesis", 9, "bold"), (said, len(said), ""), (drawn, 0, "green"))]
    for news in list(growth.newest)[-_FINDINGS_MAX:]:
        time = f"{clock(news.at_ms, 0):>6}"
        lines.append(row(width, (time, 7, "dim"), (news.agent, 16, "dim"), (news.key, 0, "dim")))
    return lines


def chart(growth: Growth, chars: int) -> str:
    """Return the number of findings over the time of the session as a row of bars."""
    points = growth.points
    begin_ms, length_ms = points[0].made_ms, points[-1].made_ms - points[0].made_ms
    most = max(point.findings for point in points)
    if chars < 5 or not most or length_ms <= 0:
        return ""
    bars, place = "", 0
    for number in range(1, chars + 1):
        until_ms = begin_ms + length_ms * number / chars
        while place + 1 < len(points) and points[place + 1].made_ms <= until_ms:
            place += 1
        count = points[place].findings
        bars += _CHART[(len(_CHART) - 1) * count // most] if count else " "
    return bars


def _questions(board: Board, width: int) -> list[Line]:
    if not board.questions:
        return []
    lines = [row(width, (f"Open questions ({len(board.questions):,})", 0, "bold yellow"))]
    # The one about many silent agents first: until it is decided, all that wait for them wait.
    urgent = sorted(board.questions, key=lambda one: one.record.subject != MASS_SILENCE)
    for one in urgent[:_QUESTIONS_MAX]:
        asked = f"  {one.record.asker or 'the fabric'}: {one.record.question}"
        command = shlex.join(["fabric", "decide", one.id, "ANSWER", "--session", one.session])
        lines += [row(width, (asked, 0, "")), row(width, (f"    {command}", 0, "dim"))]
    return lines


def _timeline(board: Board, width: int, lines_max: int) -> list[Line]:
    widths = (7, 20 if width < 100 else 24, 6, 0)
    lines = [row_of(width, ("  TIME", "SIGNAL", "STREAM", "WHAT HAPPENED"), widths, "dim")]
    for row in list(board.rows)[-(lines_max - 1) :]:
        texts = (f"{clock(row.ms, board.opened_ms):>6}", row.signal, row.stream, row.action)
        lines.append(row_of(width, texts, widths))
    return lines if board.rows else []
