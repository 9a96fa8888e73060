"""A plan says what is parallel and what is not, and its schedule keeps to that."""

import sys
from itertools import combinations, pairwise
from types import FrameType
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core import plan as plan_module
from fabric.core.plan import ALL_OTHERS, Pair, Plan, plan
from fabric.core.resource import CostlyError
from fabric.core.rule_table import Domain, Trigger
from fabric.core.rules import Rules
from fabric.core.task import TaskSpec, TaskStatus
from tests.core.task_list import (
    RULES,
    earlier,
    excludes,
    is_release,
    is_shared,
    is_too_many,
    shortest,
    task_lists,
)
from tests.support.effort import examples

DB = Domain("alembic/**", "DBA", exclusive=True)


def spec(id_: str, writes: str = "", reads: str = "", after: str = "", ms: int = 10) -> TaskSpec:
    return TaskSpec(
        id_,
        writes=writes.split(),
        reads=reads.split(),
        can_merge_after=after.split(),
        estimate_ms=ms,
    )


class Case(NamedTuple):
    one: TaskSpec
    other: TaskSpec
    found: Pair | None
    rules: Rules = Rules()


CASES = {
    "two files": Case(spec("a", "x.py"), spec("b", "y.py"), None),
    "reads of one file": Case(spec("a", reads="x.py"), spec("b", reads="x.py"), None),
    "two domains": Case(
        spec("a", "alembic/1.py"), spec("b", "docs/1.md"), None, Rules(domains=(DB,))
    ),
    "a domain that is not exclusive": Case(
        spec("a", "docs/1.md"), spec("b", "docs/2.md"), None, Rules(domains=(Domain("docs/**"),))
    ),
    "one exclusive domain": Case(
        spec("a", "alembic/1.py"),
        spec("b", "alembic/2.py"),
        Pair("a", "b", 1, "domain", ["alembic/**"], is_conflict=True),
        Rules(domains=(DB,)),
    ),
    "a read in an exclusive domain": Case(
        spec("a", reads="alembic/1.py"),
        spec("b", "alembic/2.py"),
        Pair("a", "b", 1, "domain", ["alembic/**"], is_conflict=True),
        Rules(domains=(DB,)),
    ),
    "a domain that brings in another, and that a third": Case(
        spec("a", "db/y.sql"),
        spec("b", "old/z.py"),
        Pair("a", "b", 1, "domain", ["**/x.sql", "old/**"], is_conflict=True),
        Rules(domains=tuple(Domain(glob, "", True) for glob in ("db/**", "**/x.sql", "old/**"))),
    ),
    "an order": Case(spec("a"), spec("b", after="a"), Pair("a", "b", 2, "order")),
    "an order from the other end": Case(
        TaskSpec("a", blocks=["b"]), spec("b"), Pair("a", "b", 2, "order")
    ),
    "an order decides over a file": Case(
        spec("a", "x.py", after="b"), spec("b", "x.py"), Pair("b", "a", 2, "order")
    ),
    "writes of one file": Case(
        spec("a", "x.py y.py"),
        spec("b", "./y.py x.py"),
        Pair("a", "b", 2, "write-write", ["x.py", "y.py"], is_conflict=True),
    ),
    "a glob and a file": Case(
        spec("a", "src/"),
        spec("b", "src/x.py"),
        Pair("a", "b", 2, "write-write", ["src/x.py"], is_conflict=True),
    ),
    "a write and a read": Case(
        spec("a", reads="x.py"),
        spec("b", "x.py"),
        Pair("b", "a", 2, "read-write", ["x.py"], is_conflict=True),
    ),
    "an integration by its name": Case(
        spec("a"),
        spec("release-1"),
        Pair("release-1", ALL_OTHERS, 3, "integration", ["release"]),
        Rules(triggers=(Trigger("release", tags=("release-*",)),)),
    ),
    "an integration by what it writes": Case(
        spec("a"),
        spec("b", "openapi/v1.yaml"),
        Pair("b", ALL_OTHERS, 3, "integration", ["api-contract"]),
        Rules(triggers=(Trigger("api-contract", paths=("openapi/**",)),)),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_each_pair_that_is_not_parallel_has_its_level_and_reason(case: Case) -> None:
    made = plan([case.one, case.other], case.rules)
    assert made.pairs == ([case.found] if case.found else [])
    assert len(made.waves) == (2 if case.found else 1)


def test_the_critical_path_is_the_longest_chain() -> None:
    tasks = [spec("a", ms=5), spec("b", after="a", ms=1), spec("c", after="a", ms=7), spec("d")]
    made = plan(tasks, Rules(), 2)
    assert (made.critical_path, made.critical_ms) == (["a", "c"], 12)
    assert (made.work_ms, made.bound_ms, made.expected_ms) == (23, 12, 12)
    assert made.waves == [["a", "d"], ["b", "c"]]


def test_what_is_done_needs_no_time() -> None:
    done = TaskSpec("a", status=TaskStatus.COMPLETED, writes=["x"], estimate_ms=9)
    half = TaskSpec("b", can_merge_after=["a"], writes=["x"], estimate_ms=8, progress_percent=75)
    made = plan([done, half], Rules())
    assert (made.completed, made.waves, made.pairs) == (["a"], [["b"]], [])
    assert (made.expected_ms, made.work_ms) == (2, 2)


def test_a_task_without_an_estimate_is_taken_for_one_of_the_middle() -> None:
    tasks = [spec("a", ms=2), spec("b", ms=3), spec("c", ms=90), TaskSpec("d")]
    made = plan(tasks, Rules(), 1)
    assert (made.assumed, made.assumed_ms, made.work_ms) == (["d"], 3, 98)
    assert plan([TaskSpec("d")], Rules()).expected_ms == 600_000


def test_capacities_bound_what_runs_at_a_time() -> None:
    tasks = [spec(f"d{number}", f"docs/{number}.md") for number in range(4)]
    docs = Domain("docs/**", "WRITER")
    two = plan(tasks, Rules(domains=(docs,), coordinator_tasks_max={"WRITER": 2}))
    assert (list(map(len, two.waves)), two.expected_ms) == ([2, 2], 20)
    three = plan(tasks, Rules(domains=(docs,), parallel_max=3), 9)
    assert (three.agents, list(map(len, three.waves)), three.expected_ms) == (3, [3, 1], 20)
    assert [(one.coordinator, one.tasks_max, one.tasks, one.work_ms) for one in two.capacities] == [
        ("", 0, 4, 40),
        ("WRITER", 2, 4, 40),
    ]


def test_a_group_that_cannot_run_at_once_is_named() -> None:
    tasks = [
        TaskSpec(name, parallel_group="ci", writes=["report.xml"] if name != "c" else [])
        for name in "abc"
    ]
    assert plan(tasks, Rules()).broken_groups == {"ci": [["a", "b"]]}


def test_an_empty_list_has_an_empty_plan() -> None:
    made = plan([], Rules(), 3)
    assert (made.agents, made.expected_ms, made.waves, made.schedule) == (3, 0, [], [])


def test_a_search_among_very_many_globs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "PLAN_STEPS_MAX", 1_000)
    globs = [f"**/*{number}/**" for number in range(50)]
    with pytest.raises(CostlyError):
        plan([TaskSpec("a", writes=globs)], Rules())
    domains = tuple(Domain(glob) for glob in globs)
    with pytest.raises(CostlyError):
        plan(
            [TaskSpec("a", writes=[f"x/{number}/y" for number in range(50)])],
            Rules(domains=domains),
        )


def test_many_that_want_one_file_are_listed_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "PAIRS_MAX", 3)
    tasks = [spec(name, "x") for name in "abcd"]
    made = plan(tasks, Rules())
    assert (len(made.pairs), made.has_more_pairs, len(made.waves)) == (3, True, 4)
    assert not plan(tasks[:3], Rules()).has_more_pairs


