"""A fabric for agents under test: a running orchestrator and a connected client."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.core.record import AgentStatus
from fabric.core.rules import Rules
from fabric.testing import InProcessFabric, running
from tests.support.in_process import serving
from tests.support.keyspace import Row, rows, session
from tests.support.servers import RunningServer
from tests.support.waiting import eventually

S = session("s")

T = TypeVar("T")

#: Long enough that no agent sends a heartbeat unless a test asks for one.
QUIET: dict[str, Any] = {"heartbeat_ms": 3_600_000, "block_ms": 200, "workspace": "none"}


@asynccontextmanager
async def connected(url: str | None = None, **flags: Any) -> AsyncIterator[Fabric]:
    """Connect a client whose agents work in session `s`, and that no orchestrator need answer."""
    chosen = {"session": "s", "confirm_ms": 0, **QUIET, **flags}
    async with Fabric.connect(url, **chosen) as fabric:
        yield fabric


@asynccontextmanager
async def fleet(url: str, *, rules: Rules | None = None, **flags: Any) -> AsyncIterator[Fabric]:
    """Connect a client, with an orchestrator that answers."""
    async with serving(url, rules=rules), connected(url, confirm_ms=30_000, **flags) as fabric:
        yield fabric


@asynccontextmanager
async def in_process(rules: Rules | None = None, **flags: Any) -> AsyncIterator[InProcessFabric]:
    """A fabric without a server, whose agents work in session `s`."""
    async with running(rules, **{"session": "s", "heartbeat_ms": 3_600_000, **flags}) as fabric:
        yield fabric


async def after(fabric: InProcessFabric, seconds: float, waiting: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns once some time has passed, or raise what it raises."""
    task = asyncio.create_task(waiting)
    await fabric.advance(seconds)
    assert task.done()
    return task.result()


async def is_blocked(agent: Agent) -> bool:
    """Return whether the orchestrator knows that the agent waits."""
    found = (await agent.session.agents()).get(agent.name)
    return found is not None and found.status is AgentStatus.BLOCKED


async def blocked(agent: Agent) -> None:
    """Wait until the orchestrator knows that the agent waits."""

    async def ask() -> bool:
        return await is_blocked(agent)

    await eventually(ask, f"{agent.name} waits")


async def logged(server: RunningServer, count: int) -> list[Row]:
    """Return the signals in the log, once there are `count` of them."""

    def found() -> list[Row]:
        return rows(server, S.log, kind="signal")

    await eventually(
        lambda: len(found()) >= count, lambda: f"{count} signals: {[r['type'] for r in found()]}"
    )
    return found()


def said(signals: list[Row]) -> list[tuple[str, str]]:
    """Return the emitter and type of each signal."""
    return [(row["emitter"], row["type"]) for row in signals]
