"""An agent from STARTED to COMPLETED or FAILED."""

import asyncio
from typing import Any

import pytest

from fabric.client.agent import ERROR_CHARS_MAX
from fabric.client.fabric import Fabric
from fabric.core.limits import PARTIAL_PARTS_MAX
from fabric.core.signal import SignalType
from fabric.errors import ConfigError, EndedError, NotAllowedError, SignalError
from fabric.store.keys import Namespace
from tests.client.fleet import S, connected, fleet, logged, said
from tests.support.keyspace import DEAD, RESULTS, SIGNALS, records, rows
from tests.support.servers import RunningServer


async def test_every_verb_is_a_signal(server: RunningServer) -> None:
    async with (
        fleet(server.url) as fabric,
        fabric.agent(
            "A", stream="B", priority=5, task="review", task_type="Code Review",
            parallel_group="g", reads=["a.py"], writes=["b.py"], produces=["x", "y"],
        ) as agent,
    ):  # fmt: skip
        await agent.progress(25, checkpoint="files_read", next_checkpoint="issues_found")
        await agent.progress(30.5, partial={"seen": 3})
        await agent.partial_result({"findings": [{"key": "k", "value": [1]}]}, checkpoint="c")
        await agent.checkpoint("issues_found")
        await agent.resolve("x", location="x.py", consumers=["B", "C"])
        await agent.resolve("z")
        await agent.ahead(ahead_ms=1_000, capacity=2)
        entry_id = await agent.emit(SignalType.ESCALATE, {"question": "Which?", "options": ["a"]})
        assert entry_id.partition("-")[0].isdigit()
        await agent.complete({"done": True})
        signals = await logged(server, 10)
    assert [(row["type"], row.payload) for row in signals] == [
        (
            "STARTED",
            {
                "task": "review", "task_type": "Code Review", "priority": 5, "parallel_group": "g",
                "reads": ["a.py"], "writes": ["b.py"], "produces": ["x", "y"],
                "heartbeat_ms": 3_600_000, "confirm": True,
            },
        ),
        (
            "PROGRESS",
            {"percent": 25, "checkpoint": "files_read", "next_checkpoint": "issues_found"},
        ),
        ("PROGRESS", {"percent": 30.5, "partial": {"seen": 3}}),
        (
            "PARTIAL_RESULT",
            {"partial": {"findings": [{"key": "k", "value": [1]}]}, "checkpoint": "c"},
        ),
        ("CHECKPOINT_REACHED", {"checkpoint": "issues_found"}),
        (
            "DEPENDENCY_RESOLVED",
            {"dependency_id": "x", "output_location": "x.py", "consumers": ["B", "C"]},
        ),
        ("DEPENDENCY_RESOLVED", {"dependency_id": "z", "consumers": []}),
        ("EARLY_COMPLETION", {"ahead_ms": 1_000, "capacity": 2}),
        ("ESCALATE", {"question": "Which?", "options": ["a"]}),
        ("COMPLETED", {"result": {"done": True}, "confirm": True}),
    ]  # fmt: skip
    assert {(row["emitter"], row["stream"], row["incarnation"]) for row in signals} == {
        ("A", "B", "1")
    }
    assert [row["seq"] for row in signals] == [str(number) for number in range(1, 11)]
    assert [row["type"] for row in rows(server, RESULTS)] == [
        "STARTED", "PROGRESS", "PROGRESS", "PARTIAL_RESULT", "COMPLETED"
    ]  # fmt: skip
    assert rows(server, DEAD) == []


async def test_it_completes_when_the_block_ends(server: RunningServer) -> None:
    async with fleet(server.url) as fabric:
        async with fabric.agent("A"):
            pass
        assert said(await logged(server, 2)) == [("A", "STARTED"), ("A", "COMPLETED")]
    assert records(server, S.agents)["A"]["status"] == "completed"


async def test_it_fails_when_the_block_raises(server: RunningServer) -> None:
    async with fleet(server.url) as fabric:
        with pytest.raises(ValueError, match="boom"):
            async with fabric.agent("A"):
                raise ValueError("boom" + "!" * 10_000)
        _, failure = await logged(server, 2)
        assert failure["type"] == "FAILED"
        assert failure.payload["error"].startswith("ValueError: boom!!!")
        assert len(failure.payload["error"]) == ERROR_CHARS_MAX
        assert failure.payload["retryable"] is False


