"""A process of agents: `python -m tests.chaos.host URL DIRECTORY SEED SESSION/AGENT…`.

Each agent has connections of its own. It ends with 0 when the run is over and all have ended well.
"""

import asyncio
import sys
from pathlib import Path

from tests.chaos.life import live
from tests.chaos.post import Post


async def host(url: str, directory: Path, seed: int, names: list[str]) -> None:
    """Run all agents to their ends; the first that fails takes the process with it."""
    async with asyncio.TaskGroup() as group:
        for name in names:
            session, _, agent = name.partition("/")
            group.create_task(live(Post(url, directory, session, agent, seed)))


if __name__ == "__main__":
    asyncio.run(host(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
