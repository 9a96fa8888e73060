"""Questions and their answers; and notices about the agent itself."""

import asyncio

import pytest

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.core.policy import FailFast
from fabric.core.rules import Rules
from fabric.core.signal import SignalType
from fabric.errors import (
    DependencyFailedError,
    EndedError,
    NotAllowedError,
    SignalError,
    WaitTimeoutError,
)
from fabric.ops.questions import questions
from fabric.testing import InProcessFabric
from tests.client.fleet import S, after, in_process
from tests.support.keyspace import add, records, rows


def decide(fabric: InProcessFabric, known: str, answer: str, session: str = "s") -> None:
    """Answer as a person would."""
    payload = f'{{"escalation": "{known}", "decision": "{answer}"}}'
    add(fabric, session=session, type="DECIDED", emitter="ME", payload=payload)


async def until_asked(fabric: InProcessFabric, known: str) -> None:
    await fabric.settle()
    assert known in records(fabric, S.escalations)


async def test_a_question_that_a_person_answers() -> None:
    async with in_process() as fabric, fabric.agent("A") as agent:
        for number, answer in ((1, "v1"), (2, "v2")):
            asking = asyncio.create_task(
                agent.escalate("Which?", options=["v1", "v2"], context={"n": 1}, timeout=20)
            )
            known = f"A-1-{number}"
            await until_asked(fabric, known)
            decide(fabric, known, answer)
            assert await asking == answer
    assert rows(fabric, S.log, type="ESCALATE")[0].payload == {
        "question": "Which?", "id": "A-1-1", "options": ["v1", "v2"], "context": {"n": 1}
    }  # fmt: skip


async def test_a_question_to_another_agent() -> None:
    async def answer(agent: Agent) -> None:
        async for message in agent.messages():
            if message.type == "ESCALATE":
                await agent.decide(message.payload["id"], "yes")
                return

    async with (
        in_process() as fabric,
        fabric.agent("A") as one,
        fabric.agent("B") as other,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(answer(other))
        assert await one.escalate("May I?", to="B", id="q", timeout=20) == "yes"
    # An answer carries the number of messages before it.
    assert rows(fabric, S.log, type="DECIDED")[0]["hops"] == "1"


async def test_a_question_that_nobody_answers() -> None:
    async with in_process() as fabric, fabric.agent("A") as agent:
        with pytest.raises(WaitTimeoutError, match=r"`fabric decide q ANSWER`"):
            await after(fabric, 0.5, agent.escalate("Which?", id="q", timeout=0.5))
        await fabric.settle()
        assert not records(fabric, S.agents)["A"].get("asks")
        async with fabric.agent("B") as other:
            with pytest.raises(NotAllowedError, match="choose another"):
                await other.escalate("Mine?", id="q", timeout=20)
            waiting = asyncio.create_task(other.wait_for("q", timeout=20))
            await fabric.settle()
            assert records(fabric, S.agents)["B"].get("asks")
            await agent.decide("q", "v1")
            assert await waiting == "v1"


async def test_hops_are_counted_only_while_a_message_is_handled() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("A") as one,
        fabric.agent("B") as other,
    ):
        await one.emit(SignalType.CHECKPOINT_REACHED, {"checkpoint": "c"})
        messages = other.messages()
        async for message in messages:
            if message.type == "CHECKPOINT_REACHED":
                await other.progress(1)
                await asyncio.create_task(other.progress(2))
                await other.emit(SignalType.RELEASE, {"resources": ["x"]})
                break
        await messages.aclose()
        await other.progress(3)
        await fabric.settle()
        assert len(rows(fabric, S.log, type="PROGRESS")) == 3
    found = [row["hops"] for row in rows(fabric, S.log, kind="signal", emitter="B")]
    # STARTED, two answers, a type that never counts as an answer, then no answer.
    assert found[:5] == ["", "1", "1", "", ""]


async def test_agents_that_answer_each_other_are_stopped() -> None:
    async def answer(agent: Agent) -> None:
        async for message in agent.messages():
            if message.type == "CHECKPOINT_REACHED" and message.sender != agent.name:
                await agent.emit(SignalType.CHECKPOINT_REACHED, {"checkpoint": "again"})
            if message.type == "NOTICE":
                return

    async with (
        in_process(Rules(hops_max=6)) as fabric,
        fabric.agent("A") as one,
        fabric.agent("B") as other,
    ):
        answering = [asyncio.create_task(answer(agent)) for agent in (one, other)]
        await one.emit(SignalType.CHECKPOINT_REACHED, {"checkpoint": "first"})
        done, going = await asyncio.wait(answering, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == 1
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)


