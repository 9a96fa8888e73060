"""An agent takes tasks of the board, one after the other, and another hears who has one."""

import pytest

from fabric.core.task import TaskSpec, TaskStatus
from fabric.errors import HeldError, NotAllowedError
from tests.client.fleet import in_process


async def test_tasks_are_taken_one_after_the_other() -> None:
    async with in_process() as fabric, fabric.agent("A") as a, fabric.agent("B") as b:
        await a.add_tasks(TaskSpec("T1"), TaskSpec("T2", can_merge_after=["T1"]))
        first = await a.begin("T1", timeout=20)
        with pytest.raises(HeldError, match="A has T1"):
            await b.begin("T1", timeout=20)
        with pytest.raises(NotAllowedError, match="T2 comes after T1"):
            await b.begin("T2", timeout=20)
        # It was refused a task: that is no reason to stop.
        assert b.cancelled is None
        await a.progress(50)
        await a.done()
        second = await b.begin("T2", timeout=20)
        assert second > first
        with pytest.raises(NotAllowedError, match="T1 was completed by A"):
            await b.begin("T1", timeout=20)
        await fabric.settle()
        tasks = await a.session.tasks()
        assert [tasks[name].status for name in ("T1", "T2")] == [
            TaskStatus.COMPLETED, TaskStatus.IN_PROGRESS,
        ]  # fmt: skip
        await a.retry("T1")
        assert await a.begin("T1", timeout=20) > second


async def test_an_agent_whose_task_was_done_by_a_person_is_told_and_takes_another() -> None:
    async with in_process() as fabric, fabric.agent("A", task="T1") as agent:
        await agent.ready(timeout=20)
        said = {"type": "TASK_DONE", "session": "s", "emitter": "alice", "task": "T1"}
        await fabric.emit([said])
        await fabric.settle()
        assert agent.cancelled == "alice says that T1 is done"
        await agent.begin("T2", timeout=20)
        assert agent.cancelled is None


async def test_an_agent_that_starts_with_a_task_of_another_is_told_to_stop() -> None:
    async with in_process() as fabric, fabric.agent("A", task="T1") as first:
        await first.ready(timeout=20)
        async with fabric.agent("B", task="T1") as second:
            await fabric.settle()
            assert second.cancelled == "A has T1, under token 1"
