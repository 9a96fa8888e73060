"""`fabric handoff`: one document of a session, and the next session that begins from it."""

import json
from pathlib import Path

import msgspec
import pytest

from fabric.core.limits import LIST_ITEMS_MAX, TASK_DESCRIPTION_CHARS_MAX
from fabric.core.record import AgentRecord, AgentStatus, ClaimRecord, ClaimState
from fabric.core.task import TaskRecord, TaskSpec, TaskStatus, prerequisites
from fabric.ops.handoff import carried
from fabric.wire.handoff import Handoff
from tests.support.shell import Shell

LISTED = """
[tasks.T1]
content = "Write the schema"
stream = "A"
[tasks.T2]
content = "Use it | <b>"
stream = "B"
can_merge_after = ["T1"]
writes = ["api.py"]
[tasks.T3]
stream = "B"
can_merge_after = ["T2"]
"""

GIT = '{"branch": "dev", "base": "abc123", "commit": "def456", "files": ["schema.sql"]}'


@pytest.fixture
def stopped(shell: Shell, tmp_path: Path) -> Shell:
    """A session in the middle: A is done, B is at work, waits and has asked, nobody goes on."""
    path = tmp_path / "tasks.toml"
    path.write_text(LISTED)
    del shell.variables["FABRIC_AGENT"]
    shell.run("tasks", "load", str(path))

    def say(agent: str, *words: str) -> None:
        stream = f"stream={agent}"
        done = shell.run("emit", *words, f"emitter={agent}", stream, "--confirm")
        assert done.code == 0, done.err

    say("A", "STARTED(T1)", 'produces=["schema"]')
    say("A", "DEPENDENCY_RESOLVED", "dependency_id=schema", "output_location=schema.sql")
    told = f'{{"checkpoint": "written", "git": {GIT}, "note": "keep the old column"}}'
    say("A", "CHECKPOINT_REACHED", f"payload={told}")
    say("A", "TASK_DONE(T1)")
    say("B", "STARTED(T2)")
    say("B", "INTENT", 'writes=["lib/**"]')
    say("B", "PROGRESS(40%)")
    say("B", "ESCALATE", "id=q1", "question=Which port?", 'options=["80", "81"]', "wait=false")
    say("B", "ESCALATE", "id=q2", "question=Keep v1?", "wait=false")
    assert shell.run("decide", "q1", "81", "--by", "alice").code == 0
    say("B", "BLOCKED(reviews)")
    return shell


def tasks_of(shell: Shell, session: str) -> dict[str, dict[str, object]]:
    found = shell.run("tasks", "list", session, "--json").out
    return {task["id"]: task for task in json.loads(found)}


def test_a_handoff_tells_everything_and_the_same_each_time(stopped: Shell) -> None:
    name = stopped.variables["FABRIC_SESSION"]
    first = stopped.run("handoff")
    assert first.code == 0
    for part in (
        f"# Handoff of session {name}",
        "- branch: dev",
        "- base commit: abc123",
        "| A | 100 % | def456 |  |  |  |",
        "| B | 20 % |  | T2 | reviews | finish T2 |",
        "A: written (",
        "- resolved: schema at schema.sql, by A",
        "Which port? — 81, by alice",
        "- B had lib/",
        "- schema.sql",
        "keep the old column",
    ):
        assert part in first.out, part
    assert stopped.run("handoff", name).out == first.out