async def test_a_group_that_fails_fast_is_told_to_stop() -> None:
    rules = Rules(fail_fast=FailFast.CANCEL)
    async with (
        in_process(rules) as fabric,
        fabric.agent("B", parallel_group="g") as other,
    ):
        async with fabric.agent("A", parallel_group="g") as one:
            before = other.cancelled
            assert before is None
            await one.fail("no use")
        await fabric.settle()
        assert other.cancelled
        assert other.cancelled == "A, of group g, has failed: no use"


async def test_a_successor_learns_where_the_last_one_was() -> None:
    async def be_replaced() -> None:
        async with fabric.agent("A", task="t") as old, old.writing("x", timeout=20):
            await old.progress(40, checkpoint="c")
            async with elsewhere.agent("A", take_over=True) as new:
                await new.ready(timeout=20)
                found = new.resumed
                assert found is not None
                assert (found.task, found.checkpoint, found.percent) == ("t", "c", 40)
                assert found.held == ("x",)

    async with in_process() as fabric, Fabric(fabric.store, fabric.settings) as elsewhere:
        with pytest.raises(EndedError):
            await be_replaced()
        async with fabric.agent("A") as last:
            await last.ready(timeout=20)
            assert last.resumed is None


async def test_a_whole_session() -> None:
    async with in_process(session="demo") as fabric:
        maker = await fabric.agent("MAKER", produces=["schema-migration"]).__aenter__()
        async with fabric.agent("ARCHITECT", session="demo", stream="A", priority=5) as agent:
            await agent.progress(25, checkpoint="files_read")
            await agent.partial_result({"finding": 1})
            async with agent.writing("config.py") as grant:
                assert grant.token
            await maker.resolve("schema-migration", location="migration.sql")
            await maker.__aexit__(None, None, None)
            location = await agent.wait_for("schema-migration")
            assert location == "migration.sql"
            await agent.resolve("schema-migration", location="…", consumers=["SCHEDULER"])
            await agent.checkpoint("tests_validated")
            async with agent.integrating("release"):
                pass
            asking = asyncio.create_task(agent.escalate("Which schema?", options=["v1", "v2"]))
            keys = agent.session.keys
            await fabric.settle()
            assert records(fabric, keys.escalations)
            decide(fabric, "ARCHITECT-1-1", "v1", session="demo")
            assert await asking == "v1"


async def test_a_question_answers_itself_at_its_deadline() -> None:
    async with in_process() as fabric, fabric.agent("A") as agent:
        asking = agent.escalate("Go on?", options=["yes", "no"], deadline_ms=5_000, default="no")
        assert await after(fabric, 6, asking) == "no"


async def test_a_default_without_a_deadline_is_refused_before_it_is_sent() -> None:
    async with in_process() as fabric, fabric.agent("A") as agent:
        with pytest.raises(SignalError, match="`deadline_ms` beside `default`"):
            await agent.escalate("Go on?", default="no")
        assert not records(fabric, S.escalations)


async def test_a_question_without_a_default_ends_its_wait_at_its_deadline() -> None:
    async with in_process() as fabric, fabric.agent("A") as agent:
        with pytest.raises(WaitTimeoutError, match="by its deadline"):
            await after(fabric, 6, agent.escalate("Which?", id="q", deadline_ms=5_000))
        assert records(fabric, S.escalations)["q"]["state"] == "open"
        (question,) = await questions(fabric.session("s"))
        assert not question.is_awaited
        async with fabric.agent("B") as waiter:
            waiting = asyncio.create_task(waiter.wait_for("q"))
            await fabric.settle()
            (question,) = await questions(fabric.session("s"))
            assert question.waiting == ("B",)  # A has asked, and does not wait any more
            decide(fabric, "q", "late")
            assert await waiting == "late"


async def test_a_person_ends_the_waits_for_what_nobody_produces() -> None:
    async with in_process() as fabric, fabric.agent("A") as agent:
        waiting = asyncio.create_task(agent.wait_for("schema"))
        await fabric.settle()
        await fabric.advance(60)
        (known,) = records(fabric, S.escalations)
        decide(fabric, known, "give up")
        with pytest.raises(DependencyFailedError, match="ME has decided"):
            await waiting
