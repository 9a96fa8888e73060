"""The tasks of a session as bars, by stream and terminal, and the balancer's last moves. Pure.

The same lines are drawn on a terminal, again and again, and printed once by `fabric status`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fabric.core.limits import listed
from fabric.core.rules import Rules
from fabric.core.task import TaskRecord, TaskStatus
from fabric.view.progress import Move, Progress, Stand, Summary, move
from fabric.view.text import clock, span
from fabric.watch.frame import (
    HEIGHT_DEFAULT,
    WIDTH_DEFAULT,
    WIDTH_MIN,
    Line,
    cells,
    row,
    row_of,
    text_of,
)

#: Moves that are kept, and that are shown.
MOVES_KEPT_MAX, MOVES_SHOWN = 200, 5

#: Characters of a task's id and of an agent's name that are shown at most.
_TASK_CHARS_MAX, _AGENT_CHARS_MAX = 28, 16

_STAND_CHARS, _TO_GO_CHARS = max(map(len, Stand)), 7

_STYLES = {
    Stand.IN_PROGRESS: "cyan",
    Stand.OFFERED: "cyan",
    Stand.READY: "",
    Stand.WAITS: "yellow",
    Stand.COMPLETED: "green",
    Stand.FAILED: "red",
}

#: Where not all tasks have room: those that need a person first, what nobody minds last.
_URGENCY = {
    stand: number
    for number, stand in enumerate(
        (Stand.FAILED, Stand.IN_PROGRESS, Stand.OFFERED, Stand.READY, Stand.WAITS, Stand.COMPLETED)
    )
}

#: Width of a line that goes to a file or a pipe: nothing is cut but texts of any length.
LINE_CHARS_MAX = 1_000

#: Nothing more is done to such a task, unless somebody says `retry`.
_OVER = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED})

_MOVES_TITLE = "Last moves of the balancer"


class TaskNews(NamedTuple):
    """What one reading has brought: ids of tasks that are new or have changed, and moves."""

    tasks: list[str]
    moves: list[Move]


class TaskBoard:
    """What the view of the tasks shows."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.opened_ms = 0
        #: The rules in force in the session; None if they are not known.
        self.rules: Rules | None = None
        self.progress = Progress({}, None, 0)
        self.moves: deque[Move] = deque(maxlen=MOVES_KEPT_MAX)
        self.is_closed = False
        #: Why nothing new can be seen at present; "" when all is well.
        self.trouble = ""

    @property
    def at_ms(self) -> int:
        """Server time of the last reading, ms since the session opened."""
        return max(0, self.progress.now_ms - self.opened_ms)

    @property
    def has_ended(self) -> bool:
        """Whether every task is completed or failed, or the run is closed."""
        tasks = self.progress.tasks.values()
        return self.is_closed or (bool(tasks) and all(one.status in _OVER for one in tasks))

    def take_log(self, entries: Iterable[tuple[bytes, list[bytes]]]) -> list[Move]:
        """Take in log entries; return the new moves."""
        found = [one for entry in entries if (one := move(*entry)) is not None]
        self.moves.extend(found)
        return found

    def take_tasks(self, tasks: Mapping[str, TaskRecord], now_ms: int) -> list[str]:
        """Take in the tasks as they are now; name those whose record or obstacle has changed."""
        before = self.progress
        self.progress = now = Progress(tasks, self.rules, now_ms)
        return [
            name
            for name, task in tasks.items()
            if before.tasks.get(name) != task or before.waits_for(name) != now.waits_for(name)
        ]

    def document(self) -> dict[str, Any]:
        """Return the sums and the last moves for programs."""
        moves = [one._asdict() for one in self.moves]
        return {"at_ms": self.at_ms, **self.progress.document(), "moves": moves}


