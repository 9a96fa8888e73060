"""A process of agents: `python -m tests.chaos.host URL DIRECTORY SEED SESSION/AGENT…`.

Each agent has its own connections. The process exits with 0 when the run is over and all agents
have ended well.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.chaos.life import live
from tests.chaos.roster import Member

#: Environment variable: the longest wait of an agent, s; unset: no limit.
LIMIT = "CHAOS_WAIT_LIMIT_S"


async def host(url: str, directory: Path, seed: int, names: list[str]) -> None:
    """Run all agents to their end; if one fails, the process fails."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
    async with asyncio.TaskGroup() as group:
        for name in names:
            session, _, agent = name.partition("/")
            limit_s = float(os.environ.get(LIMIT) or 0) or None
            group.create_task(live(Member(url, directory, session, agent, seed, limit_s)))


def tell() -> None:
    """Print the stack of every task: the runner asks for it when the process does not end."""
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)
    sys.stderr.flush()


if __name__ == "__main__":
    asyncio.run(host(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