def lines_run(tasks: list[TaskSpec], rules: Rules) -> int:
    """Count the lines of Python that run for a plan."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        plan(tasks, rules, 8)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("wanted", ["a file each", "one file", "one file, in a chain"])
def test_the_work_grows_with_the_list_not_with_its_square(wanted: str) -> None:
    rules = Rules(domains=(DB, *(Domain(f"d{number}/**", "X") for number in range(50))))

    def tasks(count: int) -> list[TaskSpec]:
        return [
            spec(
                f"t{number}",
                f"d{number % 90}/f{number}.py" if wanted == "a file each" else "x.py",
                after=f"t{number - 1}" if "chain" in wanted and number else "",
            )
            for number in range(count)
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "PAIRS_MAX", 100)  # those are listed one by one
        assert lines_run(tasks(400), rules) < 5 * lines_run(tasks(100), rules)


together = st.fixed_dictionaries({}, optional={"LEAD": st.just(1), "DBA": st.just(1)})


@examples(400)
@given(task_lists(8), st.integers(1, 4), together)
def test_the_pairs_are_those_that_share_something_and_those_in_order(
    tasks: list[TaskSpec], agents: int, most: dict[str, int]
) -> None:
    made = plan(tasks, msgspec.structs.replace(RULES, coordinator_tasks_max=most), agents)
    before = earlier(tasks)
    left = [task for task in tasks if task.id in before]
    shared = {
        frozenset((one.id, other.id))
        for one, other in combinations(left, 2)
        if is_shared(one, other)
        and one.id not in before[other.id]
        and other.id not in before[one.id]
    }
    assert {frozenset((pair.first, pair.second)) for pair in made.conflicts} == shared
    assert len(made.conflicts) == len(shared)
    direct = {(one, task.id) for task in left for one in task.can_merge_after if one in before}
    assert {(pair.first, pair.second) for pair in made.pairs if pair.kind == "order"} == direct
    alone = {pair.first for pair in made.pairs if pair.second == ALL_OTHERS}
    assert alone == {name for name in before if is_release(name)}
    check_waves(made, left, before, most)
    check_schedule(made, left, before, most, agents)


def check_waves(
    made: Plan, left: list[TaskSpec], before: dict[str, set[str]], most: dict[str, int]
) -> None:
    by_id = {task.id: task for task in left}
    assert sorted(name for wave in made.waves for name in wave) == sorted(by_id)
    seen: set[str] = set()
    for wave in made.waves:
        assert wave
        assert all(before[name] <= seen for name in wave)
        assert not any(excludes(by_id[one], by_id[other]) for one, other in combinations(wave, 2))
        assert not is_too_many([by_id[name] for name in wave], most)
        seen.update(wave)


def check_schedule(
    made: Plan,
    left: list[TaskSpec],
    before: dict[str, set[str]],
    most: dict[str, int],
    agents: int,
) -> None:
    by_id = {task.id: task for task in left}
    slots = {slot.task: slot for slot in made.schedule}
    assert slots.keys() == by_id.keys()
    for name, slot in slots.items():
        assert slot.end_ms - slot.start_ms == by_id[name].estimate_ms
        assert all(slots[one].end_ms <= slot.start_ms for one in before[name])
        running = [one for one in made.schedule if one.start_ms <= slot.start_ms < one.end_ms]
        assert len({one.agent for one in running}) == len(running) <= agents
        others = [by_id[one.task] for one in running if one.task != name]
        assert not any(excludes(by_id[name], other) for other in others)
        assert not is_too_many([by_id[name], *others], most)
    assert made.expected_ms == max((slot.end_ms for slot in made.schedule), default=0)
    assert made.bound_ms <= made.expected_ms <= made.work_ms
    for one, other in pairwise(made.critical_path):
        assert one in before[other]
    assert made.critical_ms == sum(by_id[name].estimate_ms for name in made.critical_path)


@examples(60)
@given(task_lists(5), st.integers(1, 3), together)
def test_no_schedule_is_shorter_than_the_bound_and_none_found_beats_the_best(
    tasks: list[TaskSpec], agents: int, most: dict[str, int]
) -> None:
    made = plan(tasks, msgspec.structs.replace(RULES, coordinator_tasks_max=most), agents)
    best = shortest(tasks, agents, most)
    assert made.bound_ms <= best <= made.expected_ms
    if agents > 1 and not most and not made.conflicts and not any(map(is_release, best_ids(made))):
        # Graham: without conflicts, list scheduling is within 2 - 1/agents of the best.
        assert made.expected_ms * agents <= best * (2 * agents - 1)


def best_ids(made: Plan) -> list[str]:
    return [slot.task for slot in made.schedule]
