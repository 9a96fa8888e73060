"""Answers to earlier requests, written by hand: none is mistaken for the right one."""

import asyncio
import json
from typing import Any

import pytest

from fabric.client import mailbox, request
from fabric.client.agent import Agent
from fabric.core.signal import SignalType
from tests.client.fleet import S, connected
from tests.support.keyspace import SIGNALS, rows
from tests.support.servers import RunningServer
from tests.support.waiting import eventually


def tell(server: RunningServer, key: str, entry_id: str, kind: str, **payload: Any) -> None:
    """Write a message, as the orchestrator would."""
    cause = entry_id.replace("-1", "-0")
    server.cli(
        *("XADD", key, entry_id, "type", kind, "cause", cause, "payload", json.dumps(payload)),
        *("from", "A" if kind == "CHECKPOINT_REACHED" else "ORCHESTRATOR"),
    )


def proceed(server: RunningServer, entry_id: str, token: int) -> None:
    tell(server, S.inbox("A"), entry_id, "PROCEED", resources=["x"], token=token)


async def asks(server: RunningServer, count: int, kind: SignalType = SignalType.INTENT) -> None:
    """Wait until the agent has sent `count` requests."""
    await eventually(lambda: len(rows(server, SIGNALS, type=kind.value)) == count, "it asks")


async def heard(agent: Agent, entry_id: bytes) -> None:
    """Wait until a message was processed, with everything that follows from it at once."""
    await eventually(lambda: entry_id in agent._mailbox._heard, f"{entry_id!r} is heard")
    for _ in range(5):
        await agent.session.claims()


async def test_a_grant_repeated_after_its_release(server: RunningServer) -> None:
    async with connected(server.url) as fabric, fabric.agent("A") as agent:
        entering = asyncio.create_task(agent.writing("x").__aenter__())
        await asks(server, 1)
        proceed(server, "1-1", 5)
        assert (await entering).token == 5
        await agent.release("x")
        entering = asyncio.create_task(agent.writing("x").__aenter__())
        await asks(server, 2)
        proceed(server, "2-1", 5)
        await heard(agent, b"2-1")
        assert not entering.done()
        proceed(server, "3-1", 7)
        assert (await entering).token == 7


async def test_a_grant_to_the_incarnation_before(server: RunningServer) -> None:
    async with connected(server.url) as fabric:
        async with fabric.agent("A"):
            pass
        async with fabric.agent("A") as agent:
            entering = asyncio.create_task(agent.writing("x").__aenter__())
            await asks(server, 1)
            proceed(server, "1-1", 5)
            await heard(agent, b"1-1")
            assert not entering.done()
            record = {"status": "active", "incarnation": 2, "seq": 2}
            server.cli("HSET", S.agents, "A", json.dumps(record))
            claim = {"agent": "A", "asked": 2, "state": "held", "writes": ["x"], "token": 7}
            server.cli("HSET", S.claims, "2:A", json.dumps(claim))
            proceed(server, "2-1", 7)
            assert (await entering).token == 7


async def test_a_grant_read_after_a_time_without_the_server(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent may have been declared dead meanwhile, and the file may be another's."""
    async with connected(server.url) as fabric, fabric.agent("A") as agent:
        entering = asyncio.create_task(agent.writing("x").__aenter__())
        await asks(server, 1)
        monkeypatch.setattr(request, "AWAY_MS", -1_000_000)  # every read was long awaited
        proceed(server, "1-1", 5)
        await heard(agent, b"1-1")
        assert not entering.done()
        monkeypatch.undo()
        record = {"status": "active", "incarnation": 1, "seq": 2}
        server.cli("HSET", S.agents, "A", json.dumps(record))
        claim = {"agent": "A", "asked": 2, "state": "held", "writes": ["x"], "token": 7}
        server.cli("HSET", S.claims, "2:A", json.dumps(claim))
        proceed(server, "2-1", 7)
        assert (await entering).token == 7


async def test_a_grant_that_was_taken_away_before_it_was_read(server: RunningServer) -> None:
    async with connected(server.url) as fabric, fabric.agent("A") as agent:
        entering = asyncio.create_task(agent.writing("x").__aenter__())
        await asks(server, 1)
        server.cli(
            "EVAL",  # both come in one read
            "for i = 1, 2 do redis.call('XADD', KEYS[1], i .. '-1', 'type', ARGV[i * 2 - 1], "
            "'from', 'ORCHESTRATOR', 'cause', i .. '-0', 'payload', ARGV[i * 2]) end",
            *(1, S.inbox("A")),
            *("PROCEED", '{"resources": ["x"], "token": 5}'),
            *("PAUSE", '{"resources": ["x"], "reason": "preempted"}'),
        )
        await heard(agent, b"2-1")
        assert not entering.done()
        proceed(server, "3-1", 7)
        assert (await entering).token == 7


async def test_an_echo_of_an_earlier_checkpoint(server: RunningServer) -> None:
    async with connected(server.url) as fabric, fabric.agent("A") as agent:
        reaching = asyncio.create_task(agent.checkpoint("c"))
        await asks(server, 1, SignalType.CHECKPOINT_REACHED)
        for number, seq in ((5, 1), (6, 2)):
            assert not reaching.done()
            server.cli("XADD", S.log, f"{number}-0", "seq", str(seq), "incarnation", "1")
            tell(server, S.broadcast, f"{number}-1", "CHECKPOINT_REACHED", checkpoint="c")
            await heard(agent, f"{number}-1".encode())
        await reaching


async def test_an_echo_that_overtakes_a_pause(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in two streams, and one of these has more than a page."""
    monkeypatch.setattr(mailbox, "COUNT", 2)
    async with connected(server.url) as fabric, fabric.agent("A") as agent:
        reaching = asyncio.create_task(agent.checkpoint("c"))
        await asks(server, 1, SignalType.CHECKPOINT_REACHED)
        script = "for _, c in ipairs(ARGV) do redis.call(unpack(cjson.decode(c))) end"
        commands: list[list[str]] = [
            ["XADD", S.inbox("A"), f"{number}-1", "type", "NUDGE"] for number in range(1, 60)
        ]
        pause = json.dumps({"barrier": "release", "generation": 1})
        commands += [
            ["XADD", S.inbox("A"), "65-1", "type", "PAUSE", "payload", pause],
            ["XADD", S.log, "66-0", "seq", "2", "incarnation", "1"],
            ["XADD", S.broadcast, "66-1", "type", "CHECKPOINT_REACHED", "from", "A",
             "cause", "66-0", "payload", json.dumps({"checkpoint": "c"})],
        ]  # fmt: skip
        server.cli("EVAL", script, "0", *map(json.dumps, commands))
        await heard(agent, b"66-1")
        assert not reaching.done()
        tell(server, S.broadcast, "67-1", "RESUME", barrier="release")
        await reaching
