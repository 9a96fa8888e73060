"""Workers that are killed, or stand still for longer than their lease."""

from collections.abc import Iterator

from tests.chaos.context import LEASE_MS, Context
from tests.chaos.process import ORCHESTRATOR, SYNTHESIZER, WORKERS

#: Time for which a worker is frozen, as a multiple of its lease.
FROZEN_MIN, FROZEN_MAX = 1.2, 2.5


def kill_orchestrator(context: Context) -> Iterator[str]:
    """SIGKILL of one: another takes its partitions."""
    context.kill(context.one_of(ORCHESTRATOR))
    yield "orchestrator killed"


def kill_synthesizer(context: Context) -> Iterator[str]:
    """SIGKILL of one."""
    context.kill(context.one_of(SYNTHESIZER))
    yield "synthesizer killed"


def kill_all(context: Context) -> Iterator[str]:
    """SIGKILL of every worker there is."""
    for slot in context.fleet.of(*WORKERS):
        context.kill(slot)
    yield "all workers killed"


def freeze_orchestrator(context: Context) -> Iterator[str]:
    """SIGSTOP beyond the lease, then SIGCONT: it must find that it is no more in charge."""
    yield from _freeze(context, ORCHESTRATOR)


def freeze_synthesizer(context: Context) -> Iterator[str]:
    """The same of a synthesizer."""
    yield from _freeze(context, SYNTHESIZER)


def _freeze(context: Context, kind: str) -> Iterator[str]:
    slot = context.one_of(kind)
    context.freeze(slot)
    try:
        yield f"{kind} frozen"
        share = context.chance.uniform(FROZEN_MIN, FROZEN_MAX)
        context.last(share * LEASE_MS / 1000 / 2, share * LEASE_MS / 1000)
    finally:
        slot.thaw()
    yield f"{kind} thawed"