async def test_it_fails_when_it_is_cancelled(server: RunningServer) -> None:
    async with fleet(server.url) as fabric:
        started = asyncio.Event()

        async def live() -> None:
            async with fabric.agent("A"):
                started.set()
                await asyncio.Event().wait()

        living = asyncio.create_task(live())
        await started.wait()
        living.cancel()
        with pytest.raises(asyncio.CancelledError):
            await living
        _, failure = await logged(server, 2)
        assert failure["type"] == "FAILED"
        assert "CancelledError" in failure.payload["error"]


async def test_it_ends_once(server: RunningServer) -> None:
    async with fleet(server.url) as fabric:
        async with fabric.agent("A") as agent:
            await agent.fail("no use", retryable=True)
            for word in (agent.progress(1), agent.complete(), agent.wait_for("x", timeout=1)):
                with pytest.raises(NotAllowedError, match="A has ended"):
                    await word
        async with fabric.agent("B") as other:
            await other.complete("all")
            with pytest.raises(RuntimeError, match="afterwards"):
                raise RuntimeError("afterwards")
        assert said(await logged(server, 4)) == [
            ("A", "STARTED"), ("A", "FAILED"), ("B", "STARTED"), ("B", "COMPLETED")
        ]  # fmt: skip


async def test_each_start_is_a_new_incarnation(server: RunningServer) -> None:
    async with fleet(server.url) as fabric:
        for number in (1, 2):
            async with fabric.agent("A") as agent:
                assert agent.incarnation == number
        for number in (3, 4):
            async with agent:  # the same object, entered again
                assert agent.incarnation == number
                await agent.progress(10)
        signals = await logged(server, 10)
    assert [(row["incarnation"], row["seq"], row["type"]) for row in signals] == [
        ("1", "1", "STARTED"), ("1", "2", "COMPLETED"),
        ("2", "1", "STARTED"), ("2", "2", "COMPLETED"),
        ("3", "1", "STARTED"), ("3", "2", "PROGRESS"), ("3", "3", "COMPLETED"),
        ("4", "1", "STARTED"), ("4", "2", "PROGRESS"), ("4", "3", "COMPLETED"),
    ]  # fmt: skip
    assert rows(server, DEAD) == []


async def test_a_replaced_incarnation_is_refused(server: RunningServer) -> None:
    async with fleet(server.url) as fabric:
        old = await fabric.agent("A").__aenter__()
        async with fabric.agent("A", take_over=True) as new:
            await old.progress(10)
            await new.progress(20)
        await logged(server, 4)
        with pytest.raises(EndedError, match="replaced by incarnation 2"):
            await old.__aexit__(None, None, None)
    (letter, *_) = rows(server, DEAD)
    assert letter["code"] == "STALE_INCARNATION"
    assert records(server, S.agents)["A"]["incarnation"] == 2


async def test_two_agents_in_one_process(server: RunningServer) -> None:
    async with (
        fleet(server.url) as fabric,
        fabric.agent("A", produces=["x"]) as producer,
        fabric.agent("B") as consumer,
    ):
        waiting = asyncio.create_task(consumer.wait_for("x", timeout=20))
        await producer.resolve("x", location="x.py")
        assert await waiting == "x.py"
        await asyncio.gather(*(agent.progress(50) for agent in (producer, consumer)))


async def test_signals_sent_at_once_keep_their_numbers(server: RunningServer) -> None:
    async with fleet(server.url) as fabric, fabric.agent("A") as agent:
        await asyncio.gather(*(agent.progress(number) for number in range(100)))
        signals = await logged(server, 101)
        assert [int(row["seq"]) for row in signals] == list(range(1, 102))
        assert [row.payload["percent"] for row in signals[1:]] == list(range(100))


