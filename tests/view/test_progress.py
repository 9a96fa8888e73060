"""How far tasks are: what each one waits for, times to go, and the balancer's moves."""

import json

import pytest

from fabric.core.rule_table import Domain, Trigger
from fabric.core.rules import Rules
from fabric.core.task import TaskRecord, TaskStatus
from fabric.view.progress import Move, Progress, Stand, move

RULES = Rules(
    domains=(Domain("alembic/**", exclusive=True, coordinator="DBA"),),
    triggers=(Trigger("release", tags=("release-*",)),),
    coordinator_tasks_max={"QA": 1},
)


def task(status: TaskStatus = TaskStatus.PENDING, **more: object) -> TaskRecord:
    return TaskRecord("", status, is_listed=True, **more)  # type: ignore[arg-type] # fields of the record, by name


def test_each_pending_task_says_what_it_waits_for() -> None:
    tasks = {
        "schema": task(TaskStatus.IN_PROGRESS, writes=["alembic/1.py"], agent="A"),
        "worker": task(TaskStatus.IN_PROGRESS, writes=["config.py"], agent="B"),
        "index": task(writes=["alembic/2.py"]),
        "api": task(writes=["config.py"]),
        "docs": task(reads=["config.py"]),
        "lint": task(),
        "merge": task(can_merge_after=["lint", "api"]),
        "release-1": task(),
        "old": task(TaskStatus.COMPLETED),
        "bad": task(TaskStatus.FAILED),
    }
    progress = Progress(tasks, RULES, 0)
    assert {name: progress.waits_for(name) for name in tasks if progress.waits_for(name)} == {
        "index": "schema is at work in alembic/**, an exclusive domain (level 1)",
        "api": "worker writes config.py (level 2)",
        "docs": "worker writes config.py (level 2)",
        "merge": "after lint, api",
        "release-1": "release-1 integrates release and runs alone, after schema, worker (level 3)",
    }
    stands = {name: progress.stand(name) for name in tasks}
    assert stands == {
        "schema": Stand.IN_PROGRESS, "worker": Stand.IN_PROGRESS, "lint": Stand.READY,
        **dict.fromkeys(("index", "api", "docs", "merge", "release-1"), Stand.WAITS),
        "old": Stand.COMPLETED, "bad": Stand.FAILED,
    }  # fmt: skip
    assert progress.unblocks("lint") == ["merge"]
    # Rules that are not known say nothing; the order of the tasks is known all the same.
    unruled = Progress(tasks, None, 0)
    assert (unruled.waits_for("api"), unruled.waits_for("merge")) == ("", "after lint, api")


@pytest.mark.parametrize(
    ("now_ms", "percent", "to_go_ms"),
    [
        (10_000, 25, 30_000),  # by its own rate: a quarter took 10 s
        (20_000, 25, 20_000),  # of which 10 s have passed
        (99_000, 25, 0),
        (15_000, 0, 55_000),  # no rate yet: by its estimate, since it began
    ],
)
def test_the_time_to_go_of_a_task_in_progress(now_ms: int, percent: int, to_go_ms: int) -> None:
    progressed_ms = 10_000 if percent else 0
    one = task(
        TaskStatus.IN_PROGRESS,
        estimate_ms=70_000,
        progress_percent=percent,
        progressed_ms=progressed_ms,
    )
    assert Progress({"t": one}, None, now_ms).to_go_ms("t") == to_go_ms


def test_the_sum_is_no_less_than_the_longest_path() -> None:
    tasks = {
        "a": task(TaskStatus.IN_PROGRESS, stream="A", terminal=2, estimate_ms=10_000),
        "b": task(TaskStatus.IN_PROGRESS, stream="A", terminal=1, estimate_ms=10_000),
        "c": task(can_merge_after=["a"], estimate_ms=60_000),
        "d": task(can_merge_after=["a"]),
        "e": task(TaskStatus.COMPLETED, stream="A", terminal=1, progress_percent=100),
    }
    progress = Progress(tasks, Rules(), 0)
    assert list(progress.groups()) == [("A", 1), ("A", 2), ("", 0)]
    whole = progress.summary()
    assert (whole.total, whole.done, whole.percent, whole.guessed) == (5, 1, 20, 1)
    assert whole.to_go_ms == 10_000 + 600_000  # a and d, which counts as 10 minutes
    part = progress.summary(["b", "e"])
    assert (part.to_go_ms, part.percent) == (10_000, 50)
    assert progress.summary(["e"]).to_go_ms is None
    document = progress.document()
    assert (document["tasks"], document["in_progress"], document["waits"]) == (5, 2, 2)
    assert [group["terminal"] for group in document["groups"]] == [1, 2, None]
    (shown,) = progress.documents(["c"])
    assert (shown["stand"], shown["waits_for"], shown["to_go_ms"]) == ("waits", "after a", 60_000)


def entry(kind: str, word: str, to: str = "", **payload: object) -> list[bytes]:
    fields = {"kind": kind, "type": word, "to": to, "ms": "7", "payload": json.dumps(payload)}
    return [part.encode() for pair in fields.items() for part in pair]


@pytest.mark.parametrize(
    ("flat", "told"),
    [
        (
            entry("directive", "ASSIGN", "A", task="t", from_stream="", reason="B has left it"),
            ("t", "offered to A", "B has left it"),
        ),
        (
            entry("directive", "ASSIGN", "A", task="t", from_stream=""),
            ("t", "offered to A", "the most urgent that is ready"),
        ),
        (
            entry("directive", "CANCEL", "A", task="t", code="TIMEOUT", reason="no progress"),
            ("t", "taken from A", "no progress"),
        ),
        (
            entry("directive", "NOTICE", "A", code="STRAGGLER", reason="t is 3.0 times as slow"),
            ("t", "A is told", "t is 3.0 times as slow"),
        ),
        ([b"kind", b"derived", b"type", b"TIMER", b"timer", b"offer:t", b"ms", b"7"],
         ("t", "is free again", "it was offered, and not begun in time")),
        (entry("directive", "CANCEL", "A", task="t", code="TAKEN", reason="B has t"), None),
        (entry("directive", "CANCEL", "A", task="t", code="DONE", reason="t was completed"), None),
        (entry("directive", "ASSIGN", "A", from_stream="B"), None),
        (entry("signal", "ASSIGN", "A", task="t"), None),
        ([b"kind"], None),
    ],
)  # fmt: skip
def test_what_the_log_says_of_moves(flat: list[bytes], told: tuple[str, str, str] | None) -> None:
    assert move(b"5-1", flat) == (None if told is None else Move("5-1", 7, *told))
