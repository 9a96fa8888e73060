"""An agent that reads its messages: `python -m tests.client.reader URL`.

It prints the id of each message, and asks for the next one when it reads a line.
"""

import asyncio
import sys

from fabric.client.fabric import Fabric


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


async def main(url: str) -> None:
    async with (
        Fabric.connect(url, session="s", heartbeat_ms=600_000) as fabric,
        fabric.agent("B", take_over=True) as agent,  # nobody decides here whose the name is
    ):
        say(f"incarnation {agent.incarnation}")
        async for message in agent.messages():
            say(message.id)
            await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
