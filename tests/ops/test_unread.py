"""Orders that an agent has not read: which are in force, and which a later message has ended."""

from fabric.core.policy import FailFast
from fabric.core.rules import Rules
from fabric.ops.script import Inbox
from fabric.ops.unread import orders
from fabric.testing import InProcessFabric, running


async def told(fabric: InProcessFabric, agent: str) -> list[tuple[str, str]]:
    await fabric.settle()
    keys = fabric.session("s").keys
    return [(one.type, one.reason) for one in await orders(fabric.store, keys, agent)]


async def send(fabric: InProcessFabric, agent: str, kind: str, **payload: object) -> None:
    await fabric.emit([{"session": "s", "emitter": agent, "type": kind, "payload": payload}])
    await fabric.settle()


async def test_a_cancel_is_in_force_until_it_is_read_or_the_agent_starts_again() -> None:
    async with running(rules=Rules(fail_fast=FailFast.CANCEL)) as fabric:
        for name in "AB":
            await send(fabric, name, "STARTED", parallel_group="g")
        await send(fabric, "B", "FAILED", error="out of memory")
        ((kind, reason),) = await told(fabric, "A")
        assert (kind, "out of memory" in reason) == ("CANCEL", True)
        assert await told(fabric, "nobody") == []
        inbox = Inbox(fabric.store, fabric.session("s").keys, "A")
        async for _, place in inbox.pages(await inbox.place()):
            await inbox.remember(place)
        assert await told(fabric, "A") == []


async def test_a_new_incarnation_need_not_stop() -> None:
    async with running(rules=Rules(fail_fast=FailFast.CANCEL)) as fabric:
        for name in "AB":
            await send(fabric, name, "STARTED", parallel_group="g")
        await send(fabric, "B", "FAILED")
        await send(fabric, "A", "FAILED")
        await send(fabric, "A", "STARTED")
        assert await told(fabric, "A") == []


async def test_a_pause_is_in_force_until_its_end_has_come() -> None:
    async with running() as fabric:
        for name in "LA":
            await send(fabric, name, "STARTED")
        await send(fabric, "L", "INTEGRATION_REQUIRED", name="I3")
        assert await told(fabric, "A") == [("PAUSE", "integration")]
        await send(fabric, "A", "CHECKPOINT_REACHED", checkpoint="c")
        await send(fabric, "L", "INTEGRATED", name="I3")
        assert await told(fabric, "A") == []


async def test_a_conflict_pauses_only_the_one_that_waits() -> None:
    async with running() as fabric:
        for name in "AB":
            await send(fabric, name, "INTENT", writes=["a.py"])
        assert await told(fabric, "A") == []
        assert await told(fabric, "B") == [("PAUSE", "conflict")]
        await send(fabric, "A", "RELEASE")
        assert await told(fabric, "B") == []
