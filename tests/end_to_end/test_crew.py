"""Agents in processes of their own take a board's tasks: the order holds, all is done once.

Judged by what was done when, never by how long it took; for times: `python -m
tests.end_to_end.crew report`.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from fabric.core.task import TaskSpec
from fabric.wire.task_file import parse
from tests.end_to_end.crew import RULES, Crew, skewed
from tests.support.daemon import Daemon, StartDaemon
from tests.support.fixtures import start_or_fail
from tests.support.servers import RunningServer
from tests.support.waiting import until

pytestmark = pytest.mark.slow

#: The seed's entry, with a check beside it and the merge of both: parallel checks, then a merge.
CHECKS = [
    {
        "id": "auth",
        "content": "Review auth module",
        "status": "pending",
        "activeForm": "Reviewing auth module",
        "parallel_group": "checks",
    },
    {"id": "lint", "content": "Run the linter", "status": "pending", "parallel_group": "checks"},
    {"id": "merge", "content": "Merge", "status": "pending", "can_merge_after": ["auth", "lint"]},
]

#: Phased implementation: two streams in each phase, and what one writes the other reads.
PHASES = [
    TaskSpec("schema", stream="A", writes=["schema.sql"]),
    TaskSpec("tests", stream="B", writes=["tests/**"]),
    TaskSpec("api", stream="A", can_merge_after=["schema"], writes=["api.py"]),
    TaskSpec("client", stream="B", can_merge_after=["schema"], reads=["api.py"]),
    TaskSpec("release", can_merge_after=["api", "client", "tests"]),
]


def run(crew: Crew, tasks: list[TaskSpec], *, kill_at: int = 0) -> None:
    """Have a crew do all tasks; kill its first agent when so many are done."""
    asyncio.run(crew.load(tasks))
    process = crew.begin()
    if kill_at:
        until(lambda: crew.count_done() >= kill_at, "some tasks are done")
        os.kill(crew.pids[0], signal.SIGKILL)
    assert process.wait() == (1 if kill_at else 0)


def check_done(crew: Crew, tasks: list[TaskSpec]) -> None:
    """Check that each task was completed once, and not before those that it comes after."""
    done = [row.payload["task"] for row in crew.signals("TASK_DONE")]
    assert sorted(done) == sorted(task.id for task in tasks)
    ends = {row.payload["task"]: int(row.id.partition("-")[0]) for row in crew.signals("TASK_DONE")}
    for row in crew.signals("STARTED"):
        for task in tasks:
            if row.payload.get("task") == task.id:
                began = int(row.id.partition("-")[0])
                assert all(ends[before] < began for before in task.can_merge_after)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "fabric.toml"
    path.write_text(RULES.format(balance="all", silence_ms=5_000))
    return path


def short(tasks: list[TaskSpec]) -> list[TaskSpec]:
    """Return the tasks with lengths of 20 ms."""
    given = [{**json.loads(json.dumps(_fields(task))), "estimate_ms": 20} for task in tasks]
    return [TaskSpec(**one) for one in given]


def _fields(task: TaskSpec) -> dict[str, object]:
    return {name: getattr(task, name) for name in task.__struct_fields__ if name != "status"}


def test_parallel_checks_then_a_merge(
    server: RunningServer, daemon: StartDaemon, rules: Path
) -> None:
    daemon(server.url, rules=rules)
    tasks = short(parse(json.dumps(CHECKS).encode(), "todos.json"))
    crew = Crew(server, "checks", ["A", "B"])
    run(crew, tasks)
    check_done(crew, tasks)
    shown = crew.tasks()["auth"]
    assert (shown["content"], shown["active_form"], shown["status"]) == (
        "Review auth module", "Reviewing auth module", "completed",
    )  # fmt: skip
    assert (shown["progress_percent"], shown["last_signal"]) == (100, "TASK_DONE")


def test_phases_with_writers_and_readers(
    server: RunningServer, daemon: StartDaemon, rules: Path
) -> None:
    daemon(server.url, rules=rules)
    tasks = short(PHASES)
    crew = Crew(server, "phases", ["A", "B", "C"])
    run(crew, tasks)
    check_done(crew, tasks)
    # One of the two that share api.py ended before the other began.
    log = sorted(
        (int(row.id.partition("-")[0]), row.payload["task"])
        for kind in ("STARTED", "TASK_DONE")
        for row in crew.signals(kind)
        if row.payload.get("task") in ("api", "client")
    )
    assert [name for _, name in log] in (
        ["api", "api", "client", "client"], ["client", "client", "api", "api"],
    )  # fmt: skip


@pytest.mark.parametrize("kill_at", [0, 20], ids=["all live", "one is killed"])
def test_work_moves_from_the_stream_that_has_half_of_it(
    server: RunningServer, daemon: StartDaemon, rules: Path, kill_at: int
) -> None:
    daemon(server.url, rules=rules)
    streams = ["A", "B", "C", "D"]
    tasks = skewed(60, streams, 10)
    crew = Crew(server, "skewed", streams)
    run(crew, tasks, kill_at=kill_at)
    check_done(crew, tasks)
    planned = {task.id: task.stream for task in tasks}
    by = Counter(
        row["emitter"] for row in crew.signals("TASK_DONE") if planned[row.payload["task"]] == "D"
    )
    # D did not do its half alone: the others took a good part of it.
    assert by["D"] < sum(by.values()) * 2 // 3
    # Only what was cut off was begun again.
    again = [name for name, task in crew.tasks().items() if task["attempts"] > 1]
    assert len(again) <= (1 if kill_at else 0)


LIMITS = """
[tasks]
progress_factor = 3
progress_ms_min = 1000
[liveness]
silence_factor = 3
silence_ms_min = 4000
silence_ms_max = 60000
mass_silence_percent = 0
"""


def test_life_without_progress_is_timed_out_and_a_usual_silence_is_not(tmp_path: Path) -> None:
    """By its rhythm an agent is silent here for longer than the shortest of both limits."""
    (tmp_path / "fabric.toml").write_text(LIMITS)
    server = start_or_fail("redis-7.0")
    daemon = Daemon(server.url, rules=tmp_path / "fabric.toml")
    try:
        tasks = [TaskSpec("slow", estimate_ms=60_000), TaskSpec("fast", estimate_ms=60_000)]
        crews = [Crew(server, "limits", [name], role=role) for name, role in
                 (("slow", "stalls"), ("fast", "paces"))]  # fmt: skip
        asyncio.run(crews[0].load(tasks))
        processes = [crew.begin() for crew in crews]
        assert [process.wait() for process in processes] == [0, 0]
        (told,) = crews[0].directives("CANCEL")
        found = crews[0].tasks()
        beats = crews[0].signals("HEARTBEAT")
        silence_ms = max(gaps(crews[0], "fast"))
    finally:
        daemon.close()
        server.remove()
    assert (told["to"], told.payload["code"], told.payload["task"]) == ("slow", "TIMEOUT", "slow")
    reason = told.payload["reason"]
    assert reason.startswith("slow has made no progress on slow for ")
    assert "and the limit is " in reason
    assert "and the limit of its silence is " in reason
    assert found["slow"]["status"] == "pending"
    # The one was heard all the time, the other was silent for longer than both limits.
    assert {row["emitter"] for row in beats} == {"slow"}
    assert silence_ms > 4_000
    assert (found["fast"]["status"], found["fast"]["attempts"]) == ("completed", 1)


def gaps(crew: Crew, agent: str) -> list[int]:
    """Return the times between two signals of an agent, ms."""
    said = [int(row["ms"]) for row in crew.rows(kind="signal", emitter=agent)]
    return [later - sooner for sooner, later in pairwise(said)]
