"""What agents have not read: orders in force, the question about them, and all of it by age."""

from fabric.core.policy import FailFast
from fabric.core.record import AgentRecord
from fabric.core.rules import Rules
from fabric.ops.comparison import Comparison
from fabric.ops.script import Inbox
from fabric.ops.unread import orders, unread
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


async def read_all(fabric: InProcessFabric, agent: str) -> None:
    inbox = Inbox(fabric.store, fabric.session("s").keys, agent)
    async for _, place in inbox.pages(await inbox.place()):
        await inbox.remember(place)


async def asked(fabric: InProcessFabric) -> list[tuple[str, str]]:
    """Return the questions about what is unread: the agent, and the answer if there is one."""
    questions = (await fabric.session("s").escalations()).values()
    return [(one.about, one.decision) for one in questions if one.subject == "unread"]


RULES = Rules(fail_fast=FailFast.CANCEL, unread_ms_max=60_000)


async def test_a_person_is_asked_about_one_that_goes_on_without_reading() -> None:
    async with running(rules=RULES) as fabric:
        for name in "ABC":
            await send(fabric, name, "STARTED", parallel_group="g")
        await send(fabric, "C", "FAILED")
        await read_all(fabric, "B")
        await fabric.advance(1)
        for name in "AB":
            await send(fabric, name, "INTENT", writes=[f"{name}.py"])
        await fabric.advance(61)
        assert await asked(fabric) == [("A", "")]
        await read_all(fabric, "A")
        await fabric.advance(61)
        assert await asked(fabric) == [("A", "it has read that")]
        keys = fabric.session("s").keys
        timers = [one for one in await fabric.log("s") if one.get("timer", "").startswith("unread")]
        # What was read is in the log, so that replay decides the same.
        assert [(one["timer"], one.get("read", "")) for one in timers] == [
            ("unread:A", ""), ("unread:B", "5-4 0-0"), ("unread:A", "6-1 0-0"),
        ]  # fmt: skip
        assert (await Comparison(fabric.memory, keys).run()).differences == []


async def test_the_library_obeys_a_pause_that_nobody_has_asked_it_for() -> None:
    async with running(rules=RULES, session="s") as fabric, fabric.agent("A") as a:
        await send(fabric, "L", "STARTED")
        await send(fabric, "L", "INTEGRATION_REQUIRED", name="I3")
        await fabric.advance(1)
        await a.progress(5)
        await fabric.advance(61)
        assert await asked(fabric) == []


async def test_unread_messages_by_age() -> None:
    async with running(session="s") as fabric:
        agents = fabric.session("s").agents
        keys = fabric.session("s").keys

        async def found() -> list[tuple[str, int, str, int]]:
            shown = await unread(fabric.store, keys, await agents())
            return [(one.agent, one.messages, one.oldest, one.since_ms) for one in shown]

        for name in "ABL":
            await send(fabric, name, "STARTED")
        await send(fabric, "A", "INTENT", writes=["a.py"])
        first_ms = fabric.now_ms()
        await fabric.advance(5)
        await send(fabric, "L", "CHECKPOINT_REACHED", checkpoint="x")
        second_ms = fabric.now_ms()
        # Its own message to everyone is none that L has to read.
        assert await found() == [
            ("A", 2, "PROCEED", first_ms), ("B", 1, "CHECKPOINT_REACHED", second_ms),
        ]  # fmt: skip
        await read_all(fabric, "A")
        assert [one[0] for one in await found()] == ["B"]
        await send(fabric, "B", "COMPLETED")
        assert await found() == []
        for _ in range(120):
            await send(fabric, "L", "CHECKPOINT_REACHED", checkpoint="x")
        (one,) = await unread(fabric.store, keys, await agents())
        assert (one.agent, one.counted) == ("A", "100 or more")


async def test_a_place_that_somebody_has_spoilt_counts_as_nothing_read() -> None:
    async with running(rules=RULES, session="s") as fabric:
        for name in "AC":
            await send(fabric, name, "STARTED", parallel_group="g")
        keys = fabric.session("s").keys
        spoilt = "\xff 99999999999999999999999999-1".encode("latin-1")
        await fabric.store.set_cursor(keys.cursors, "A", spoilt)
        await send(fabric, "C", "FAILED")
        await fabric.advance(1)
        await send(fabric, "A", "PROGRESS", percent=1)
        await fabric.advance(61)
        assert await asked(fabric) == [("A", "")]
        assert [one.agent for one in await unread(fabric.store, keys, await agents_of(fabric))]


async def agents_of(fabric: InProcessFabric) -> dict[str, AgentRecord]:
    return dict(await fabric.session("s").agents())
