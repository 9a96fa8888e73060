"""An agent takes tasks of the board, one after the other, and another hears who has one."""

import pytest

from fabric.core.task import TaskSpec, TaskStatus
from fabric.errors import HeldError, NotAllowedError, WaitTimeoutError
from tests.client.fleet import after, in_process


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


async def test_agents_ask_for_the_next_task_until_there_is_none() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("A", stream="A") as a,
        fabric.agent("B", stream="B") as b,
    ):
        await a.add_tasks(
            TaskSpec("T1", stream="A", writes=["x.py"]),
            TaskSpec("T2", stream="A", writes=["x.py"], estimate_ms=60_000),
            TaskSpec("T3", stream="A", can_merge_after=["T1"]),
        )
        first = await a.next_task(timeout=20)
        assert (first.id, first.from_stream, first.reason) == ("T1", "A", "")
        # T2 writes what T1 writes, and T3 waits for it.
        with pytest.raises(WaitTimeoutError, match="B waited 5 s for a task"):
            await after(fabric, 6, b.next_task(timeout=5))
        await a.done()
        second = await a.next_task(timeout=20)
        third = await b.next_task(timeout=20)
        assert (second.id, third.id) == ("T3", "T2")
        assert third.token > second.token > first.token
        assert third.reason == "1 agent is at work in stream A, which has 660 s to go"
