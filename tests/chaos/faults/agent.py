"""Agents that are killed, frozen and cut off: that does not touch how soon others are served."""

from collections.abc import Iterator

from tests.chaos.context import Context
from tests.chaos.deployment import Standalone
from tests.chaos.process import BULK_SENDER, HOST, RAW_SENDER, SENDERS

#: Time for which agents are frozen, s: the longest is taken for their death.
FROZEN_S_MIN, FROZEN_S_MAX = 1.0, 14.0


def kill_host(context: Context) -> Iterator[str]:
    """SIGKILL of a process of agents, which then begin anew."""
    context.kill(context.one_of(HOST))
    yield "agents killed"


def kill_sender(context: Context) -> Iterator[str]:
    """SIGKILL of one of those that send without a library, or much."""
    context.kill(context.one_of(BULK_SENDER, RAW_SENDER))
    yield "senders killed"


def freeze_host(context: Context) -> Iterator[str]:
    """SIGSTOP: shorter and longer than an agent may be silent."""
    slot = context.one_of(*SENDERS)
    context.freeze(slot)
    try:
        context.last(FROZEN_S_MIN, context.chance.uniform(FROZEN_S_MIN, FROZEN_S_MAX))
    finally:
        slot.thaw()
    yield "agents frozen"


def cut(context: Context) -> Iterator[str]:
    """Every connection of the agents."""
    assert isinstance(context.deployment, Standalone)
    context.tally.cut += context.deployment.agents.cut_all()
    yield "agents cut off"
