"""What the fleets have in common: agents in processes of their own, and what came of them.

Each fleet is a script: `python -m tests.fleets.review`, beside a running `fabric up`. It prints the
report of its session, and ends with an error if anything is not as it must be.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable

import click

from fabric import Agent, Fabric, Synthesis
from fabric.cli.connect import url_of
from fabric.config.settings import load
from fabric.view.report import report
from tests.support.servers import ROOT

#: Seconds within which a fleet must be through: analysers are slow on a busy machine.
FLEET_SECONDS_MAX = 300

Work = Callable[[Agent], Awaitable[None]]


async def work(session: str, name: str, job: Work) -> None:
    """Do the job of one agent, from STARTED to COMPLETED."""
    async with Fabric.connect() as fabric, fabric.agent(name, session=session) as agent:
        await job(agent)


async def fleet(
    module: str, session: str, names: Iterable[str], folder: str | None = None
) -> Synthesis:
    """Run a module once for each agent, all at a time; return the final synthesis.

    The agents work in a folder: names of files begin there.
    """
    running = _start(module, names, folder)
    try:
        async with Fabric.connect() as fabric:
            for one in running:
                code = await asyncio.to_thread(one.wait, FLEET_SECONDS_MAX)
                assert code == 0, one.args
            # All have started and ended by now; the synthesizer may have to catch up.
            return await fabric.session(session).until_final(timeout=FLEET_SECONDS_MAX)
    finally:
        for one in running:
            one.kill()
            one.wait()


def _start(module: str, names: Iterable[str], folder: str | None) -> list[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FABRIC_REDIS_URL": url_of(load())}
    command = [sys.executable, "-P", "-m", module]
    return [subprocess.Popen([*command, name], cwd=folder, env=environment) for name in names]


def show(synthesis: Synthesis) -> None:
    """Print the report."""
    click.echo("\n".join(report(synthesis, synthesis.session)))


def run(coroutine: Awaitable[None]) -> None:
    """Run a fleet, or one agent."""

    async def main() -> None:
        await coroutine

    asyncio.run(main())
