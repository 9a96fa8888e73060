"""A plan and the run agree: the core finds no conflict that the plan did not name."""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.plan import Plan, plan
from fabric.core.rules import Rules
from fabric.core.task import TaskSpec
from fabric.testing import InProcessFabric, running
from tests.core.task_list import RULES, earlier, is_shared, task_lists
from tests.support.effort import examples

#: Longest list of tasks below, and longest estimate in ms: after so long, all is done.
TASKS_MAX = 6
LENGTH_MS_MAX = 4


class Run:
    """A real run of a list: each task that is left is done by an agent of its own.

    A task begins when those before it are complete; with a plan, also not before its time there.
    """

    def __init__(self, tasks: list[TaskSpec], rules: Rules, made: Plan | None = None) -> None:
        self.before = earlier(tasks)
        self.tasks = [task for task in tasks if task.id in self.before]
        self.rules = rules
        self.done = {name: asyncio.Event() for name in self.before}
        slots = made.schedule if made else []
        self.starts = {slot.task: slot.start_ms for slot in slots}
        for slot in slots:
            self.before[slot.task] |= {one.task for one in slots if one.end_ms <= slot.start_ms}

    async def log(self) -> list[dict[str, Any]]:
        """Run all tasks to their ends; return the session's log."""
        async with running(self.rules) as fabric:
            work = [asyncio.create_task(self._do(fabric, task)) for task in self.tasks]
            for _ in range(TASKS_MAX * LENGTH_MS_MAX + 1):
                await fabric.advance(0.001)
            await asyncio.gather(*work)
            return await fabric.log()

    async def _do(self, fabric: InProcessFabric, task: TaskSpec) -> None:
        await asyncio.sleep(self.starts.get(task.id, 0) / 1000)
        for name in self.before[task.id]:
            await self.done[name].wait()
        # The library asks for something to write; nobody else wants this.
        writes = [*task.writes, f"own/{task.id}"]
        async with (
            fabric.agent(task.id, task=task.id, priority=task.priority) as agent,
            agent.writing(*writes, reads=task.reads),
        ):
            await asyncio.sleep(task.estimate_ms / 1000)
        self.done[task.id].set()


def conflicts_of(log: list[dict[str, Any]]) -> Iterator[set[frozenset[str]]]:
    """Each conflict in a log, as pairs of the agent that came into it last and each other one."""
    for entry in log:
        if entry["type"] == "CONFLICT_DETECTED":
            *others, last = entry["payload"]["agents"]
            yield {frozenset((other, last)) for other in others}


def named(made: Plan) -> set[frozenset[str]]:
    return {frozenset((pair.first, pair.second)) for pair in made.conflicts}


@examples(60)
@given(task_lists(TASKS_MAX), st.booleans())
def test_the_run_finds_no_conflict_that_the_plan_did_not_name(
    tasks: list[TaskSpec], are_reads_serial: bool
) -> None:
    rules = msgspec.structs.replace(RULES, serialize_reads=are_reads_serial)
    made = plan(tasks, rules)
    run = Run(tasks, rules)
    log = asyncio.run(run.log())
    assert {entry["emitter"] for entry in log if entry["type"] == "COMPLETED"} == run.done.keys()
    by_id = {task.id: task for task in tasks}
    for pairs in conflicts_of(log):
        assert pairs & named(made)
        # A reader that waits behind a writer names the readers before it too: no conflict.
        assert {pair for pair in pairs if is_shared(*map(by_id.__getitem__, pair))} <= named(made)


def test_a_run_finds_each_kind_of_conflict_that_the_plan_names() -> None:
    tasks = [
        TaskSpec("write", writes=["a.py"], estimate_ms=2),
        TaskSpec("again", writes=["a.py"], estimate_ms=2),
        TaskSpec("x", writes=["db/x.sql"], estimate_ms=2),
        TaskSpec("y", writes=["db/y.sql"], estimate_ms=2),
        TaskSpec("source", writes=["b.py"], estimate_ms=2),
        TaskSpec("reader", reads=["b.py"], estimate_ms=2),
    ]
    found = set().union(*conflicts_of(asyncio.run(Run(tasks, RULES).log())))
    assert found == named(plan(tasks, RULES))
    assert len(found) == 3


@examples(30)
@given(task_lists(TASKS_MAX), st.booleans(), st.integers(1, 4))
def test_a_run_that_keeps_to_the_schedule_finds_none(
    tasks: list[TaskSpec], are_reads_serial: bool, agents: int
) -> None:
    rules = msgspec.structs.replace(RULES, serialize_reads=are_reads_serial)
    run = Run(tasks, rules, plan(tasks, rules, agents))
    log = asyncio.run(run.log())
    assert {entry["emitter"] for entry in log if entry["type"] == "COMPLETED"} == run.done.keys()
    assert not list(conflicts_of(log))
