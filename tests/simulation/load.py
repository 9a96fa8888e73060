"""Many tasks and agents, in the simulation: `python -m tests.simulation.load [TASKS ...]`.

A thousand agents (`--agents`) do all tasks of a board: real client, workers and rules, on simulated
time. Judges look at every commit: a task has one agent, and what is done stays done. They look at
every commit of a board of 1,000 tasks, and at every tenth of 10,000, whether tasks that run share
no file and no agent with room is idle in vain. At the end everything is done, and the log alone
gives the same records.

What the orchestrator does for a signal is counted in lines of Python that run, which no load on the
machine changes. Not counted: lists of tasks, which cost as much as they have tasks, and the first
offer, for which the index of the whole board is built.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from statistics import mean, median
from typing import Any
from unittest.mock import patch

import msgspec

from fabric.client.fabric import Fabric
from fabric.core.step import step
from fabric.core.task import TaskSpec
from fabric.store.keys import SessionKeys
from tests.core.balance_cost import KINDS, tasks_of
from tests.core.cost import lines_run
from tests.simulation.judge import Violation
from tests.simulation.judge.balance import Balances
from tests.simulation.judge.ending import check_replay
from tests.simulation.judge.lease import Leases
from tests.simulation.judge.signals import Signals
from tests.simulation.judge.tasks import Tasks
from tests.simulation.network import at_once
from tests.simulation.plan import Line, Plan
from tests.simulation.world import SESSIONS, World

AGENTS = 1_000

#: One signal in so many is counted: counting takes far longer than deciding.
COUNTED_EVERY = 7

#: Simulated time that a task takes, and after which an agent has asked for one in vain, s.
HOLD_S = 2.0
IN_VAIN_S = 900.0

#: The whole board is looked at after every commit for each so many tasks.
LOOKED_AT_MAX = 1_000

#: Tasks that one signal brings.
ADDED_MAX = 500

SETTINGS = {
    "seed": 1,
    "partitions": 1,
    "orchestrators": 1,
    "synthesizers": 1,
    "lease_ms": 30_000,
    "heartbeat_ms": 25_000,
    "ingress_max": 100_000,
    "cached_max": 1_000,
    "batch_max": 256,
    "rules": 0,
    "forgetful": 0,
}


class Counted:
    """The core's `step`, with what a share of its calls has cost: lines of Python by signal."""

    def __init__(self) -> None:
        self.lines: list[int] = []
        self.calls = 0
        self._has_offered = False

    def __call__(self, *given: Any) -> Any:
        self.calls += 1
        kind = given[1].type
        if self.calls % COUNTED_EVERY or kind == "TASKS_ADDED" or not self._has_offered:
            decision = step(*given)
            self._has_offered |= kind == "EARLY_COMPLETION"
            return decision
        decision, lines = lines_run(step, *given)
        self.lines.append(lines)
        return decision


def run(tasks: list[TaskSpec], agents: int) -> Counted:
    """Have so many agents do all tasks. Raises Violation."""
    names = [f"w{number:04}" for number in range(agents)]
    began = [Line(10.0, name, "start", (f"stream=s{n % 16}",)) for n, name in enumerate(names)]
    words = (f"hold={HOLD_S}", f"timeout={IN_VAIN_S}")
    work = [Line(20.0, name, "work", words) for name in names]
    counted = Counted()
    random.seed(1)  # the workers' jitter
    # All records are looked at once, at the end: after each batch it would take hours.
    with (
        patch("workers.orchestrator.step", counted),
        patch("tests.simulation.replica.check_session"),
    ):
        world = World(Plan(SETTINGS, (*began, *work)))
        balances = Balances(world.rules, looks_every=max(len(tasks) // LOOKED_AT_MAX, 1))
        tried = Tasks(world.rules.attempts_max)
        world.store.judges = [Leases(), Signals(), tried, balances]
        try:
            person = world.node("person")
            person.run(_add(Fabric(person.store, world.settings), tasks))
            _wait(world)
            asyncio.run(check_replay(world.store, _keys(world)))
        finally:
            world.close()
    return counted


async def _add(fabric: Fabric, tasks: list[TaskSpec]) -> None:
    async with fabric:
        for at in range(0, len(tasks), ADDED_MAX):
            told = msgspec.to_builtins(tasks[at : at + ADDED_MAX])
            document = {"type": "TASKS_ADDED", "emitter": "person", "session": SESSIONS[0]}
            await fabric.emit([document | {"payload": {"tasks": told}}])


def _wait(world: World) -> None:
    """Let time pass until all tasks are done."""
    while True:
        world.timeline.run(world.timeline.now_s + 2 * HOLD_S)
        if world.failures:
            raise world.failures[0]
        (found,) = at_once(world.store.hashes([_keys(world).tasks]))
        left = Counter(msgspec.json.decode(one)["status"] for one in found.values())
        if found and set(left) == {"completed"}:
            return
        if world.timeline.now_s > IN_VAIN_S:
            raise Violation("all tasks are done", str(left))


def _keys(world: World) -> SessionKeys:
    return world.namespace.partition(0).session(SESSIONS[0])


def main() -> int:
    """Print what a signal costs, for boards of several sizes."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.load")
    parser.add_argument("tasks", type=int, nargs="*", default=[100, 1_000, 10_000])
    parser.add_argument("--agents", type=int, default=AGENTS)
    given = parser.parse_args()
    for kind in ("two of 100 files", "a file of its own"):
        for count in given.tasks:
            began = time.monotonic()
            counted = run(tasks_of(count, KINDS[kind]), given.agents)
            told = f"{counted.calls:7,} signals, lines a signal {mean(counted.lines):5.0f}"
            told += f", median {median(counted.lines):.0f}, most {max(counted.lines):,}"
            said = f"{kind}, {count:6,} tasks, {given.agents:,} agents: {told}"
            sys.stdout.write(f"{said}; every judge content, {time.monotonic() - began:.0f} s\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
