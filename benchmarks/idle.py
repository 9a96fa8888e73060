"""`idle`: what a fleet costs that does nothing: commands, and processor time of server and workers.

The real workers, and agents with the real library that have started and wait: they send heartbeats
and listen. All agents are in a process of their own, over one connection pool, as a fleet's host
has them; what they use themselves is shown too.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.connection import BenchmarkError, Connection
from benchmarks.process import Worker, processor_seconds, progress, working
from benchmarks.server import running
from fabric import Fabric

#: Agents of a fleet; 0 is the workers by themselves.
AGENTS = (0, 1_000)

#: How long is measured, s: six heartbeats of each agent.
SECONDS = 60.0

#: Longest time for all agents to have started, s.
START_SECONDS_MAX = 120.0

SESSION = "idle"


@dataclass(frozen=True)
class Idle:
    """One fleet: commands a second, by name, and processor time, ms a second, by process."""

    agents: int
    commands: dict[str, float]
    used_ms: dict[str, float]


def run(binary: Path, seconds: float = SECONDS) -> list[Idle]:
    """Measure each fleet on a server of its own. Raises BenchmarkError."""
    return [_measure(binary, agents, seconds) for agents in AGENTS]


def table(found: list[Idle]) -> str:
    """Return the fleets as a table, and the commands of the largest."""
    processes = list(found[-1].used_ms)
    heads = ["agents", "commands/s", *(f"{name}, ms/s" for name in processes)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for one in found:
        cells = [f"{one.agents:,}", f"{sum(one.commands.values()):,.0f}"]
        cells += [f"{one.used_ms.get(name, 0.0):.1f}" for name in processes]
        lines.append(f"| {' | '.join(cells)} |")
    often = sorted(found[-1].commands.items(), key=lambda pair: -pair[1])
    lines += ["", ", ".join(f"{name} {rate:.1f}" for name, rate in often if rate >= 0.1)]
    return "\n".join(lines)


def _measure(binary: Path, agents: int, seconds: float) -> Idle:
    with (
        running(binary) as server,
        working("workers", "orchestrator", "--redis-url", server.url) as orchestrator,
        working("workers", "synthesizer", "--redis-url", server.url) as synthesizer,
        working("benchmarks.idle", server.url, str(agents)) as fleet,
    ):
        workers = {"orchestrator": orchestrator, "synthesizer": synthesizer, "agents": fleet}
        look = server.connect()
        _wait_for_start(look, agents, workers)
        progress(f"{agents:,} agents: {seconds:g} s of nothing")
        pids = {"server": server.pid, **{name: one.pid for name, one in workers.items()}}
        before = {name: _used(pid) for name, pid in pids.items()}
        counted, began = _calls(look), time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        commands = {name: (n - counted.get(name, 0)) / took for name, n in _calls(look).items()}
        used = {name: 1_000 * (_used(pid) - before[name]) / took for name, pid in pids.items()}
        for one in workers.values():
            one.check()
    progress("")
    return Idle(agents, commands, used)


def _wait_for_start(look: Connection, agents: int, workers: dict[str, Worker]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while look.call("HLEN", f"fabric:{{0}}:{SESSION}:agents") < agents:
        for one in workers.values():
            one.check()
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{agents} agents have not started in {START_SECONDS_MAX:g} s")
        time.sleep(0.1)
    time.sleep(2 * len(workers))  # what follows from the start is done


def _calls(look: Connection) -> dict[str, int]:
    """Return how often each command was called, those in scripts too."""
    lines = look.call("INFO", "commandstats").decode().split()
    found = (line.partition(":calls=") for line in lines if ":calls=" in line)
    return {name.removeprefix("cmdstat_"): int(calls.split(",")[0]) for name, _, calls in found}


def _used(pid: int) -> float:
    return processor_seconds(pid) or 0.0


async def _idle(url: str, agents: int) -> None:
    """Start the agents, and listen until this process is ended."""
    async with Fabric.connect(url) as fabric, AsyncExitStack() as fleet:
        for number in range(agents):
            await fleet.enter_async_context(fabric.agent(f"A{number}", session=SESSION))
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_idle(sys.argv[1], int(sys.argv[2])))
