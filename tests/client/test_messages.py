"""Messages arrive in order, from where the agent last stopped, at least once."""

import asyncio
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from fabric.client import mailbox
from fabric.client.agent import Agent
from fabric.client.message import Message
from tests.client.fleet import S, connected, fleet
from tests.support.daemon import environment
from tests.support.keyspace import add, rows, values
from tests.support.servers import ROOT, RunningServer
from tests.support.waiting import eventually, until


def nudge(server: RunningServer, number: int) -> None:
    """Write a directive to B's inbox, as the orchestrator would."""
    server.cli(
        *("XADD", S.inbox("B"), f"{number}-1", "type", "NUDGE", "from", "ORCHESTRATOR"),
        *("stream", "", "cause", f"{number}-0", "payload", f'{{"on": "x{number}"}}'),
    )


async def lengthen(server: RunningServer, agent: Agent, events: int) -> None:
    """Let the session have so many events: an entry beyond them would be removed."""

    def count() -> int:
        return len([row for row in rows(server, S.log) if row.id.endswith("-0")])

    for percent in range(events):
        await agent.progress(percent)
    await eventually(lambda: count() >= events, f"{events} events")


def announce(server: RunningServer, number: int) -> None:
    """Write to the broadcast."""
    server.cli(
        *("XADD", S.broadcast, f"{number}-1", "type", "CHECKPOINT_REACHED", "from", "A"),
        *("stream", "A", "cause", f"{number}-0", "payload", "{}"),
    )


async def take(agent: Agent, count: int, *, handle_last: bool = True) -> list[Message]:
    """Read `count` messages; the last one counts as read when the next one is asked for."""
    found: list[Message] = []
    async with aclosing(agent.messages()) as messages:
        for _ in range(count):
            found.append(await anext(messages))
        if handle_last:
            asking = asyncio.ensure_future(anext(messages))
            await eventually(lambda: _place_is(agent, found[-1]), "the last is handled")
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    return found


async def _place_is(agent: Agent, message: Message) -> bool:
    (stored,) = await agent.session._store.fields(S.cursors, [agent.name])
    return message.id.encode() in (stored or b"").split()


def ids(messages: list[Message]) -> list[str]:
    return [message.id for message in messages]


async def abandon(agent: Agent) -> None:
    """End an agent like a crash: nothing more is sent or stored."""
    for task in agent._tasks:
        task.cancel()
    await asyncio.gather(*agent._tasks, return_exceptions=True)


@pytest.mark.parametrize(
    ("inbox", "broadcast", "merged", "is_all"),
    [
        ([], [], [], True),
        ([1, 3], [2], [1, 2, 3], True),
        # A full page may be cut off: what comes after its end in the other page has to wait.
        ([1, 2, 3], [4], [1, 2, 3], False),
        ([1, 2, 5], [3, 4, 6], [1, 2, 3, 4, 5], False),
        ([7, 8, 9], [1, 2, 3], [1, 2, 3], False),
    ],
)
def test_two_pages_are_merged_in_the_order_of_the_log(
    inbox: list[int], broadcast: list[int], merged: list[int], is_all: bool
) -> None:
    pages = [
        [(b"%d-0" % number, [b"type", b"X"]) for number in page] for page in (inbox, broadcast)
    ]
    found, whole = mailbox.merge(pages, full=3)
    assert [int(entry[0].partition(b"-")[0]) for _, entry in found] == merged
    assert [number for number, _ in found] == [int(one in broadcast) for one in merged]
    assert whole is is_all


async def test_directives_and_broadcasts_in_the_order_of_the_log(server: RunningServer) -> None:
    for number in (1, 3, 5):
        nudge(server, number)
    for number in (2, 4):
        announce(server, number)
    async with connected(server.url) as fabric, fabric.agent("B") as agent:
        found = await take(agent, 5)
    assert ids(found) == [f"{number}-1" for number in (1, 2, 3, 4, 5)]
    assert [message.to_everyone for message in found] == [False, True, False, True, False]
    first = found[0]
    assert (first.type, first.sender, first.cause) == ("NUDGE", "ORCHESTRATOR", "1-0")
    assert first.payload == {"on": "x1"}
    assert found[1].stream == "A"


async def test_messages_arrive_while_the_agent_works(server: RunningServer) -> None:
    async with (
        fleet(server.url) as fabric,
        fabric.agent("A", produces=["x"]) as maker,
        fabric.agent("B") as waiter,
    ):
        reading = asyncio.create_task(take(maker, 1))
        waiting = asyncio.create_task(waiter.wait_for("x", timeout=20))
        (nudge_message,) = await reading
        assert nudge_message.type == "NUDGE"
        assert nudge_message.payload == {"on": "x", "waiting": ["B"]}
        await maker.resolve("x")
        await waiting
        assert [message.type for message in await take(waiter, 2)] == [
            "DEPENDENCY_RESOLVED", "RESUME"
        ]  # fmt: skip


async def test_the_next_incarnation_reads_on(server: RunningServer) -> None:
    for number in (1, 2, 3):
        nudge(server, number)
    async with connected(server.url) as fabric:
        async with fabric.agent("B") as agent:
            assert ids(await take(agent, 2)) == ["1-1", "2-1"]
        announce(server, 4)
        async with fabric.agent("B") as agent:
            assert ids(await take(agent, 2)) == ["3-1", "4-1"]
    assert values(server, S.cursors)["B"] == "3-1 4-1"


