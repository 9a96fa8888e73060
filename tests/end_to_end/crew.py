"""Agents that take tasks until all are done: `python -m tests.end_to_end.crew URL SESSION STREAM…`.

One process imports the client library and forks an agent for each stream, named after it; it
prints their process ids. A task takes its estimate; half of it is reported as progress.

`python -m tests.end_to_end.crew report` measures the makespan of 200 tasks of skewed lengths on
eight agents: with and without balancing, and with one agent killed.
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
from pathlib import Path
from typing import Any

from fabric.client.fabric import Fabric
from fabric.core.task import TaskSpec, TaskStatus
from fabric.errors import WaitTimeoutError
from tests.support.daemon import Daemon, environment
from tests.support.keyspace import Row, records, rows, session
from tests.support.servers import ROOT, RunningServer, start_server
from tests.support.waiting import until

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


def main(url: str, name: str, streams: list[str]) -> int:
    children = []
    for stream in streams:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                asyncio.run(live(url, name, stream))
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

    async def load(self, tasks: list[TaskSpec]) -> None:
        async with Fabric.connect(self.server.url, session=self.name) as fabric:
            told = [json.loads(json.dumps(_plain(task))) for task in tasks]
            document = {"type": "TASKS_ADDED", "emitter": "person", "payload": {"tasks": told}}
            await fabric.emit([document])

    def begin(self) -> "subprocess.Popen[str]":
        words = [sys.executable, "-m", "tests.end_to_end.crew", self.server.url, self.name]
        process = subprocess.Popen(
            [*words, *self.streams], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process.stdout:
            self.pids = [int(process.stdout.readline()) for _ in self.streams]
        return process

    def tasks(self) -> dict[str, Any]:
        return records(self.server, session(self.name).tasks)

    def count_done(self) -> int:
        return sum(task["status"] == "completed" for task in self.tasks().values())

    def signals(self, kind: str) -> list[Row]:
        return rows(self.server, session(self.name).log, kind="signal", type=kind)

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


def measure(server: RunningServer, name: str, *, kill: bool) -> dict[str, float]:
    """Run 200 tasks on eight agents; return makespan and bound in ms, and what was done twice."""
    streams = [f"S{number}" for number in range(1, 9)]
    crew, tasks = Crew(server, name, streams), skewed(200, streams, 40)
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
    return {
        "makespan_ms": made,
        "bound_ms": bound,
        "ratio": round(made / bound, 3),
        "done_twice": twice,
        "begun_again": sum(task["attempts"] - 1 for task in crew.tasks().values()),
        "forgotten": forgotten,
    }


def report() -> int:
    for balance, kill in (("stream", False), ("all", False), ("all", True)):
        folder = Path(tempfile.mkdtemp())
        server = start_server("redis-7.0")
        (folder / "fabric.toml").write_text(RULES.format(balance=balance, silence_ms=SILENCE_MS))
        daemon = Daemon(server.url, rules=folder / "fabric.toml")
        try:
            began = time.monotonic()
            found = measure(server, f"run-{balance}-{kill}", kill=kill)
            found["seconds"] = round(time.monotonic() - began, 1)
        finally:
            daemon.close()
            server.remove()
            shutil.rmtree(folder)
        sys.stdout.write(f"balance={balance} killed={kill}: {json.dumps(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(report() if sys.argv[1] == "report" else main(sys.argv[1], sys.argv[2], sys.argv[3:]))
