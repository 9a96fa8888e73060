"""Running the fleet: an agent that dies without a word does not hold the demo up."""

import asyncio
import sys

from fabric.demo.fleet import FIXERS, FLEET, REVIEWERS
from fabric.demo.run import _outcome


def outcome_of(program: str) -> str:
    async def run() -> str:
        return await _outcome(
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE
            )
        )

    return asyncio.run(run())


def test_a_silent_death_is_an_outcome_too() -> None:
    killed = "import os; os.kill(os.getpid(), 9)"
    assert outcome_of(killed) == "an agent ended without a word (exit code -9)\n"
    assert outcome_of("import sys; sys.exit('why\\x1b')") == "why\\x1b\n"
    assert outcome_of("import sys; sys.stderr.write('a warning')") == ""


def test_the_fleet_is_nine_agents_of_which_the_fixer_goes_first() -> None:
    assert len({member.name for member in FLEET}) == len(FLEET) == 9
    assert [member.name for member in FLEET if member.is_reviewer] == [
        member.name for member in REVIEWERS
    ]
    assert FIXERS[0].priority < FIXERS[1].priority