def test_the_next_session_goes_on_where_the_last_one_was(stopped: Shell, tmp_path: Path) -> None:
    out, name = tmp_path / "HANDOFF.md", stopped.variables["FABRIC_SESSION"]
    following = f"{name}-next"
    assert stopped.run("handoff", "--out", str(out)).code == 0
    begun = stopped.run("handoff", following, "--resume", str(out))
    assert (begun.code, begun.err) == (
        0,
        f"fabric: {following} begun from {name}: 3 tasks, 1 of them completed\n",
    )
    tasks = tasks_of(stopped, following)
    assert {name: task["status"] for name, task in tasks.items()} == {
        "T1": "completed", "T2": "pending", "T3": "pending",
    }  # fmt: skip
    assert tasks["T2"]["writes"] == ["api.py", "lib/**"]
    assert tasks["T2"]["description"] == "Before the handoff B waited for reviews."
    # What was produced is there; what was decided too; the open question waits for its answer.
    assert stopped.run("wait", "schema", FABRIC_SESSION=following, FABRIC_AGENT="C").code == 0
    asked = stopped.run("escalations", following, "--all", "--json")
    found = {one["id"]: one for one in asked.json_lines}
    assert (found["q1"]["decision"], found["q1"]["by"]) == ("81", "alice")
    assert not found["q2"].get("decision")
    # Open work is done, done work is not repeated.
    assert stopped.run("tasks", "next", FABRIC_SESSION=following, FABRIC_AGENT="C").out == "T2\n"
    again = stopped.run("handoff", following, "--resume", name)
    assert (again.code, again.err) == (
        2,
        f"fabric: session {following} exists: a handoff begins a new one\n",
    )


def test_a_handoff_whose_tasks_make_no_sense_begins_nothing(stopped: Shell, tmp_path: Path) -> None:
    out, name = tmp_path / "HANDOFF.md", stopped.variables["FABRIC_SESSION"]
    stopped.run("handoff", "--out", str(out))
    text = out.read_text()
    assert '"can_merge_after":["T1"]' in text
    out.write_text(text.replace('"can_merge_after":["T1"]', '"can_merge_after":["T3"]'))
    done = stopped.run("handoff", f"{name}-odd", "--resume", str(out))
    assert (done.code, done.err) == (
        2, "fabric: the handoff's tasks: T2 → T3 → T2: each waits for the next\n",
    )  # fmt: skip
    out.write_text(text)
    assert stopped.run("handoff", f"{name}-odd", "--resume", str(out)).code == 0


def test_what_is_carried_over_stays_within_the_limits_of_a_task() -> None:
    waits = AgentRecord(AgentStatus.BLOCKED, 1, task="T", claims=["c"], waits_for=["review"])
    claim = ClaimRecord("A", ClaimState.HELD, ["lib.py"])
    task = TaskRecord("T", TaskStatus.IN_PROGRESS, "A")
    task.description = "d" * TASK_DESCRIPTION_CHARS_MAX
    task.writes = [f"{number}.py" for number in range(LIST_ITEMS_MAX)]
    found = Handoff("s", "1-0", 0, {"A": waits}, {"T": task}, {}, {"c": claim}, {}, {})
    (spec,) = msgspec.convert(msgspec.to_builtins(carried(found).tasks), list[TaskSpec])
    assert spec.description.endswith("…\nBefore the handoff A waited for review.")
    assert spec.writes[-1] == "lib.py"
    assert len(spec.writes) == LIST_ITEMS_MAX


def test_a_task_that_comes_after_very_many_is_carried_over() -> None:
    names = [f"t{number}" for number in range(LIST_ITEMS_MAX + 2)]
    tasks = {name: TaskRecord("", TaskStatus.PENDING) for name in names}
    tasks["merge"] = TaskRecord("", TaskStatus.PENDING, can_merge_after=names, added=1)
    found = carried(Handoff("s", "1-0", 0, {}, tasks, {}, {}, {}, {})).tasks
    specs = msgspec.convert(msgspec.to_builtins(found), list[TaskSpec])
    assert sorted(prerequisites(specs)["merge"]) == sorted(names)


def test_a_file_that_is_no_handoff_is_refused(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "other.md"
    path.write_text("# Notes\n```json\n{}\n```\n")
    done = shell.run("handoff", "next", "--resume", str(path))
    assert done.code == 2
    assert "is no handoff: it lacks the JSON" in done.err
