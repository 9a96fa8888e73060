"""Lists of tasks load as people and coding agents write them; what is wrong is named."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.limits import SESSION_TASKS_MAX
from fabric.core.task import TaskSpec, TaskStatus
from fabric.errors import TaskFileError
from fabric.wire.task_file import parse, tasks_of
from tests.support.effort import examples

#: The example of RESULT_STREAMING, "Integration with TodoWrite".
STREAMED = {
    "content": "Review auth module",
    "status": "in_progress",
    "activeForm": "Reviewing auth module",
    "progress_percent": 75,
    "last_signal": "PARTIAL_RESULT",
    "partial_findings": ["2 security issues", "1 performance concern"],
}

#: The two usage patterns of TODO_PARALLEL_SCHEMA.
CHECKS = [
    {"content": "Run pytest", "parallel_group": "ci", "stream": "A"},
    {"content": "Run eslint", "parallel_group": "ci", "stream": "B"},
    {"content": "Run mypy", "parallel_group": "ci", "stream": "C"},
    {"content": "Merge results", "can_merge_after": ["pytest", "eslint", "mypy"]},
]
PHASES = [
    {"content": "Design schema", "blocks": ["implement-api", "write-tests"]},
    {"content": "Implement API", "can_merge_after": ["design-schema"], "parallel_group": "impl"},
    {"content": "Write tests", "can_merge_after": ["design-schema"], "parallel_group": "impl"},
    {"content": "Integration", "can_merge_after": ["implement-api", "write-tests"]},
]


def test_the_example_of_the_seed_loads_as_it_is() -> None:
    found = TaskSpec(
        "review-auth-module",
        "Review auth module",
        active_form="Reviewing auth module",
        status=TaskStatus.IN_PROGRESS,
        progress_percent=75,
        last_signal="PARTIAL_RESULT",
        partial_findings=["2 security issues", "1 performance concern"],
    )
    for document in (STREAMED, [STREAMED], {"todos": [STREAMED]}):
        assert tasks_of(document) == [found]
    call = {"type": "tool_use", "name": "TodoWrite", "input": {"todos": [STREAMED]}}
    assert tasks_of(call) == [found]


def test_of_several_calls_of_todowrite_the_last_one_holds() -> None:
    calls = [
        {"type": "tool_use", "name": "TodoWrite", "input": {"todos": [{"content": "Old"}]}},
        {"type": "tool_use", "name": "TodoWrite", "input": {"todos": [STREAMED]}},
    ]
    assert [task.content for task in tasks_of(calls)] == ["Review auth module"]


def test_a_cancelled_todo_is_left_out() -> None:
    todos = [
        {"id": "1", "content": "A", "status": "cancelled", "priority": "low"},
        {"id": "2", "content": "B", "status": "pending", "blockedBy": ["1"], "priority": "high"},
    ]
    (task,) = tasks_of({"todos": todos})
    assert (task.id, task.can_merge_after) == ("2", [])


def test_a_task_created_beside_numbered_ones_gets_the_next_number() -> None:
    calls = [{"id": "7", "subject": "A"}, {"subject": "B"}, {"taskId": "8", "owner": "X"}]
    assert [(task.id, task.owner) for task in tasks_of(calls)] == [("7", ""), ("8", "X")]
    assert [task.id for task in tasks_of([{"id": "2", "subject": "A"}, {"subject": "B"}])] == [
        "2", "3",
    ]  # fmt: skip


def test_a_todo_list_calls_its_tasks_by_their_words() -> None:
    checks = tasks_of(CHECKS)
    assert [task.id for task in checks] == ["pytest", "eslint", "mypy", "merge-results"]
    assert checks[3].can_merge_after == ["pytest", "eslint", "mypy"]
    phases = tasks_of(PHASES)
    names = ["design-schema", "implement-api", "write-tests", "integration"]
    assert [task.id for task in phases] == names
    assert phases[0].blocks == names[1:3]


def test_two_names_of_one_task_mean_that_task() -> None:
    tasks = tasks_of(
        [
            {"content": "Run the tests"},
            {"content": "A", "can_merge_after": ["the-tests"]},
            {"content": "B", "can_merge_after": ["run-the-tests", "tests"]},
        ]
    )
    assert [task.id for task in tasks] == ["the-tests", "a", "b"]
    assert tasks[2].can_merge_after == ["the-tests", "the-tests"]


def test_calls_of_newer_agents_load() -> None:
    calls = [
        {"name": "TaskCreate", "input": {"subject": "Schema", "description": "All tables"}},
        {"subject": "API", "activeForm": "Writing", "metadata": {"writes": ["api.py"], "mood": 1}},
        {"subject": "Draft"},
        {"taskId": "2", "addBlockedBy": ["1"], "owner": "B", "status": "in_progress"},
        {"name": "TaskUpdate", "input": {"taskId": "2", "addBlockedBy": ["3"]}},
        {"taskId": 1, "addBlocks": ["3"], "metadata": {"parallel_group": "g", "estimate": "2 h"}},
    ]
    one, two, three = tasks_of(calls)
    assert one == TaskSpec(
        "1",
        "Schema",
        description="All tables",
        blocks=["3"],
        parallel_group="g",
        estimate_ms=7_200_000,
    )
    assert (two.owner, two.status, two.can_merge_after) == ("B", "in_progress", ["1", "3"])
    assert (two.writes, two.active_form) == (["api.py"], "Writing")
    assert three.content == "Draft"
    gone = tasks_of([*calls, {"taskId": "3", "status": "deleted"}])
    assert [(task.id, task.blocks, task.can_merge_after) for task in gone] == [
        ("1", [], []),
        ("2", [], ["1"]),
    ]


def test_the_tasks_that_those_calls_made_load() -> None:
    stored = [
        {"id": "1", "subject": "A", "status": "completed", "blocks": ["2"], "blockedBy": []},
        {"id": "2", "subject": "B", "status": "pending", "blocks": [], "blockedBy": ["1"], "x": 1},
    ]
    assert tasks_of(stored) == [
        TaskSpec("1", "A", status=TaskStatus.COMPLETED, blocks=["2"]),
        TaskSpec("2", "B", can_merge_after=["1"]),
    ]


TOML = """
[[tasks]]
id = "schema"
writes = ["alembic/**"]
estimate = "20 min"
priority = 5

