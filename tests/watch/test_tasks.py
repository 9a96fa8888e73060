"""The layout of `fabric status --follow`: every line fits, and what needs a person is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.rules import Rules
from fabric.core.task import TaskRecord, TaskStatus
from fabric.view.progress import Move
from fabric.watch.frame import cells, text_of
from fabric.watch.tasks import PlainTasks, TaskBoard, TaskNews, snapshot, task_frame

SIZES = [(40, 10), (80, 24), (120, 40), (200, 60)]


def task(status: TaskStatus = TaskStatus.PENDING, **more: object) -> TaskRecord:
    return TaskRecord("", status, is_listed=True, **more)  # type: ignore[arg-type] # fields of the record, by name


def board_of(tasks: dict[str, TaskRecord], now_ms: int = 0) -> TaskBoard:
    board = TaskBoard("s")
    board.rules = Rules()
    board.take_tasks(tasks, now_ms)
    return board


def drawn(board: TaskBoard, width: int = 100, height: int = 24) -> list[str]:
    lines = [text_of(line) for line in task_frame(board, width, height)]
    assert len(lines) <= height
    assert all(cells(line) <= width for line in lines), lines
    assert all(line.isprintable() for line in lines), lines
    return lines


FEW = {
    "schema": task(TaskStatus.COMPLETED, stream="A", progress_percent=100, agent="X"),
    "api": task(
        TaskStatus.IN_PROGRESS, stream="A", terminal=2, progress_percent=50, progressed_ms=60_000,
        checkpoint="routes", agent="X", writes=["api.py"], can_merge_after=["schema"],
    ),
    "client": task(stream="B", writes=["api.py"], estimate_ms=300_000),
    "release": task(can_merge_after=["api", "client"]),
    "lint": task(TaskStatus.FAILED, stream="B", question="7:task", agent="Y"),
}  # fmt: skip


#: The first line of the view below.
TITLE = "s  1:00  1 of 5 tasks completed, 1 in progress, 2 wait, 1 failed; about 16 min to go "


def test_tasks_stand_by_stream_and_terminal_with_bar_time_and_what_they_wait_for() -> None:
    board = board_of(FEW, 60_000)
    board.moves.append(Move("3-1", 1_000, "api", "offered to X", "Z has not finished it"))
    assert drawn(board) == [
        f"{TITLE}(1 without an …",
        "",
        "TASK                          DONE STATUS      AGENT TO GO   WAITS FOR / UNBLOCKS / AT",
        "Stream A: 100 %, 1 of 1 completed",
        "schema  ████████████████████ 100 % completed   X             unblocks api",
        "Stream A, terminal 2: 50 %, 0 of 1 completed, 1 in progress, about 60 s to go",
        "api     ██████████··········  50 % in progress X     60 s    routes, release after it",
        "Stream B: 0 %, 0 of 2 completed, about 5 min to go",
        "client  ····················   0 % waits             5 min   api writes api.py (level 2)",
        "lint    ····················   0 % failed      Y             fabric decide 7:task retry",
        "No stream: 0 %, 0 of 1 completed, about 10 min to go",
        "release ····················   0 % waits                     after api, client",
        "",
        "Last moves of the balancer",
        "  0:01  api offered to X: Z has not finished it",
    ]  # fmt: skip
    whole = [text_of(line) for line in snapshot(board)]
    assert whole[0].endswith("to go (1 without an estimate)")
    assert whole[3] == "  schema  ████████████████████ 100 % completed   X             unblocks api"


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_where_not_all_have_room_those_that_need_a_person_come_first(
    width: int, height: int
) -> None:
    tasks = {f"t{n:04}": task(TaskStatus.COMPLETED, stream=f"s{n % 9}") for n in range(5_000)}
    tasks |= {"bad": task(TaskStatus.FAILED), "now": task(TaskStatus.IN_PROGRESS)}
    lines = drawn(board_of(tasks), width, height)
    assert any(line.startswith("bad") for line in lines)
    assert any(line.startswith("now") for line in lines)
    shown = sum(line.startswith("t0") for line in lines)
    assert lines[-1] == f"… and more: {5_000 - shown:,} completed"


def test_it_ends_when_every_task_is_completed_or_failed_or_the_run_is_closed() -> None:
    assert not board_of({}).has_ended
    assert drawn(board_of({})) == ["s  0:00  no tasks yet"]
    assert not board_of({"a": task(TaskStatus.COMPLETED), "b": task()}).has_ended
    assert board_of({"a": task(TaskStatus.COMPLETED), "b": task(TaskStatus.FAILED)}).has_ended
    board = board_of(FEW)
    board.is_closed = True
    assert board.has_ended


def test_lines_say_what_changes_and_of_tasks_that_a_change_frees() -> None:
    board, said = TaskBoard("s"), list[str]()
    show = PlainTasks(said.append)
    board.rules = Rules()
    for _ in range(2):
        show(board, TaskNews([], []))
        assert said == ["Tasks: no tasks yet"]
    said.clear()
    show(board, TaskNews(board.take_tasks(FEW, 60_000), []))
    assert said[0].startswith("Tasks: 1 of 5 tasks completed")
    said.clear()
    show(board, TaskNews(board.take_tasks(FEW, 61_000), []))
    assert said == []
    done = TaskRecord("", TaskStatus.COMPLETED, progress_percent=100, agent="X")
    moved = Move("9-1", 61_500, "client", "offered to Y", "why")
    show(board, TaskNews(board.take_tasks({**FEW, "api": done}, 62_000), [moved]))
    assert said == [
        "  1:01  client offered to Y: why",
        "  1:02  api: completed, 100 %, X, unblocks release",
        "  1:02  client: ready, 0 %, release after it",
        "  1:02  release: waits, 0 %, after client",
    ]


@given(
    name=st.text(max_size=60),
    size=st.sampled_from(SIZES),
    percent=st.floats(0, 100),
)
def test_whatever_agents_say_every_line_fits_and_prints(
    name: str, size: tuple[int, int], percent: float
) -> None:
    hostile = task(
        TaskStatus.IN_PROGRESS, stream=name, agent=name, checkpoint=name, progress_percent=percent
    )
    board = board_of({name: hostile, f"{name}2": task(can_merge_after=[name])})
    board.moves.append(Move("1-0", 5, name, name, name))
    drawn(board, *size)
