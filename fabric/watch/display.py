"""Shows a board on a terminal with rich, or as plain lines anywhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self

from fabric.errors import ConfigError
from fabric.view.text import clock
from fabric.view.timeline import Row
from fabric.watch.board import Board
from fabric.watch.frame import Line, fit, frame

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

#: Pictures a second at most.
FRAMES_A_SECOND = 8


def has_rich() -> bool:
    """Return whether the live view can be had."""
    return find_spec("rich") is not None


class LiveDisplay(AbstractContextManager["LiveDisplay"]):
    """Draws the board on the whole terminal: `with LiveDisplay() as show`.

    The last picture stays on the terminal when it ends. Raises ConfigError without rich.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        if not has_rich():
            raise ConfigError(
                "the live view needs rich: pip install 'signal-fabric[tui]'; or use --plain"
            )
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=stderr, highlight=False)
        self._live = Live(console=self._console, screen=True, refresh_per_second=FRAMES_A_SECOND)
        self._board: Board | None = None

    def __enter__(self) -> Self:
        """Take the terminal over."""
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Give the terminal back, with the last picture on it."""
        self._live.__exit__(None, None, None)
        if self._board is not None:
            self._console.print(self._picture(self._board))

    def __call__(self, board: Board, rows: list[Row]) -> None:
        """Show the board as it is now."""
        self._board = board
        self._live.update(self._picture(board))

    def _picture(self, board: Board) -> Group:
        from rich.console import Group

        width, height = self._console.size
        return Group(*map(_styled, frame(board, width, height)))


def _styled(line: Line) -> Text:
    from rich.text import Text

    return Text.assemble(*line, no_wrap=True, overflow="crop")


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