[[tasks]]
id = "api"
can_merge_after = ["schema"]
"""


def test_toml_and_json_say_the_same() -> None:
    found = [
        TaskSpec("schema", writes=["alembic/**"], estimate_ms=1_200_000, priority=5),
        TaskSpec("api", can_merge_after=["schema"]),
    ]
    assert parse(TOML.encode(), "plan.toml") == found
    tables = '[tasks.schema]\nwrites = ["alembic/**"]\nestimate_ms = 1_200_000\npriority = 5\n'
    tables += '[tasks.api]\ncanMergeAfter = ["schema"]\n'
    assert parse(tables.encode(), "PLAN.TOML") == found
    as_json = {
        "tasks": [
            {"id": "schema", "writes": ["alembic/**"], "estimate": "20 min", "priority": 5},
            {"id": "api", "can_merge_after": ["schema"]},
        ]
    }
    assert parse(json.dumps(as_json).encode(), "-") == found


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([{"id": "a"}, {"id": "a"}], "a is listed twice"),
        ([{"content": "Do it"}, {"content": "do it!"}], "do-it is listed twice"),
        ([{"id": "a", "blocks": ["b"]}], "blocks of a names b: no such task"),
        (
            [{"id": "a", "blocks": ["b"]}, {"id": "b", "blocks": ["a"]}],
            "a → b → a: each waits for the next",
        ),
        ([{"id": "a", "writs": ["x"]}], "task a: writs is no field of a task (did you mean writes"),
        ([{"id": "a", "writes": "x"}], "task a: writes: expected `array`, got `str`"),
        ([{"id": "a", "terminal": 11}], "task a: terminal: expected `int` <= 10"),
        ([{"id": "a", "estimate": "soon"}], 'task a: estimate is a time such as "90 s"'),
        ([{"id": "a", "status": "stuck"}], "task a: status: invalid enum value 'stuck'"),
        ([{"id": ["a"]}], "task ['a']: id: [['a']] is no id"),
        ([{}], "task 1 has neither an id nor a content"),
        ([{"id": "a", "blocks": [[]]}], "task a: blocks: [[]] is no id"),
        ([{"taskId": "9", "status": "completed"}], "task 1 updates 9, which no task before it"),
        ([7], "task 1 is no object with fields"),
        ({"plan": []}, "an object without `tasks` or `todos`"),
        ("tasks", "neither a list of tasks nor an object"),
        ([{"id": "a"}] * (SESSION_TASKS_MAX + 1), "50001 tasks; a session has 50000 at most"),
        (
            [
                {"content": "Run unit tests"},
                {"content": "Run all tests"},
                {"content": "x", "can_merge_after": ["tests"]},
            ],
            "tests may be run-unit-tests or run-all-tests: give the tasks ids",
        ),
    ],
)
def test_what_is_wrong_is_named(document: Any, reason: str) -> None:
    with pytest.raises(TaskFileError) as caught:
        parse(json.dumps(document).encode(), "list.json")
    assert str(caught.value).startswith(f"list.json: {reason}")


def test_a_text_of_another_language_is_named() -> None:
    for data, name, reason in (
        (b"[[tasks]]", "list", "list: no JSON: "),
        (b"[" * 100_000, "list.json", "list.json: no JSON: "),
        (b"{}}", "list.toml", "list.toml: no TOML: "),
        (b"a = " + b"[" * 100_000, "list.toml", "list.toml: no TOML: "),
        (b"a." * 500_000, "list.toml", "list.toml: over 16 words joined by dots"),
        (b"x = {" + b"'a' . " * 500_000, "list.toml", "list.toml: over 16 words joined by dots"),
        (rb'"\"". ' * 500_000, "list.toml", "list.toml: over 16 words joined by dots"),
        (b"a" * 1_000_000, "list.toml", "list.toml: no TOML: "),
        (b"\xff", "list.toml", "list.toml: no TOML: "),
    ):
        with pytest.raises(TaskFileError) as caught:
            parse(data, name)
        assert str(caught.value).startswith(reason)


WORDS = (
    "id taskId subject content blocks addBlockedBy metadata status priority estimate writes "
    "name input tasks todos activeForm"
)
keys = st.sampled_from(WORDS.split())
leaves = st.sampled_from(["a", "b", "deleted", "high", "5 min", "", "\0", 1, 2.5, True, None])
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


@examples(500)
@given(st.lists(st.dictionaries(keys, documents, max_size=5), max_size=4) | documents)
def test_any_document_loads_or_is_refused(document: Any) -> None:
    tasks: list[TaskSpec] = []
    with suppress(TaskFileError):
        tasks = tasks_of(document)
    assert len({task.id for task in tasks}) == len(tasks)


@pytest.mark.parametrize(("name", "text"), [("t.json", '[{"id": "a"}]'), ("t.toml", "[tasks.a]")])
def test_a_byte_order_mark_is_no_part_of_the_list(name: str, text: str) -> None:
    assert [task.id for task in parse(text.encode("utf-8-sig"), name)] == ["a"]
