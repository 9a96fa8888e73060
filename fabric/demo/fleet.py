"""The agents of the demo: what each does, in which stream, and which of them wait for each other.

Six review a snapshot of the files. Three work on a scratch copy of some of them: INTEGRATOR makes
it, FORMATTER and FIXER both want the same file of it first, and then all the others.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine

import msgspec

from fabric import Agent, FabricError

#: The dependency that INDEXER resolves; its location is the index file (see fabric.demo.index).
INDEX_DEPENDENCY = "index"

#: The dependency that INTEGRATOR resolves when the copy is there; its location is the folder.
COPY_DEPENDENCY = "copy"

#: The dependency that INTEGRATOR resolves when it has checked the fixes: fixers stay until then.
CHECK_DEPENDENCY = "check-of-fixes"

#: The barrier at which INTEGRATOR checks the fixes.
FIXES_BARRIER = "fixes"

#: Within the folder that the fleet shares: the index, and the copy that is fixed.
INDEX_FILE, COPY_FOLDER = "index.json", "copy"

#: The checkpoints of a review, in order.
FILES_READ, ISSUES_FOUND = "files_read", "issues_found"
RECOMMENDATIONS_DRAFTED = "recommendations_drafted"

#: The field of a partial result that holds an agent's remarks: `{"remarks": {NAME: [text]}}`.
REMARKS = "remarks"


class Member(msgspec.Struct, frozen=True):
    """One agent. `program` is the module that it runs; where two agents want the same file, the one
    with the higher `priority` goes first.
    """

    name: str
    stream: str
    priority: int
    produces: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    program: str = "fabric.demo.reviewing"

    @property
    def is_reviewer(self) -> bool:
        """Whether the agent reports findings."""
        return self.program == "fabric.demo.reviewing"


REVIEWERS: tuple[Member, ...] = (
    Member("INDEXER", "A", 9, produces=(INDEX_DEPENDENCY,)),
    Member("STYLE", "B", 3),
    Member("COMPLEXITY", "B", 5),
    Member("SAFETY", "C", 8),
    Member("DEAD_CODE", "D", 4, waits_for=(INDEX_DEPENDENCY,)),
    Member("IMPORTS", "D", 6, waits_for=(INDEX_DEPENDENCY,)),
)

_FIXING = "fabric.demo.fixing"

INTEGRATOR = Member(
    "INTEGRATOR", "E", 5, produces=(COPY_DEPENDENCY, CHECK_DEPENDENCY), program=_FIXING
)
FORMATTER = Member("FORMATTER", "F", 2, program=_FIXING)
FIXER = Member("FIXER", "F", 7, program=_FIXING)

#: In the order in which they ask for the first file; their priorities say otherwise.
FIXERS: tuple[Member, ...] = (FORMATTER, FIXER)

FLEET: tuple[Member, ...] = (*REVIEWERS, INTEGRATOR, *FIXERS)


def member_of(name: str) -> Member:
    """Return the member of the fleet of this name. Raises StopIteration if there is none."""
    return next(member for member in FLEET if member.name == name)


async def remark(agent: Agent, text: str) -> None:
    """Report that something went wrong although the work goes on: the report shows it."""
    await agent.partial_result({REMARKS: {agent.name: [text]}})


def run(name: str, work: Coroutine[None, None, None]) -> int:
    """Run a member's work to its end; return the exit code, after a message on stderr if it failed.

    SIGTERM cancels the work, which ends the agent as FAILED.
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
