"""One agent in a process of its own: `python -m tests.end_to_end.member URL NAME ROLE`.

    arrives    arrives at every barrier it hears of, and ends when that is over
    dawdles    stays alive and does nothing, so that it can be killed
    holds      claims db.sql, and then dawdles
    waits      asks for db.sql, and ends when it has it
    restarts   ends when it knows where its last incarnation was

It prints the message that made it end, as JSON.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.core.signal import SignalType
from tests.support.daemon import environment
from tests.support.servers import ROOT
from tests.support.waiting import CONDITION_SECONDS_MAX

SESSION = "demo"
RESOURCE = "db.sql"

#: Short enough that a live agent is never silent for too long by the tests' rule file, ms.
HEARTBEAT_MS = 100


async def live(url: str, name: str, role: str) -> None:
    task = "migrate" if role == "holds" else None
    async with (
        Fabric.connect(url, heartbeat_ms=HEARTBEAT_MS) as fabric,
        fabric.agent(name, session=SESSION, task=task) as agent,
    ):
        if role in ("holds", "waits"):
            await agent.emit(SignalType.INTENT, {"writes": [RESOURCE]})
        if role in ("holds", "dawdles"):
            await asyncio.Event().wait()
        print(json.dumps(await told(agent, role)), flush=True)  # noqa: T201 - what the test reads


async def told(agent: Agent, role: str) -> dict[str, Any]:
    """Return the payload of the message that this role ends on."""
    async for message in agent.messages():
        barrier = message.payload.get("barrier")
        if role == "waits" and message.type == "PROCEED":
            return message.payload
        if role == "restarts" and message.type == "RESUME":
            return message.payload
        if role == "arrives" and message.type == "PAUSE":
            arrival = {"barrier": barrier, "generation": message.payload["generation"]}
            await agent.emit(SignalType.CHECKPOINT_REACHED, arrival)
        if role == "arrives" and message.type == "RESUME" and barrier:
            return message.payload
    raise AssertionError("the messages have ended")


class Member:
    """The process, from outside."""

    def __init__(self, url: str, name: str, role: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.member", url, name, role],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        """Kill it with SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def ended_on(self) -> dict[str, Any]:
        """Wait until it ends without an error; return what made it end."""
        said, _ = self.process.communicate(timeout=CONDITION_SECONDS_MAX)
        assert self.process.returncode == 0, said
        payload: dict[str, Any] = json.loads(said)
        return payload


StartMember = Callable[[str, str, str], Member]


@pytest.fixture
def member() -> Iterator[StartMember]:
    """Start agents as processes; none outlives its test."""
    started: list[Member] = []

    def start(url: str, name: str, role: str) -> Member:
        started.append(Member(url, name, role))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        assert one.process.stdout is not None
        one.process.stdout.close()


if __name__ == "__main__":
    asyncio.run(live(*sys.argv[1:4]))