async def test_unhandled_messages_come_again(server: RunningServer) -> None:
    for number in (1, 2, 3):
        nudge(server, number)
    async with connected(server.url) as fabric:
        agent = fabric.agent("B")
        await agent.__aenter__()
        assert ids(await take(agent, 2, handle_last=False)) == ["1-1", "2-1"]
        await abandon(agent)
        async with fabric.agent("B") as again:
            assert ids(await take(again, 2)) == ["2-1", "3-1"]


async def test_a_crash_before_the_first_was_asked_for_loses_nothing(
    server: RunningServer,
) -> None:
    """By then the mailbox has processed them all; the agent has not."""
    async with fleet(server.url) as fabric:
        agent = fabric.agent("B")
        await agent.__aenter__()
        await lengthen(server, agent, 4)
        for number in (2, 3, 4):
            nudge(server, number)
        add(
            server, session="s", type="DEPENDENCY_RESOLVED", emitter="A",
            payload='{"dependency_id": "x", "consumers": ["B"]}',
        )  # fmt: skip
        assert await agent.wait_for("x", timeout=20) is None
        await abandon(agent)
        async with fabric.agent("B", take_over=True) as again:
            found = await take(again, 4)
    assert len(ids(found)) == 4
    assert set(ids(found)) >= {"2-1", "3-1", "4-1"}


async def test_an_agent_that_never_asks_has_read_all_when_it_ends_without_an_error(
    server: RunningServer,
) -> None:
    async with fleet(server.url) as fabric:
        async with fabric.agent("A") as maker, fabric.agent("B") as waiter:
            await maker.resolve("x", consumers=["B"])
            await eventually(lambda: waiter._mailbox._unread, "what came for it")
        last = int(rows(server, S.log)[-1].id.partition("-")[0])
        nudge(server, last)
        async with fabric.agent("B") as again:
            assert ids(await take(again, 1)) == [f"{last}-1"]


async def test_an_agent_that_asks_late_gets_all_messages(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More have come than are kept before the agent asks; they are read again."""
    monkeypatch.setattr(mailbox, "UNREAD_MAX", 3)
    async with fleet(server.url) as fabric, fabric.agent("B") as agent:
        await lengthen(server, agent, 11)
        for number in range(2, 12):
            nudge(server, number)
        await eventually(lambda: agent._mailbox._overflowed, "more than fits has come")
        assert ids(await take(agent, 10)) == [f"{number}-1" for number in range(2, 12)]


async def test_a_slow_reader_is_not_flooded(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "UNREAD_MAX", 3)
    monkeypatch.setattr(mailbox, "COUNT", 2)
    async with (
        connected(server.url) as fabric,
        fabric.agent("B") as agent,
        aclosing(agent.messages()) as messages,
    ):
        asking = asyncio.ensure_future(anext(messages))
        for number in range(1, 31):
            nudge(server, number)
        assert (await asking).id == "1-1"
        await eventually(lambda: not agent._mailbox._room.is_set(), "reading has paused")
        assert len(agent._mailbox._unread) <= 3 + 2
        assert [(await anext(messages)).id for _ in range(29)] == [
            f"{number}-1" for number in range(2, 31)
        ]


async def test_two_iterations_lose_nothing(server: RunningServer) -> None:
    for number in range(1, 11):
        nudge(server, number)
    async with connected(server.url) as fabric, fabric.agent("B") as agent:
        seen: list[str] = []

        async def follow() -> None:
            async for message in agent.messages():
                seen.append(message.id)
                await asyncio.sleep(0)

        following = [asyncio.create_task(follow()) for _ in range(2)]
        await eventually(lambda: len(set(seen)) == 10, lambda: f"all are seen: {seen}")
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)


async def test_after_a_broken_cursor_reading_starts_at_the_beginning(server: RunningServer) -> None:
    nudge(server, 1)
    for stored in ("nonsense", "1-1", "1-1 x", ""):
        server.cli("HSET", S.cursors, "B", stored)
        async with connected(server.url) as fabric, fabric.agent("B") as agent:
            assert ids(await take(agent, 1)) == ["1-1"]


async def test_hand_written_messages_are_shown(server: RunningServer) -> None:
    server.cli("XADD", S.inbox("B"), "1-1", "hello", "you")
    server.cli("XADD", S.inbox("B"), "2-1", "type", "NOTE", "payload", "no JSON")
    server.cli("XADD", S.inbox("B"), "3-1", "type", b"\xff\xfe", "payload", "[1]")
    async with connected(server.url) as fabric, fabric.agent("B") as agent:
        found = await take(agent, 3)
    assert [message.payload for message in found] == [{}, {"payload": "no JSON"}, {"payload": [1]}]


class Reader:
    """The agent in a process of its own."""

    def __init__(self, url: str, place: Path) -> None:
        self._said = place
        with place.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.client.reader", url],
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=output,
                text=True,
            )

    def said(self) -> list[str]:
        return self._said.read_text().splitlines()

    def handle(self, count: int) -> list[str]:
        """Let it handle `count` messages and receive one more; return their ids."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n" * count)
        self.process.stdin.flush()
        until(lambda: len(self.said()) == 1 + count + 1, lambda: str(self.said()))
        return self.said()[1:]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_killed_process_reads_on(server: RunningServer, tmp_path: Path) -> None:
    for number in range(1, 51):
        nudge(server, number)
    seen: list[str] = []
    for incarnation in range(1, 4):
        reader = Reader(server.url, tmp_path / str(incarnation))
        try:
            seen += reader.handle(10)
            assert reader.said()[0] == f"incarnation {incarnation}"
        finally:
            reader.kill()
    # Each process starts with the message that the last one had not finished.
    expected = [*range(1, 12), *range(11, 22), *range(21, 32)]
    assert seen == [f"{number}-1" for number in expected]
    assert len(rows(server, S.inbox("B"))) == 50, "an inbox is only read"
