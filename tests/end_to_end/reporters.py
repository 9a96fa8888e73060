"""Agents as processes that report on command: `python -m tests.end_to_end.reporters`.

An agent reads partial results from its standard input, one JSON document a line, completes at the
end of the input, and prints each message that it receives, as JSON.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from tests.end_to_end.member import SESSION
from tests.support.daemon import environment
from tests.support.servers import ROOT
from tests.support.waiting import CONDITION_SECONDS_MAX, until


async def live(url: str, name: str) -> None:
    async with Fabric.connect(url) as fabric, fabric.agent(name, session=SESSION) as agent:
        hearing = asyncio.create_task(hear(agent))
        while line := await asyncio.to_thread(sys.stdin.readline):
            await agent.partial_result(json.loads(line))
        hearing.cancel()


async def hear(agent: Agent) -> None:
    async for message in agent.messages():
        heard = {"type": message.type, "from": message.sender, "payload": message.payload}
        print(json.dumps(heard), flush=True)  # noqa: T201 - what the test reads


class Reporter:
    """The process, from outside."""

    def __init__(self, url: str, name: str) -> None:
        self._heard = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.reporters", url, name],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=self._heard,
            text=True,
        )

    def report(self, **partial: Any) -> None:
        """Have it hand over a partial result."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(partial) + "\n")
        self.process.stdin.flush()

    def finds(self, key: str, value: Any, **more: Any) -> None:
        """Have it report one finding."""
        self.report(findings=[{"key": key, "value": value, **more}])

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """Return the payloads of the messages of one type that it has received so far."""
        self._heard.seek(0)
        lines = self._heard.read().decode().split("\n")[:-1]
        return [one["payload"] for one in map(json.loads, lines) if one["type"] == kind]

    def hears(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Wait until it has received `count` messages of a type; return the last."""
        until(
            lambda: len(self.heard(kind)) >= count or self.process.poll() is not None,
            f"{self.name} hears {kind}",
        )
        assert self.process.poll() is None, f"{self.name} has ended"
        (*_, last) = self.heard(kind)
        return last

    def end(self) -> None:
        """Have it complete, and wait until it has ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(CONDITION_SECONDS_MAX) == 0

    def close(self) -> None:
        """Kill it with SIGKILL, unless it has ended."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._heard.close()


StartReporter = Callable[[str, str], Reporter]


@pytest.fixture
def reporter() -> Iterator[StartReporter]:
    """Start such agents; none outlives its test."""
    started: list[Reporter] = []

    def start(url: str, name: str) -> Reporter:
        started.append(Reporter(url, name))
        return started[-1]

    yield start
    for one in started:
        one.close()


if __name__ == "__main__":
    asyncio.run(live(*sys.argv[1:3]))
