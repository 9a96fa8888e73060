"""The cost of a barrier: an arrival looks only at its own agent and the leader."""

import pytest

from fabric.core.signal import SignalType
from tests.core.cost import lines_of
from tests.support.random_history import Play, signal

#: Members of the larger barrier; the largest fleets have ten times as many.
MANY = 500


def gathering(members: int) -> Play:
    """A barrier that half of its members have reached."""
    play = Play()
    for number in range(members):
        play.say(signal(SignalType.STARTED, f"agent {number}", {}))
    play.say(signal(SignalType.INTEGRATION_REQUIRED, "lead", {"name": "release"}))
    for number in range(members // 2):
        play.say(signal(SignalType.CHECKPOINT_REACHED, f"agent {number}", {}))
    return play


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (SignalType.CHECKPOINT_REACHED, {}),
        (SignalType.BLOCKED, {"on": "schema"}),
        (SignalType.PROGRESS, {"percent": 5}),
    ],
)
def test_the_cost_of_an_arrival_does_not_grow_with_the_members(
    kind: SignalType, payload: dict[str, object]
) -> None:
    few, many = (
        lines_of(gathering(members), signal(kind, f"agent {members - 2}", payload))
        for members in (10, MANY)
    )
    assert many < few + 20