@pytest.mark.parametrize(
    ("verb", "arguments", "words"),
    [
        ("progress", (250,), ("percent", "250", "100")),
        ("progress", ("half",), ("percent", "half")),
        ("partial_result", ("text",), ("partial", "text")),
        ("partial_result", ({"findings": [{"value": 1}]},), ("findings", "key")),
        ("partial_result", ({"text": "x" * 2_000_000},), ("payload", "1048576 bytes")),
        ("checkpoint", ("a\nb",), ("checkpoint",)),
        ("checkpoint", ("\ud800",), ("checkpoint",)),
        ("resolve", ("",), ("dependency_id",)),
        ("wait_for", ("x" * 513,), ("on",)),
        ("partial_result", ({"thing": object()},), ("payload",)),
    ],
)
async def test_an_unacceptable_signal_is_refused_before_anything_is_sent(
    server: RunningServer, verb: str, arguments: tuple[Any, ...], words: tuple[str, ...]
) -> None:
    async with connected(server.url) as fabric, fabric.agent("A") as agent:
        before = server.cli("XLEN", SIGNALS)
        with pytest.raises(SignalError) as caught:
            await getattr(agent, verb)(*arguments)
        for word in words:
            assert word in str(caught.value)
        assert len(str(caught.value)) < 1_000
        assert server.cli("XLEN", SIGNALS) == before
        await agent.progress(1)  # the number was not spent
    assert [row["seq"] for row in rows(server, SIGNALS)] == ["1", "2", "3"]


async def test_a_payload_nested_too_deep(server: RunningServer) -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    async with connected(server.url) as fabric, fabric.agent("A") as agent:
        with pytest.raises(SignalError, match="payload"):
            await agent.partial_result({"deep": deep})


@pytest.mark.parametrize("name", ["*", "ORCHESTRATOR", "SYNTHESIZER"])
async def test_a_reserved_name_is_refused_before_anything_is_sent(
    server: RunningServer, name: str
) -> None:
    async with connected(server.url) as fabric:
        with pytest.raises(SignalError, match="the name of one agent"):
            fabric.agent(name)
    assert server.cli("KEYS", "*") == [Namespace().meta]


@pytest.mark.parametrize("name", ["", "a\x1b[2J", "\ud800", "x" * 513, " a"])
async def test_names_are_checked(server: RunningServer, name: str) -> None:
    async with connected(server.url) as fabric:
        with pytest.raises((SignalError, ConfigError)):
            fabric.agent(name)
        with pytest.raises(SignalError, match="session"):
            fabric.agent("A", session=name or "a:b")
        with pytest.raises(SignalError, match="stream"):
            fabric.agent("A", stream=name or "\n")
        with pytest.raises(SignalError, match="session"):
            fabric.session(name or "a:b")
    assert server.cli("KEYS", "*") == [Namespace().meta]


async def test_names_come_from_the_settings(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(server.url, session=None) as fabric:
        with pytest.raises(ConfigError, match="FABRIC_AGENT"):
            fabric.agent()
        with pytest.raises(ConfigError, match="FABRIC_SESSION"):
            fabric.agent("A")
    monkeypatch.setenv("FABRIC_SESSION", "s")
    monkeypatch.setenv("FABRIC_AGENT", "A")
    monkeypatch.setenv("FABRIC_STREAM", "B")
    monkeypatch.setenv("FABRIC_REDIS_URL", server.url)
    async with connected(session=None) as fabric, fabric.agent():
        pass
    started = rows(server, SIGNALS)[0]
    assert (started["session"], started["emitter"], started["stream"]) == ("s", "A", "B")


async def test_it_must_be_connected_first(server: RunningServer) -> None:
    with pytest.raises(NotAllowedError, match="async with"):
        Fabric.connect(server.url).agent("A", session="s")


async def test_a_document_is_checked_like_a_signal_of_an_agent(server: RunningServer) -> None:
    refused = {f"k{number}": number for number in range(PARTIAL_PARTS_MAX + 1)}
    async with connected(server.url) as fabric, fabric.agent("A") as agent:
        before = server.cli("XLEN", SIGNALS)
        with pytest.raises(SignalError) as by_agent:
            await agent.partial_result(refused)
        with pytest.raises(SignalError) as by_fabric:
            await fabric.emit([{"type": "PARTIAL_RESULT", "emitter": "B", "partial": refused}])
        assert "more than 2000 values" in str(by_agent.value)
        assert str(by_fabric.value) == str(by_agent.value)
        assert server.cli("XLEN", SIGNALS) == before
