"""What the balancer costs a signal, by the size of a board: `python -m tests.core.balance_cost`.

A thousand agents take tasks, report progress, complete them and say that they have room.
"""

import sys
import time

import msgspec

from fabric.core.rules import Rules
from fabric.core.signal import SignalType
from fabric.core.task import TaskSpec
from tests.support.random_history import Play, signal

#: Rounds that are measured: each is five signals.
ROUNDS = 400


def measure(agents: int, count: int) -> float:
    """Return the mean time of a signal, µs, with so many agents and tasks on the board."""
    play = Play(rules=Rules(attempts_max=0, signals_per_second_max=0))
    tasks = [
        TaskSpec(
            f"t{n}",
            stream=f"s{n % 16}",
            estimate_ms=1_000 + n * 37 % 9_000,
            writes=[f"src/{n}.py"],
            can_merge_after=[f"t{n - 50}"] if n % 10 == 0 and n >= 50 else [],
        )
        for n in range(count)
    ]
    for at in range(0, count, 500):
        told = {"tasks": msgspec.to_builtins(tasks[at : at + 500])}
        play.say(signal(SignalType.TASKS_ADDED, "alice", told))
    for number in range(agents):
        beginning = signal(SignalType.STARTED, f"a{number}", {}, stream=f"s{number % 16}")
        play.say(beginning)
    names = [f"a{number}" for number in range(min(agents, count // 2))]
    for name in names:
        play.say(signal(SignalType.EARLY_COMPLETION, name, {}))
    spent = said = 0
    for turn in range(ROUNDS):
        name = names[turn % len(names)]
        agent = play.session.agents.records[name]
        if not agent.offers:
            continue
        task = agent.offers[0]
        play.now_ms += 10
        for kind, payload in (
            (SignalType.STARTED, {"task": task}),
            (SignalType.PROGRESS, {"percent": 50}),
            (SignalType.TASK_DONE, {"task": task}),
            (SignalType.EARLY_COMPLETION, {}),
            (SignalType.TASK_RETRY, {"task": task}),
        ):
            one = signal(kind, name, payload)
            began = time.perf_counter_ns()
            play.say(one)
            spent += time.perf_counter_ns() - began
            said += 1
            play.outcome.clear()
    return spent / said / 1_000


if __name__ == "__main__":
    for count in (100, 1_000, 10_000):
        sys.stdout.write(f"1,000 agents, {count:6,} tasks: {measure(1_000, count):6.1f} µs\n")
