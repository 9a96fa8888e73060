"""Faults of workers: killed, or frozen for longer than their lease."""

from collections.abc import Iterator

from tests.chaos.context import LEASE_MS, Context
from tests.chaos.process import ORCHESTRATOR, SYNTHESIZER, WORKERS

#: Time for which a worker is frozen, in leases.
FROZEN_MIN, FROZEN_MAX = 1.2, 2.5


def kill_orchestrator(context: Context) -> Iterator[str]:
    """SIGKILL an orchestrator: another takes over its partitions."""
    context.kill(context.one_of(ORCHESTRATOR))
    yield "orchestrator killed"


def kill_synthesizer(context: Context) -> Iterator[str]:
    """SIGKILL a synthesizer."""
    context.kill(context.one_of(SYNTHESIZER))
    yield "synthesizer killed"


def kill_all(context: Context) -> Iterator[str]:
    """SIGKILL every worker."""
    for slot in context.fleet.of(*WORKERS):
        context.kill(slot)
    yield "all workers killed"


def freeze_orchestrator(context: Context) -> Iterator[str]:
    """SIGSTOP beyond the lease, then SIGCONT: it must notice that it has lost the lease."""
    yield from _freeze(context, ORCHESTRATOR)


def freeze_synthesizer(context: Context) -> Iterator[str]:
    """Freeze a synthesizer as `freeze_orchestrator` does."""
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
