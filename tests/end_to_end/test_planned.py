"""What `fabric plan` says before, and what real agents then meet: no conflict that it did not name.

The file has every case of levels 1, 2 and 3, and beside each one a pair that is parallel.
"""

import asyncio
import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from fabric.core.task import TaskSpec
from fabric.wire.task_file import parse
from tests.end_to_end.crew import Crew
from tests.support.daemon import StartDaemon, environment
from tests.support.servers import RunningServer

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

RULES = """
[locks]
serialize_reads = true
[tasks]
mode = "{mode}"
attempts_max = 0
straggler = "off"
[tasks.coordinators]
LEAD = 2
[liveness]
silence_ms_min = 60000
silence_ms_max = 600000
mass_silence_percent = 0
[[domains]]
pattern = "alembic/**"
coordinator = "DBA"
exclusive = true
[[domains]]
pattern = "src/**"
coordinator = "LEAD"
[[triggers]]
name = "release"
tags = ["release-*"]
"""

TASKS = """
# Level 1: an exclusive domain. Two write in it, two read in it; those are parallel.
[tasks.schema]
writes = ["alembic/1.py"]
[tasks.index]
writes = ["alembic/2.py"]
[tasks.audit]
writes = ["reports/audit.md"]
reads = ["alembic/3.py"]
[tasks.survey]
writes = ["reports/survey.md"]
reads = ["alembic/3.py"]

# Level 2: two writers of a file, a writer and a reader, a folder and a file in it.
[tasks.api]
writes = ["config.py"]
[tasks.worker]
writes = ["config.py", "worker.py"]
[tasks.docs]
writes = ["docs/"]
[tasks.guide]
writes = ["reports/guide.md"]
reads = ["docs/api.md"]
# Two readers, and files beside each other, are parallel; of src/ two at a time.
[tasks.lint]
writes = ["reports/lint.md"]
reads = ["README.md"]
[tasks.spell]
writes = ["reports/spell.md"]
reads = ["README.md"]
[tasks.parser]
writes = ["src/parser.py"]
[tasks.lexer]
writes = ["src/lexer.py"]
[tasks.printer]
writes = ["src/printer.py"]
[tasks.format]
writes = ["src/*.py"]
can_merge_after = ["parser", "lexer"]
# Data flow.
[tasks.test]
writes = ["reports/test.md"]
can_merge_after = ["parser"]
reads = ["src/parser.py"]

# Level 3: all streams meet.
[tasks.release-1]
writes = ["CHANGELOG.md"]
can_merge_after = ["schema", "index", "audit", "survey", "api", "worker", "docs", "guide", "test"]
"""

#: First and second task, level, kind: all that the plan has to say, orders and integration apart.
NAMED = {
    ("index", "schema", 1, "domain"),
    ("audit", "schema", 1, "domain"),
    ("audit", "index", 1, "domain"),
    ("schema", "survey", 1, "domain"),
    ("index", "survey", 1, "domain"),
    ("api", "worker", 2, "write-write"),
    ("docs", "guide", 2, "read-write"),
    ("format", "printer", 2, "write-write"),
    ("format", "test", 2, "read-write"),
}


@pytest.fixture
def listed(tmp_path: Path) -> list[TaskSpec]:
    (tmp_path / "tasks.toml").write_text(TASKS)
    return [
        TaskSpec(one.id, can_merge_after=one.can_merge_after, reads=one.reads, writes=one.writes,
                 estimate_ms=20)
        for one in parse(TASKS.encode(), "tasks.toml")
    ]  # fmt: skip


def planned(folder: Path) -> list[dict[str, Any]]:
    """Return the pairs that `fabric plan` names, in a process of its own."""
    words = ["plan", "tasks.toml", "--rules", "fabric.toml", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "fabric.cli", *words],
        cwd=folder, env=environment(), capture_output=True, check=True,
    )  # fmt: skip
    pairs: list[dict[str, Any]] = json.loads(done.stdout)["pairs"]
    return pairs


