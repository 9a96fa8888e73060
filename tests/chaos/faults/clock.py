"""Clocks that are wrong for a while, by minutes, and then right again."""

from collections.abc import Iterator

from tests.chaos.clock import NOTICED_S, clock_of, set_clock
from tests.chaos.process import CROWD, HOST, ORCHESTRATOR, SYNTHESIZER
from tests.chaos.scene import Scene
from tests.chaos.standalone import Standalone

#: By how much a clock is wrong, s.
JUMPS_S = (-600, -90, 90, 600)


def jump_worker(scene: Scene) -> Iterator[str]:
    """The clock of a worker: it goes by the server's."""
    yield from _jump(scene, ORCHESTRATOR, SYNTHESIZER)


def jump_agents(scene: Scene) -> Iterator[str]:
    """The clock of a process of agents."""
    yield from _jump(scene, HOST, CROWD)


def _jump(scene: Scene, *kinds: str) -> Iterator[str]:
    slot = scene.one_of(*kinds)
    clock = clock_of(slot.extra)
    assert clock is not None
    set_clock(clock, scene.chance.choice(JUMPS_S))
    try:
        scene.last(NOTICED_S, 2 * NOTICED_S)
    finally:
        set_clock(clock, 0)
    yield f"{slot.kind}'s clock jumped"


def jump_server(scene: Scene) -> Iterator[str]:
    """The server's clock, by which all leases, timers and ids go."""
    assert isinstance(scene.deployment, Standalone)
    offset_s = scene.chance.choice(JUMPS_S)
    where = "forward" if offset_s > 0 else "back"
    scene.deployment.set_clock(offset_s)
    try:
        scene.last(NOTICED_S, 2 * NOTICED_S)
        yield f"server's clock {where}"
        scene.last(1, 3)
    finally:
        scene.deployment.set_clock(0)
    scene.last(NOTICED_S, NOTICED_S)
    yield f"server's clock right again after {where}"
