"""`fabric hook` and `fabric agentd`: what the clients of coding agents run."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from fabric.agents.hook import HARNESSES


@click.command()
@click.argument("harness", type=click.Choice(HARNESSES))
@click.option("--fail-closed", is_flag=True, help="Refuse writes while nothing is coordinated.")
@click.option(
    "--wait", type=click.FloatRange(min=0), metavar="S", help="Seconds to wait for a file."
)
def hook(harness: str, fail_closed: bool, wait: float | None) -> NoReturn:
    """Answer one event of a client, given on standard input. Clients run this; people do not.

    \b
      fabric hook claude < event.json     the answer, in that client's words, on standard output

    `fabric init` puts the same into a client's configuration as a script that starts in a tenth of
    the time. docs/coding-agents.md says what it does at each event.
    """
    from fabric.agents.command import SCRIPT

    words = [sys.executable, "-S", "-E", str(SCRIPT), harness]
    words += ["--fail-closed"] if fail_closed else []
    words += [] if wait is None else ["--wait", str(wait)]
    os.execv(sys.executable, words)  # noqa: S606 - this Python, and a script of ours


@click.command()
def agentd() -> int:
    """Run the agent daemon in the foreground. The first hook starts it by itself.

    \b
      fabric agentd                       until SIGTERM, or no agent has been here for long

    There is one for each user and host. It holds the connections, inboxes, claims and heartbeats of
    all coding agents here, and ends five minutes after the last one. SIGTERM ends it at once: what
    its agents hold is released, and the next hook starts another.
    """
    from fabric.agents.__main__ import main

    return main([])
