"""Shows a board on a terminal with rich, or as plain lines anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from fabric.view.text import clock
from fabric.view.timeline import Row
from fabric.watch.board import Board
from fabric.watch.follow import B
from fabric.watch.frame import Line, fit

#: Why lines appear on a terminal.
NO_RICH = "lines, because the live view needs rich: pip install 'signal-fabric[tui]'"

#: Pictures a second at most.
FRAMES_A_SECOND = 8


def has_rich() -> bool:
    """Return whether the live view can be had."""
    return find_spec("rich") is not None


@contextmanager
def live_display(
    layout: Callable[[B, int, int], Sequence[Line]], *, stderr: bool = False
) -> Iterator[Callable[[B, Any], None]]:
    """Take the whole terminal over; what is yielded draws a board on it, as `layout` lays it out.

    The last picture stays on the terminal when the block ends. Only where `has_rich`.
    """
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=stderr, highlight=False)
    live = Live(console=console, screen=True, refresh_per_second=FRAMES_A_SECOND)
    shown: list[B] = []

    def picture(board: B) -> Group:
        lines = layout(board, *console.size)
        return Group(*(Text.assemble(*line, no_wrap=True, overflow="crop") for line in lines))

    def show(board: B, news: Any) -> None:
        shown[:] = [board]
        live.update(picture(board))

    try:
        with live:
            yield show
    finally:
        for board in shown:
            console.print(picture(board))


class PlainDisplay:
    """Prints a line for each new row of the timeline, and one when the synthesis has grown."""

    def __init__(self, echo: Callable[[str], None]) -> None:
        self._echo = echo
        self._revision = 0
        self._known: set[str] = set()

    def __call__(self, board: Board, rows: list[Row]) -> None:
        """Print what is new since the last call."""
        for row in rows:
            self._line(clock(row.ms, board.opened_ms), row.signal, row.stream, row.action)
        growth = board.growth
        if growth.revision > self._revision:
            self._revision = growth.revision
            now = growth.points[-1]
            last = ", final" if growth.is_final else ""
            text = f"{now.findings:,} findings, {now.percent:.0f} %, revision {now.number:,}{last}"
            self._line(clock(now.made_ms, 0), "(synthesis)", "", text)
        for one in board.questions:
            if one.id not in self._known:
                self._known.add(one.id)
                self._line("", "(question)", "", f"{one.id}: {fit(one.record.question)}")

    def _line(self, time: str, signal: str, stream: str, text: str) -> None:
        self._echo(f"{time:>6}  {signal:<24}  {stream:<6}  {text}")
