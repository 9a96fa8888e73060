"""What the balancer costs a signal, by the size of a board: `python -m tests.core.balance_cost`.

A thousand agents take tasks, report progress, complete them and say that they have room. The cost
is counted in lines of Python that run, which no other load on the machine changes, and in
processor time. Tasks share nothing; or each writes one of many files, or several of them.
"""

import sys
import time
from collections.abc import Callable, Iterator
from statistics import mean, median

import msgspec

from fabric.core.rules import Rules
from fabric.core.signal import Signal, SignalType
from fabric.core.task import TaskSpec
from tests.core.cost import lines_of
from tests.support.random_history import Play, signal

AGENTS = 1_000

#: Rounds that are measured: each is five signals.
ROUNDS = 200

#: Kind of board → the files that the n-th task of so many writes.
KINDS: dict[str, Callable[[int, int], list[str]]] = {
    "a file of its own": lambda n, count: [f"src/{n}.py"],
    "one of many files": lambda n, count: [f"src/{n % (count // 10)}.py"],
    "one of 100 files": lambda n, count: [f"src/{n % 100}.py"],
    "two of 100 files": lambda n, count: [f"a/{n % 51}.py", f"b/{n % 49}.py"],
    "two of 6 files": lambda n, count: [f"{n % 6}.py", f"{(n + 1 + n // 6 % 5) % 6}.py"],
    "three of 94 files": lambda n, count: [f"a/{n % 31}.py", f"b/{n % 30}.py", f"c/{n % 33}.py"],
    "three of 6 files": lambda n, count: [f"{(n + n * k // 6) % 6}.py" for k in (0, 1, 3)],
}


def tasks_of(count: int, files: Callable[[int, int], list[str]]) -> list[TaskSpec]:
    """Return so many tasks in sixteen streams; one in ten waits for an earlier one."""
    return [
        TaskSpec(
            f"t{n}",
            stream=f"s{n % 16}",
            estimate_ms=1_000 + n * 37 % 9_000,
            writes=files(n, count),
            can_merge_after=[f"t{n - 50}"] if n % 10 == 0 and n >= 50 else [],
        )
        for n in range(count)
    ]


def board(count: int, files: Callable[[int, int], list[str]], agents: int = AGENTS) -> Play:
    """Return a session in which all agents have room, and so many tasks are on the board."""
    play = Play(rules=Rules(attempts_max=0, signals_per_second_max=0))
    tasks = tasks_of(count, files)
    for at in range(0, count, 500):
        told = {"tasks": msgspec.to_builtins(tasks[at : at + 500])}
        play.say(signal(SignalType.TASKS_ADDED, "alice", told))
    for number in range(agents):
        stream = f"s{number % 16}"
        play.say(signal(SignalType.STARTED, f"a{number}", {}, stream=stream))
        play.say(signal(SignalType.EARLY_COMPLETION, f"a{number}", {}))
    return play


def signals(play: Play) -> Iterator[Signal]:
    """Yield the signals of agents that take a task each, do it, and have it done again."""
    agents = play.session.agents.records
    for _ in range(ROUNDS):
        name = next(name for name in agents if agents[name].offers)
        task = agents[name].offers[0]
        play.now_ms += 10
        yield signal(SignalType.STARTED, name, {"task": task})
        yield signal(SignalType.PROGRESS, name, {"percent": 50})
        yield signal(SignalType.TASK_DONE, name, {"task": task})
        yield signal(SignalType.EARLY_COMPLETION, name, {})
        yield signal(SignalType.TASK_RETRY, name, {"task": task})
        play.outcome.clear()
        # The next round is another agent's.
        agents[name] = agents.pop(name)


def lines(count: int, files: Callable[[int, int], list[str]], agents: int = AGENTS) -> list[int]:
    """Return the lines that each signal runs."""
    play = board(count, files, agents)
    return [lines_of(play, one) for one in signals(play)]


def times_us(count: int, files: Callable[[int, int], list[str]]) -> list[float]:
    """Return the processor time that each signal takes, µs."""
    play = board(count, files)
    found: list[float] = []
    for one in signals(play):
        began = time.thread_time_ns()
        play.say(one)
        found.append((time.thread_time_ns() - began) / 1_000)
    return found


if __name__ == "__main__":
    for kind, files in KINDS.items():
        for count in (100, 1_000, 10_000):
            counted, timed = lines(count, files), times_us(count, files)
            said = f"lines {mean(counted):7,.0f}, most {max(counted):6,}"
            said += f"; {mean(timed):6.1f} µs, median {median(timed):5.1f} µs"
            sys.stdout.write(f"{kind}, {count:6,} tasks: {said}\n")
