"""Agents that are killed, frozen and cut off: that does not touch how soon others are served."""

from collections.abc import Iterator

from tests.chaos.process import CROWD, HAND, HOST, SPEAKERS
from tests.chaos.scene import Scene
from tests.chaos.standalone import Standalone

#: Time for which agents are frozen, s: the longest is taken for their death.
FROZEN_S_MIN, FROZEN_S_MAX = 1.0, 14.0


def kill_host(scene: Scene) -> Iterator[str]:
    """SIGKILL of a process of agents, which then begin anew."""
    scene.kill(scene.one_of(HOST))
    yield "agents killed"


def kill_speaker(scene: Scene) -> Iterator[str]:
    """SIGKILL of one of those that send without a library, or much."""
    scene.kill(scene.one_of(CROWD, HAND))
    yield "senders killed"


def freeze_host(scene: Scene) -> Iterator[str]:
    """SIGSTOP: shorter and longer than an agent may be silent."""
    slot = scene.one_of(*SPEAKERS)
    scene.freeze(slot)
    try:
        scene.last(FROZEN_S_MIN, scene.chance.uniform(FROZEN_S_MIN, FROZEN_S_MAX))
    finally:
        slot.thaw()
    yield "agents frozen"


def cut(scene: Scene) -> Iterator[str]:
    """Every connection of the agents."""
    assert isinstance(scene.deployment, Standalone)
    scene.tally.cut += scene.deployment.agents.cut_all()
    yield "agents cut off"
