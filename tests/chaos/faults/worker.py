"""Workers that are killed, or stand still for longer than their lease."""

from collections.abc import Iterator

from tests.chaos.process import ORCHESTRATOR, SYNTHESIZER, WORKERS
from tests.chaos.scene import LEASE_MS, Scene

#: Time for which a worker is frozen, as a multiple of its lease.
FROZEN_MIN, FROZEN_MAX = 1.2, 2.5


def kill_orchestrator(scene: Scene) -> Iterator[str]:
    """SIGKILL of one: another takes its partitions."""
    scene.kill(scene.one_of(ORCHESTRATOR))
    yield "orchestrator killed"


def kill_synthesizer(scene: Scene) -> Iterator[str]:
    """SIGKILL of one."""
    scene.kill(scene.one_of(SYNTHESIZER))
    yield "synthesizer killed"


def kill_all(scene: Scene) -> Iterator[str]:
    """SIGKILL of every worker there is."""
    for slot in scene.fleet.of(*WORKERS):
        scene.kill(slot)
    yield "all workers killed"


def freeze_orchestrator(scene: Scene) -> Iterator[str]:
    """SIGSTOP beyond the lease, then SIGCONT: it must find that it is no more in charge."""
    yield from _freeze(scene, ORCHESTRATOR)


def freeze_synthesizer(scene: Scene) -> Iterator[str]:
    """The same of a synthesizer."""
    yield from _freeze(scene, SYNTHESIZER)


def _freeze(scene: Scene, kind: str) -> Iterator[str]:
    slot = scene.one_of(kind)
    scene.freeze(slot)
    try:
        yield f"{kind} frozen"
        share = scene.chance.uniform(FROZEN_MIN, FROZEN_MAX)
        scene.last(share * LEASE_MS / 1000 / 2, share * LEASE_MS / 1000)
    finally:
        slot.thaw()
    yield f"{kind} thawed"
