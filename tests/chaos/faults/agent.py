"""Faults of agents: killed, frozen, cut off. They must not delay the service for others."""

from collections.abc import Iterator

from tests.chaos.context import Context
from tests.chaos.deployment import Standalone
from tests.chaos.process import BULK_SENDER, HOST, RAW_SENDER, SENDERS

#: Time for which agents are frozen, s: after the longest they count as dead.
FROZEN_S_MIN, FROZEN_S_MAX = 1.0, 14.0


def kill_host(context: Context) -> Iterator[str]:
    """SIGKILL a process of agents; they start again."""
    context.kill(context.one_of(HOST))
    yield "agents killed"


def kill_sender(context: Context) -> Iterator[str]:
    """SIGKILL a bulk sender or a raw sender."""
    context.kill(context.one_of(BULK_SENDER, RAW_SENDER))
    yield "senders killed"


def freeze_host(context: Context) -> Iterator[str]:
    """SIGSTOP a sender, for shorter or longer than an agent may be silent."""
    slot = context.one_of(*SENDERS)
    context.freeze(slot)
    try:
        context.last(FROZEN_S_MIN, context.chance.uniform(FROZEN_S_MIN, FROZEN_S_MAX))
    finally:
        slot.thaw()
    yield "agents frozen"


def cut(context: Context) -> Iterator[str]:
    """Cut every connection of the agents."""
    assert isinstance(context.deployment, Standalone)
    context.tally.cut += context.deployment.agents.cut_all()
    yield "agents cut off"
