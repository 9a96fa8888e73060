"""Faults of clocks: wrong by minutes for a while, and then right again."""

from collections.abc import Iterator

from tests.chaos.clock import NOTICED_S, clock_of, set_clock
from tests.chaos.context import Context
from tests.chaos.deployment import Standalone
from tests.chaos.process import BULK_SENDER, HOST, ORCHESTRATOR, SYNTHESIZER

#: Offsets of a wrong clock, s.
JUMPS_S = (-600, -90, 90, 600)


def jump_worker(context: Context) -> Iterator[str]:
    """A worker's clock jumps; the worker uses the server's time."""
    yield from _jump(context, ORCHESTRATOR, SYNTHESIZER)


def jump_agents(context: Context) -> Iterator[str]:
    """The clock of a process of agents jumps."""
    yield from _jump(context, HOST, BULK_SENDER)


def _jump(context: Context, *kinds: str) -> Iterator[str]:
    slot = context.one_of(*kinds)
    clock = clock_of(slot.extra)
    assert clock is not None
    set_clock(clock, context.chance.choice(JUMPS_S))
    try:
        context.last(NOTICED_S, 2 * NOTICED_S)
    finally:
        set_clock(clock, 0)
    yield f"{slot.kind}'s clock jumped"


def jump_server(context: Context) -> Iterator[str]:
    """The server's clock jumps, on which leases, timers and ids depend."""
    assert isinstance(context.deployment, Standalone)
    offset_s = context.chance.choice(JUMPS_S)
    where = "forward" if offset_s > 0 else "back"
    context.deployment.set_clock(offset_s)
    try:
        context.last(NOTICED_S, 2 * NOTICED_S)
        yield f"server's clock {where}"
        context.last(1, 3)
    finally:
        context.deployment.set_clock(0)
    context.last(NOTICED_S, NOTICED_S)
    yield f"server's clock right again after {where}"
