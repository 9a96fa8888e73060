"""Agents that do the tasks of a board: `python -m tests.end_to_end.crew ROLE URL SESSION NAME…`.

One process imports the client library and forks an agent for each name, which is its stream too; it
prints their process ids. A task takes its estimate; half of it is reported as progress.

    takes     takes one task after the other until all are done
    claims    the same, and claims what each task reads and writes
    stalls    makes some quick progress on the task of its name, and then only lives, until told to
              stop
    paces     makes progress on the task of its name at long intervals, with no sign of life between
    rushes    does the one task of its name, whatever else runs, once those before it are complete;
              it holds what it claims until all tasks that come after none are at that point too

`python -m tests.end_to_end.crew report [UNIT_MS]` measures the makespan of 200 tasks of one to ten
units on eight agents: with and without balancing, and with one agent killed. On a busy machine,
longer units tell more of the balancer, and less of the machine.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from fabric.client.fabric import Fabric
from fabric.core.task import TaskSpec, TaskStatus
from fabric.errors import WaitTimeoutError
from tests.support.daemon import Daemon, environment
from tests.support.keyspace import Row, records, rows, session
from tests.support.servers import ROOT, RunningServer, start_server
from tests.support.waiting import until

#: Pause between two looks at the board, s.
LOOK_S = 0.02

#: The interval of an agent that `paces`, s. The test's limits are shorter.
PACE_S = 4.5

#: A dead agent is noticed after this silence, ms, where times are measured; tests use a longer one,
#: so that nobody falls silent on a busy machine. Heartbeats come far more often.
SILENCE_MS = 500
HEARTBEAT_MS = 100

RULES = """
[tasks]
balance = "{balance}"
attempts_max = 0
[liveness]
silence_ms_min = {silence_ms}
silence_ms_max = {silence_ms}0
mass_silence_percent = 0
"""


async def live(url: str, name: str, stream: str) -> None:
    """Take one task after the other; end when there is none that is not done."""
    async with (
        Fabric.connect(
            url, session=name, heartbeat_ms=HEARTBEAT_MS, emit_limit_ms=60_000
        ) as fabric,
        fabric.agent(stream, stream=stream) as agent,
    ):
        tasks = await agent.session.tasks()
        while True:
            try:
                task = await agent.next_task(timeout=0.5)
            except WaitTimeoutError:
                found = await agent.session.tasks()
                if all(one.status is TaskStatus.COMPLETED for one in found.values()):
                    return
                continue
            for percent in (50, 100):
                await asyncio.sleep(tasks[task.id].length_ms / 2_000)
                if percent < 100:
                    await agent.progress(percent)
            await agent.done()


async def claim(url: str, name: str, stream: str) -> None:
    """Take tasks as `live` does; claim what each one needs, and meet the others after it."""
    async with (
        Fabric.connect(
            url, session=name, heartbeat_ms=HEARTBEAT_MS, emit_limit_ms=60_000
        ) as fabric,
        fabric.agent(stream, stream=stream) as agent,
    ):
        tasks = await agent.session.tasks()
        while True:
            try:
                task = await agent.next_task(timeout=0.5)
            except WaitTimeoutError:
                await agent.checkpoint("idle")
                found = await agent.session.tasks()
                if all(one.status is TaskStatus.COMPLETED for one in found.values()):
                    return
                continue
            needs = tasks[task.id]
            async with agent.writing(*needs.writes, reads=needs.reads):
                await asyncio.sleep(needs.length_ms / 1_000)
            await agent.done()
            await agent.checkpoint(task.id)


async def stall(url: str, name: str, task: str) -> None:
    """Make some progress on a task, and then send heartbeats alone, until told to stop."""
    async with (
        Fabric.connect(
            url, session=name, heartbeat_ms=HEARTBEAT_MS, emit_limit_ms=60_000
        ) as fabric,
        fabric.agent(task) as agent,
    ):
        await agent.begin(task)
        for percent in (10, 20, 30, 40):
            await agent.progress(percent)
            await asyncio.sleep(LOOK_S)
        async for message in agent.messages():
            if message.type == "CANCEL":
                return


async def pace(url: str, name: str, task: str) -> None:
    """Make progress at long intervals, and say nothing between."""
    async with (
        Fabric.connect(url, session=name, heartbeat_ms=600_000, emit_limit_ms=60_000) as fabric,
        fabric.agent(task) as agent,
    ):
        await agent.begin(task)
        for percent in (25, 50, 75, 99):
            await asyncio.sleep(PACE_S)
            await agent.progress(percent)
        await agent.done()


async def rush(url: str, name: str, task: str) -> None:
    """Do one task; hold what it needs until all that can claim at once have claimed."""
    async with (
        Fabric.connect(
            url, session=name, heartbeat_ms=HEARTBEAT_MS, emit_limit_ms=60_000
        ) as fabric,
        fabric.agent(task) as agent,
    ):
        tasks = await agent.session.tasks()
        needs = tasks[task]
        first = {
            one for one, it in tasks.items() if not it.can_merge_after and (it.writes or it.reads)
        }

        async def wait_for_those_before() -> None:
            while needs.can_merge_after:
                found = await agent.session.tasks()
                before = (found[one].status for one in needs.can_merge_after)
                if all(status is TaskStatus.COMPLETED for status in before):
                    return
                await asyncio.sleep(LOOK_S)

        async def wait_for_claims() -> None:
            claimed: set[str] = set()
            while not first <= claimed:
                claimed |= {claim.agent for claim in (await agent.session.claims()).values()}
                found = await agent.session.tasks()
                claimed |= {one for one in first if found[one].status is TaskStatus.COMPLETED}
                await asyncio.sleep(LOOK_S)

        await wait_for_those_before()
        await agent.begin(task)
        if needs.writes or needs.reads:
            async with agent.writing(*needs.writes, reads=needs.reads):
                await wait_for_claims()
        await agent.done()


#: Role → what an agent of it does.
ROLES = {"takes": live, "claims": claim, "rushes": rush, "stalls": stall, "paces": pace}


def main(role: str, url: str, name: str, *streams: str) -> int:
    children = []
    for stream in streams:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                asyncio.run(ROLES[role](url, name, stream))
                code = 0
            except BaseException:  # print any error, and end this process here
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


@dataclass
class Crew:
    """A crew at work on a list of tasks in a session of its own."""

    server: RunningServer
    name: str
    streams: list[str]
    pids: list[int] = field(default_factory=list)
    role: str = "takes"

    async def load(self, tasks: list[TaskSpec]) -> None:
        async with Fabric.connect(self.server.url, session=self.name) as fabric:
            told = [json.loads(json.dumps(_plain(task))) for task in tasks]
            document = {"type": "TASKS_ADDED", "emitter": "person", "payload": {"tasks": told}}
            await fabric.emit([document])

    def begin(self) -> "subprocess.Popen[str]":
        words = [sys.executable, "-m", "tests.end_to_end.crew", self.role, self.server.url]
        words += [self.name, *self.streams]
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process.stdout:
            self.pids = [int(process.stdout.readline()) for _ in self.streams]
        return process

    def tasks(self) -> dict[str, Any]:
        return records(self.server, session(self.name).tasks)

    def count_done(self) -> int:
        return sum(task["status"] == "completed" for task in self.tasks().values())

    def rows(self, **wanted: str) -> list[Row]:
        """Return the entries of the log with these values."""
        return rows(self.server, session(self.name).log, **wanted)

    def signals(self, kind: str) -> list[Row]:
        return self.rows(kind="signal", type=kind)

    def directives(self, kind: str) -> list[Row]:
        return self.rows(kind="directive", type=kind)

    def conflicts(self) -> list[list[str]]:
        """Return the agents of each conflict that was detected."""
        found = self.rows(type="CONFLICT_DETECTED")
        return [row.payload["agents"] for row in found if row.payload.get("agents")]

    def makespan_ms(self) -> int:
        first = min(int(row["ms"]) for row in self.signals("STARTED") if "task" in row.payload)
        return max(int(row["ms"]) for row in self.signals("TASK_DONE")) - first


def _plain(task: TaskSpec) -> dict[str, Any]:
    return {name: value for name in task.__struct_fields__ if (value := getattr(task, name))}


def skewed(count: int, streams: list[str], unit_ms: int) -> list[TaskSpec]:
    """Return tasks of one to ten units; the last stream has half of them."""
    tasks = []
    for number in range(count):
        stream = streams[-1] if number % 2 else streams[number // 2 % (len(streams) - 1)]
        length = 1 + number * 7 % 10
        tasks.append(TaskSpec(f"t{number}", stream=stream, estimate_ms=length * unit_ms))
    return tasks


def lost_ms(crew: Crew, tasks: list[TaskSpec]) -> tuple[float, float]:
    """Return the mean time from the end of a task to the start of its agent's next one, and by how
    much a task took longer than it should, ms.
    """
    lengths = {task.id: task.estimate_ms for task in tasks}
    said = sorted(
        (row["emitter"], int(row.id.partition("-")[0]), row["type"], int(row["ms"]), row.payload)
        for kind in ("STARTED", "TASK_DONE")
        for row in crew.signals(kind)
        if "task" in row.payload
    )
    between, longer = [], []
    for (agent, _, kind, sooner, _), (other, _, _, later, told) in pairwise(said):
        if agent == other and kind == "TASK_DONE":
            between.append(later - sooner)
        elif agent == other:
            longer.append(later - sooner - lengths[told["task"]])
    return mean(between), mean(longer)


def measure(server: RunningServer, name: str, unit_ms: int, *, kill: bool) -> dict[str, float]:
    """Run 200 tasks on eight agents; return makespan and bound in ms, and what was done twice."""
    streams = [f"S{number}" for number in range(1, 9)]
    crew, tasks = Crew(server, name, streams), skewed(200, streams, unit_ms)
    asyncio.run(crew.load(tasks))
    process = crew.begin()
    if kill:
        until(lambda: crew.count_done() >= len(tasks) // 2, "half of the tasks are done")
        os.kill(crew.pids[0], signal.SIGKILL)
    process.wait()
    lengths = [task.estimate_ms for task in tasks]
    bound = max(*lengths, sum(lengths) / len(streams))
    twice = len(crew.signals("TASK_DONE")) - len(tasks)
    forgotten = len(tasks) - crew.count_done()
    made = crew.makespan_ms()
    between, longer = lost_ms(crew, tasks)
    return {
        "makespan_ms": made,
        # The fabric's share of what is over the bound, and the machine's: mean of a task.
        "to_next_ms": round(between, 1),
        "longer_ms": round(longer, 1),
        "bound_ms": bound,
        "ratio": round(made / bound, 3),
        "done_twice": twice,
        "begun_again": sum(task["attempts"] - 1 for task in crew.tasks().values()),
        "forgotten": forgotten,
    }


def report(unit_ms: int = 40) -> int:
    for balance, kill in (("stream", False), ("all", False), ("all", True)):
        folder = Path(tempfile.mkdtemp())
        server = start_server("redis-7.0")
        (folder / "fabric.toml").write_text(RULES.format(balance=balance, silence_ms=SILENCE_MS))
        daemon = Daemon(server.url, rules=folder / "fabric.toml")
        try:
            began = time.monotonic()
            found = measure(server, f"run-{balance}-{kill}", unit_ms, kill=kill)
            found["seconds"] = round(time.monotonic() - began, 1)
        finally:
            daemon.close()
            server.remove()
            shutil.rmtree(folder)
        sys.stdout.write(f"balance={balance} killed={kill}: {json.dumps(found)}\n")
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "report":
        sys.exit(report(*map(int, sys.argv[2:])))
    sys.exit(main(*sys.argv[1:]))
