"""Another process speaks in an agent's name: the agent goes on, or ends with an error."""

from typing import Any

import pytest

from fabric.client.emitter import Emitter, Sender
from fabric.core.signal import SignalType
from fabric.errors import EndedError, OverloadedError, ServerError, UnreachableError
from fabric.testing import InProcessFabric
from fabric.testing.store import MemoryStore
from tests.client.fleet import S, in_process
from tests.support.keyspace import DEAD, add, records, rows


def speak(fabric: InProcessFabric, kind: str, incarnation: int, seq: int = 0) -> None:
    """Put a signal in the name of A into the ingress."""
    numbers = {"incarnation": incarnation, **({"seq": seq} if seq else {})}
    add(fabric, session="s", type=kind, emitter="A", payload="{}", **numbers)  # type: ignore[arg-type] # mypy takes them for the key


async def test_an_agent_goes_on_above_numbers_that_it_did_not_send() -> None:
    async with in_process() as fabric:
        async with fabric.agent("A") as agent:
            speak(fabric, "HEARTBEAT", incarnation=1, seq=5_000)
            await fabric.settle()
            await agent.progress(50)
        assert records(fabric, S.agents)["A"]["status"] == "completed"
        assert records(fabric, S.agents)["A"]["seq"] > 5_000
        assert rows(fabric, DEAD) == []


async def test_an_agent_whose_own_signals_do_not_count_ends_with_an_error() -> None:
    async def work() -> None:
        async with fabric.agent("A") as agent:
            await fabric.settle()
            # Both are in the ingress before the orchestrator sees them.
            speak(fabric, "HEARTBEAT", incarnation=1, seq=5_000)
            await agent.progress(50)
            await fabric.settle()
            await agent.progress(60)

    async with in_process() as fabric:
        with pytest.raises(EndedError, match="another process has sent number 5000 in its name"):
            await work()
        (letter,) = rows(fabric, DEAD)
        assert (letter["code"], letter["raw.type"]) == ("SKIPPED", "PROGRESS")


async def test_an_incarnation_that_is_displaced_ends_with_an_error() -> None:
    async def work() -> None:
        async with fabric.agent("A") as agent:
            speak(fabric, "STARTED", incarnation=7)
            await fabric.settle()
            await agent.progress(50)

    async with in_process() as fabric:
        with pytest.raises(EndedError, match="incarnation 7 of A has replaced incarnation 1"):
            await work()
        # It starts again above what was sent in its name.
        async with fabric.agent("A") as agent:
            await agent.ready()
            assert agent.incarnation == 8
            assert agent.cancelled is None


class Refusing(MemoryStore):
    """A server whose ingress is full, or that cannot be reached any more."""

    lost = False

    async def emit(self, *arguments: Any, **options: Any) -> list[bytes]:
        raise UnreachableError("gone") if self.lost else OverloadedError("full")


@pytest.mark.parametrize("lost", [False, True])
async def test_a_number_is_spent_only_if_the_signal_may_be_there(lost: bool) -> None:
    store = Refusing(lambda: 0)
    store.lost = lost
    emitter = Emitter(store, 0, ingress_max=1, limit_ms=0)
    sender = Sender(emitter, "s", "A", "")
    sender.begin(1)
    for _ in range(3):
        with pytest.raises(ServerError):
            await sender.send(SignalType.PROGRESS, {})
    assert sender.seq == (3 if lost else 0)
