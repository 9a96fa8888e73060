"""Random wait-for graphs: how many are played, and how their agents send signals."""

from typing import Any

from fabric.core.event import Decision
from fabric.core.signal import SignalType
from tests.support.effort import scaled
from tests.support.random_history import Play, signal

#: Signals in the history of one graph.
SIGNALS = 30


def seeds(most: int) -> range:
    """One graph a seed; FABRIC_TEST_EFFORT=10 plays all, 10,000 in the files together."""
    return range(min(most, scaled(most // 10)))


def say(play: Play, kind: SignalType, name: str, **payload: Any) -> Decision:
    """An agent sends a signal, a little later than the last one."""
    play.now_ms += 100
    return play.say(signal(kind, name, payload))