def run(crew: Crew, tasks: list[TaskSpec]) -> None:
    asyncio.run(crew.load(tasks))
    assert crew.begin().wait() == 0
    assert crew.count_done() == len(tasks)


def spans(crew: Crew) -> dict[str, tuple[int, int]]:
    """Task → the events of the log between which it was in progress."""
    begun = {row.payload.get("task"): at(row.id) for row in crew.signals("STARTED")}
    ended = {row.payload["task"]: at(row.id) for row in crew.signals("TASK_DONE")}
    return {name: (begun[name], end) for name, end in ended.items()}


def at(id_: str) -> int:
    return int(id_.partition("-")[0])


def test_the_plan_names_every_case_with_its_level_and_reason(
    tmp_path: Path, listed: list[TaskSpec]
) -> None:
    (tmp_path / "fabric.toml").write_text(RULES.format(mode="enforce"))
    pairs = planned(tmp_path)
    shared = {
        (*sorted((one["first"], one["second"])), one["level"], one["kind"])
        for one in pairs if one["kind"] not in ("order", "integration")
    }  # fmt: skip
    assert shared == NAMED
    reasons = {one["reason"] for one in pairs}
    assert {
        "both are in alembic/**, an exclusive domain",
        "both write config.py",
        "docs writes docs/api.md, which guide reads",
        "test waits for parser",
        "release-1 is the integration release: all streams meet there",
    } <= reasons


def test_agents_that_ask_for_tasks_meet_no_conflict(
    server: RunningServer, daemon: StartDaemon, tmp_path: Path, listed: list[TaskSpec]
) -> None:
    (tmp_path / "fabric.toml").write_text(RULES.format(mode="enforce"))
    pairs = planned(tmp_path)
    daemon(server.url, rules=tmp_path / "fabric.toml")
    crew = Crew(server, "asked", ["A", "B", "C", "D", "E", "F"], role="claims")
    run(crew, listed)
    assert crew.conflicts() == []
    together = {
        tuple(sorted((one, other)))
        for (one, mine), (other, theirs) in combinations(spans(crew).items(), 2)
        if mine[0] < theirs[1] and theirs[0] < mine[1]
    }
    apart = {tuple(sorted((one["first"], one["second"]))) for one in pairs}
    assert not together & apart
    assert not any("release-1" in pair for pair in together)
    in_src = {"parser", "lexer", "printer"}
    assert sum(set(pair) <= in_src for pair in together) < 3  # LEAD has two at a time
    assert together  # something ran in parallel


def test_agents_that_ask_nobody_meet_only_conflicts_that_the_plan_has_named(
    server: RunningServer, daemon: StartDaemon, tmp_path: Path, listed: list[TaskSpec]
) -> None:
    (tmp_path / "fabric.toml").write_text(RULES.format(mode="observe"))
    to_come = {
        frozenset((one["first"], one["second"])) for one in planned(tmp_path) if one["is_conflict"]
    }
    daemon(server.url, rules=tmp_path / "fabric.toml")
    crew = Crew(server, "rushed", [task.id for task in listed], role="rushes")
    run(crew, listed)
    met = crew.conflicts()
    assert met, "nobody has met a conflict"
    # A conflict of three names two readers that both are in conflict with one writer.
    for agents in met:
        for one in agents:
            others = [other for other in agents if frozenset((one, other)) in to_come]
            assert others, f"{one} is in a conflict that the plan has not named: {agents}"
    # All of the first wave claimed at once: none of their conflicts to come stayed away.
    first = {task.id for task in listed if not task.can_merge_after}
    assert {one for agents in met for one in agents} & first == {
        one for pair in to_come if pair <= first for one in pair
    }
    # The orchestrator said so to those that began all the same, and of which level it is.
    told = [row.payload.get("reason", "") for row in crew.directives("NOTICE")]
    assert any("(level 1)" in reason for reason in told)
    assert any("(level 2)" in reason for reason in told)