def task_frame(
    board: TaskBoard, width: int = WIDTH_DEFAULT, height: int = HEIGHT_DEFAULT
) -> list[Line]:
    """Return the lines that show the tasks. None is wider than `width` cells of a terminal."""
    width = max(width, WIDTH_MIN)
    title = f"{board.session}  {clock(board.at_ms, 0)}  {board.trouble or overall(board)}"
    lines: list[Line] = [row(width, (title, 0, "bold red" if board.trouble else "bold"))]
    moves = _moves(board, width, min(MOVES_SHOWN, max(1, height // 5)))
    room = height - 2 - (len(moves) + 1 if moves else 0)
    for part in (task_lines(board, width, room), moves):
        lines += [[("", "")], *part] if part else []
    return lines[:height]


def snapshot(board: TaskBoard, width: int = LINE_CHARS_MAX) -> list[Line]:
    """Return the lines that show all tasks and the last moves, as a part of something longer."""
    lines: list[Line] = [row(width, (f"Tasks: {overall(board)}", 0, ""))]
    lines += [[("  ", ""), *line] for line in task_lines(board, width - 2, None)]
    moves = _moves(board, width, MOVES_SHOWN)
    return lines + ([[("", "")], *moves] if moves else [])


def overall(board: TaskBoard) -> str:
    """Say in a phrase how far all tasks are."""
    summary = board.progress.summary()
    if not summary.total:
        return "no tasks yet"
    counts = summary.counts
    some = [one for one in Stand if one is not Stand.COMPLETED and counts.get(one)]
    noun = "task" if summary.total == 1 else "tasks"
    parts = [f"{summary.done:,} of {summary.total:,} {noun} completed"]
    parts += [f"{counts[one]:,} {_verb(one, counts[one])}" for one in some]
    text = ", ".join(parts)
    if summary.to_go_ms is None:
        return text
    guess = f" ({summary.guessed:,} without an estimate)" if summary.guessed else ""
    return f"{text}; about {span(summary.to_go_ms)} to go{guess}"


def _verb(stand: Stand, count: int) -> str:
    return "wait" if stand is Stand.WAITS and count > 1 else stand.value


def task_lines(board: TaskBoard, width: int, lines_max: int | None) -> list[Line]:
    """Return a line for each task, below one for its stream and terminal.

    Where not all have room, those that need a person come first, then those at work.
    """
    progress = board.progress
    groups = progress.groups()
    stands = {name: progress.stand(name) for name in progress.tasks}
    shown = set(stands) if lines_max is None else _shown(groups, stands, lines_max)
    if not shown:
        return []
    agents = [_agent(progress.tasks[name]) for name in shown]
    task_chars = min(_TASK_CHARS_MAX, max([4, *map(cells, shown)]))
    agent_chars = min(_AGENT_CHARS_MAX, max([5, *map(cells, agents)]))
    bar_chars = 10 if width < 100 else 20
    widths = (task_chars, bar_chars, 5, _STAND_CHARS, agent_chars, _TO_GO_CHARS, 0)
    titles = ("TASK", "", " DONE", "STATUS", "AGENT", "TO GO", "WAITS FOR / UNBLOCKS / AT")
    lines = [row_of(width, titles, widths, "dim")]
    for (stream, terminal), names in groups.items():
        some = [name for name in names if name in shown]
        if not some:
            continue
        where = f"Stream {stream}" if stream else "No stream"
        where += f", terminal {terminal}" if terminal else ""
        lines.append(row(width, (f"{where}: {_group(progress.summary(names))}", 0, "bold")))
        for name in some:
            cut = zip(_columns(progress, name, bar_chars), widths, strict=True)
            lines.append(row(width, *((text, chars, style) for (text, style), chars in cut)))
    if len(shown) < len(stands):
        left_out = Counter(one for name, one in stands.items() if name not in shown)
        more = ", ".join(f"{left_out[one]:,} {one}" for one in Stand if left_out[one])
        lines.append(row(width, (f"… and more: {more}", 0, "dim")))
    return lines


def _shown(
    groups: Mapping[tuple[str, int], list[str]], stands: Mapping[str, Stand], lines_max: int
) -> set[str]:
    """Choose the tasks that have room; the header and the line about the rest need some too."""
    room = lines_max - 1
    if len(stands) + len(groups) > room:
        room -= 1
    group_of = {name: group for group, names in groups.items() for name in names}
    shown: set[str] = set()
    headed: set[tuple[str, int]] = set()
    for name in sorted(group_of, key=lambda name: _URGENCY[stands[name]]):
        needed = 1 if group_of[name] in headed else 2
        if needed > room:
            break
        room -= needed
        headed.add(group_of[name])
        shown.add(name)
    return shown


def _group(summary: Summary) -> str:
    text = f"{summary.percent:.0f} %, {summary.done:,} of {summary.total:,} completed"
    at_work = summary.counts.get(Stand.IN_PROGRESS, 0)
    text += f", {at_work:,} in progress" if at_work else ""
    return text if summary.to_go_ms is None else f"{text}, about {span(summary.to_go_ms)} to go"


def _columns(progress: Progress, name: str, bar_chars: int) -> Iterator[tuple[str, str]]:
    """Yield text and style of each column of a task's line."""
    task, stand, to_go_ms = progress.tasks[name], progress.stand(name), progress.to_go_ms(name)
    style = _STYLES[stand]
    done = min(max(task.progress_percent, 0), 100)
    filled = round(bar_chars * done / 100)
    yield name, ""
    yield "█" * filled + "·" * (bar_chars - filled), style
    yield f"{done:3.0f} %", ""
    yield stand.value, style
    yield _agent(task), ""
    overdue = "overdue" if stand is Stand.IN_PROGRESS else ""
    yield "" if to_go_ms is None else span(to_go_ms) if to_go_ms else overdue, ""
    yield detail(progress, name), "red" if stand is Stand.FAILED else "dim"


def _agent(task: TaskRecord) -> str:
    return task.offered_to or task.agent


def detail(progress: Progress, name: str) -> str:
    """Say what there is to say of a task: what it waits for, what it unblocks, or where it is."""
    task, stand = progress.tasks[name], progress.stand(name)
    behind = progress.unblocks(name)
    if stand is Stand.WAITS:
        return progress.waits_for(name)
    if stand is Stand.FAILED:
        question = f"fabric decide {task.question} retry" if task.question else ""
        return question or f"fabric tasks retry {name}"
    if stand is Stand.COMPLETED:
        return f"unblocks {listed(behind)}" if behind else ""
    parts = [task.checkpoint if stand is Stand.IN_PROGRESS else ""]
    parts.append("slow" if task.straggler else "")
    parts.append(f"{listed(behind)} after it" if behind else "")
    return ", ".join(filter(None, parts))


def _moves(board: TaskBoard, width: int, count: int) -> list[Line]:
    lines: list[Line] = [row(width, (_MOVES_TITLE, 0, "dim"))]
    for one in list(board.moves)[-count:]:
        at = f"{clock(one.ms, board.opened_ms):>6}"
        text = f"{one.task} {one.what}: {one.reason}"
        lines.append(row(width, (at, 7, "dim"), (text, 0, "")))
    return lines if board.moves else []


class PlainTasks:
    """Prints all tasks once there are any, then a line for each one that changes and each move."""

    def __init__(self, echo: Callable[[str], None]) -> None:
        self._echo = echo
        self._is_begun = self._has_said = False

    def __call__(self, board: TaskBoard, news: TaskNews) -> None:
        """Print what is new since the last call."""
        if not self._is_begun:
            self._is_begun = bool(board.progress.tasks)
            for line in snapshot(board) if self._is_begun or not self._has_said else ():
                self._echo(text_of(line))
            self._has_said = True
            return
        at = f"{clock(board.at_ms, 0):>6}"
        for one in news.moves:
            self._echo(f"{clock(one.ms, board.opened_ms):>6}  {one.task} {one.what}: {one.reason}")
        for name in news.tasks:
            task, stand = board.progress.tasks[name], board.progress.stand(name)
            to_go_ms = board.progress.to_go_ms(name)
            parts = [
                stand.value,
                f"{task.progress_percent:g} %",
                _agent(task),
                f"{span(to_go_ms)} to go" if to_go_ms and stand is Stand.IN_PROGRESS else "",
                detail(board.progress, name),
            ]
            self._echo(f"{at}  {name}: {', '.join(filter(None, parts))}")
