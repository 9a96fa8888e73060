"""The live view on a terminal: a bar for each agent, grouped by stream; below, the synthesis as it
grows, and the signals.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.markdown import Markdown
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fabric.demo.board import Board
from fabric.demo.growth import Growth
from fabric.demo.report import Row, clock

#: Rows of the timeline that stay in view.
ROWS_MAX = 12

#: Width of a bar, characters.
BAR_CHARS = 24

_COLOURS = {"completed": "green", "failed": "red", "working": "cyan"}


class LiveView:
    """Draws the board whenever it changes: `with LiveView() as show`."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=12, transient=False)
        self._rows: deque[Row] = deque(maxlen=ROWS_MAX)

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def __call__(self, board: Board, rows: list[Row]) -> None:
        """Show the board as it is now, with these rows added."""
        self._rows.extend(rows)
        parts = _agents(board), Text(), _synthesis(board.growth), Text(), _timeline(self._rows)
        self._live.update(Group(*parts))


def _agents(board: Board) -> Table:
    table = Table.grid(padding=(0, 2))
    stream = ""
    counts = board.growth.counts
    for agent in sorted(board.agents.values(), key=lambda agent: agent.stream):
        colour = _COLOURS.get(agent.status, "yellow")
        table.add_row(
            Text(agent.stream if agent.stream != stream else "", style="bold"),
            agent.name,
            ProgressBar(total=100, completed=agent.percent, width=BAR_CHARS),
            f"{agent.percent:3.0f} %",
            Text(agent.status, style=colour),
            Text(agent.checkpoint, style="dim"),
            _count(counts[agent.name], "finding") if counts[agent.name] else "",
        )
        stream = agent.stream
    return table


def _synthesis(growth: Growth) -> Table:
    """Show how far the synthesis has come, and the newest findings."""
    table = Table(box=None, padding=(0, 2), show_header=False)
    for _ in range(3):
        table.add_column(no_wrap=True, overflow="ellipsis")
    head = Text("Synthesis", style="bold")
    if not growth.points:
        table.add_row(head, "", Text("no revision yet", style="dim"))
        return table
    now = growth.points[-1]
    parts = [f"revision {now.number:,}", f"{now.percent:.0f} %", _count(now.findings, "finding")]
    if now.contradictions:
        parts.append(_count(now.contradictions, "open contradiction"))
    if growth.is_final:
        parts.append("final")
    table.add_row(head, "", ", ".join(parts))
    for news in growth.newest:
        table.add_row(clock(news.at_ms), news.agent, Text(news.key, style="dim"))
    return table


def _timeline(rows: deque[Row]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("Time", "Signal", "Stream", "Action"):
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*map(Text, (clock(row.at_ms), row.signal, row.stream, row.action)))
    return table


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def print_markdown(text: str) -> None:
    """Print the report, laid out for the terminal."""
    Console().print(Markdown(text))
