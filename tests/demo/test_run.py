"""Running the fleet: a killed agent says nothing, and must not be waited for in the log."""

import asyncio
import sys

from fabric.demo.run import _outcome

KILLED = "import os; os.kill(os.getpid(), 9)"


def outcome_of(program: str) -> str:
    async def run() -> str:
        return await _outcome(
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE
            )
        )

    return asyncio.run(run())


def test_a_silent_death_is_an_outcome_too() -> None:
    assert outcome_of(KILLED) == "an agent ended without a word (exit code -9)\n"
    assert outcome_of("import sys; sys.exit('why')") == "why\n"
    assert outcome_of("import sys; sys.stderr.write('a warning')") == ""
