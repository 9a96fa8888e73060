"""The runs of a session, with both workers: a closed one becomes final, the next begins empty."""

from typing import Any

import pytest

from fabric import TaskSpec
from fabric.errors import EndedError
from fabric.testing import InProcessFabric, running


async def say(fabric: InProcessFabric, kind: str, by: str = "eva", **payload: Any) -> None:
    await fabric.emit([{"type": kind, "emitter": by, "payload": payload}])
    await fabric.settle()


async def work_until_closed(fabric: InProcessFabric) -> None:
    """A reports; then the run is closed under it, and the synthesis is final."""
    async with fabric.agent("A") as a:
        await a.partial_result({"findings": [{"key": "port", "value": 1}], "files": ["a"]})
        await fabric.settle()
        assert not (await fabric.session().synthesis()).is_final
        await say(fabric, "RUN_CLOSED")
        found = await fabric.session().synthesis()
        assert (found.is_final, found.findings["port"].value) == (True, 1)
        assert a.cancelled == "eva has closed run 1 of test"


async def test_the_synthesis_of_a_closed_run_is_final_and_the_next_begins_empty() -> None:
    async with running() as fabric:
        with pytest.raises(EndedError, match="eva has closed run 1 of test"):
            await work_until_closed(fabric)
        revisions = [one async for one in fabric.session().revisions(follow=False)]
        await say(fabric, "RUN_OPENED")
        begun = await fabric.session().synthesis()
        assert (begun.revision, begun.findings, begun.agents) == (len(revisions) + 1, {}, {})
        async with fabric.agent("A") as again:
            assert again.incarnation == 2
            await again.partial_result({"findings": [{"key": "host", "value": 2}]})
        await fabric.settle()
        last = await fabric.session().synthesis()
        assert ([*last.findings], last.is_final) == (["host"], True)
        # The history goes on, and makes the same document.
        same = await fabric.session().synthesis(revision=last.revision)
        assert same.document == last.document


async def test_an_open_that_comes_with_results_is_folded_in_its_place() -> None:
    """All of it in one batch: what comes before it is final first, what comes after it is new."""
    async with running() as fabric:
        finding = {"findings": [{"key": "port", "value": 1}]}
        later = {"findings": [{"key": "host", "value": 2}]}
        documents: list[dict[str, Any]] = [
            {"type": "PARTIAL_RESULT", "emitter": "A", "payload": {"partial": finding}},
            {"type": "RUN_CLOSED", "emitter": "eva"},
            {"type": "RUN_OPENED", "emitter": "eva"},
            {"type": "STARTED", "emitter": "A"},
            {"type": "PARTIAL_RESULT", "emitter": "A", "payload": {"partial": later}},
        ]
        await fabric.emit(documents)
        await fabric.settle()
        found = await fabric.session().synthesis()
        assert ([*found.findings], [*found.agents]) == (["host"], ["A"])
        finals = [one async for one in fabric.session().revisions(follow=False) if one.is_final]
        assert len(finals) == 1


async def take_a_task_until_closed(fabric: InProcessFabric) -> None:
    async with fabric.agent("A") as a:
        await a.add_tasks(TaskSpec("first"), TaskSpec("second", can_merge_after=["first"]))
        assert (await a.next_task()).id == "first"
        await say(fabric, "RUN_CLOSED")


async def test_tasks_of_a_closed_run_do_not_get_in_the_way_of_the_next() -> None:
    async with running() as fabric:
        with pytest.raises(EndedError):
            await take_a_task_until_closed(fabric)
        await say(fabric, "RUN_OPENED")
        async with fabric.agent("A") as again:
            await again.add_tasks(TaskSpec("third"))
            assert (await again.next_task()).id == "third"
