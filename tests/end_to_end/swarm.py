"""Many agent processes: `python -m tests.end_to_end.swarm URL SESSIONS AGENTS SIGNALS`.

One process imports the client library once and forks the agents, so that fifty real processes start
on a small machine in a second or two. Its exit code is the number of agents that ended with an
error.
"""

import asyncio
import os
import sys
import traceback

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.core.signal import SignalType

#: Time limit of sending and of each wait, s: workers are being killed meanwhile.
PATIENCE_SECONDS = 120

#: Sessions; with two partitions, each partition has some of them.
NAMES = ("red", "green", "blue")


def agent_name(number: int) -> str:
    return f"agent-{number}"


def session_name(number: int, sessions: int) -> str:
    return NAMES[number % sessions]


def neighbour(number: int, sessions: int, agents: int) -> int:
    """Return the next agent in the session's ring."""
    following = number + sessions
    return following if following < agents else number % sessions


def output_name(number: int, turn: int) -> str:
    return f"output-{number}-{turn}"


async def live(url: str, number: int, sessions: int, agents: int, signals: int) -> None:
    """Send exactly `signals` signals, STARTED and COMPLETED included."""
    follower = neighbour(number, sessions, agents)
    before = next(
        other
        for other in range(number % sessions, agents, sessions)
        if neighbour(other, sessions, agents) == number
    )
    limit_ms = PATIENCE_SECONDS * 1000
    async with (
        Fabric.connect(url, emit_limit_ms=limit_ms, heartbeat_ms=600_000) as fabric,
        fabric.agent(
            agent_name(number), session=session_name(number, sessions), priority=number
        ) as agent,
    ):
        for turn in range(signals - 2):
            await speak(agent, turn, signals - 2, number, follower, before)


async def speak(
    agent: Agent, turn: int, turns: int, number: int, follower: int, before: int
) -> None:
    """In ten turns send six reports and two results, resolve for a neighbour, and wait for one.

    Every second wait is a real one, so the agents keep pace with the workers that are killed.
    """
    kind = turn % 10
    if kind in (2, 5):
        await agent.partial_result({"findings": [{"key": f"{number}/{turn}", "value": turn}]})
    elif kind == 7:
        await agent.resolve(
            output_name(number, turn),
            location=f"outputs/{number}/{turn}.json",
            # An agent that knows of it already would not send BLOCKED for it.
            consumers=[] if turn % 20 == 17 else [agent_name(follower)],
        )
    elif kind == 8 and turn % 20 == 18:
        location = await agent.wait_for(output_name(before, turn - 1), timeout=PATIENCE_SECONDS)
        assert location == f"outputs/{before}/{turn - 1}.json"
    elif kind == 8:
        await agent.emit(SignalType.BLOCKED, {"on": output_name(before, turn - 1)})
    else:
        await agent.progress(100 * turn / turns)


def main(url: str, sessions: int, agents: int, signals: int) -> int:
    children = []
    for number in range(agents):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                asyncio.run(live(url, number, sessions, agents, signals))
                code = 0
            except BaseException:  # print any error, and end this process here
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:5])))
