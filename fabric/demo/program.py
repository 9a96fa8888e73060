"""What the programs of the fleet have in common: each runs one member to its end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine

from fabric.demo.fleet import FLEET, Member
from fabric.errors import FabricError


def member_of(name: str) -> Member:
    """Return the member of the fleet of this name. Raises StopIteration for a stranger's."""
    return next(member for member in FLEET if member.name == name)


def run(name: str, work: Coroutine[None, None, None]) -> int:
    """Run a member's work; return the exit code, after a word on stderr when it failed. SIGTERM
    ends it as FAILED.
    """

    async def until_terminated() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await work

    try:
        asyncio.run(until_terminated())
    except asyncio.CancelledError:
        return 1
    except (FabricError, OSError, ValueError) as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1
    return 0
