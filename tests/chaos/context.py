"""What faults act on, and counts of what they have done."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.chaos.deployment import Deployment
from tests.chaos.process import Fleet, Slot

#: Lease of the workers, ms: a take-over waits until it expires.
LEASE_MS = 2_000


@dataclass
class Tally:
    """Counts for the report."""

    #: Kind of fault → how often.
    faults: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    freezes: int = 0
    cut: int = 0
    restarts: int = 0
    failovers: int = 0


@dataclass
class Context:
    """Servers, processes and random numbers of a run; the same seed gives the same numbers."""

    deployment: Deployment
    fleet: Fleet
    chance: random.Random
    tally: Tally
    #: Writes a line into the stage's journal.
    note: Callable[[str], None]

    def one_of(self, *kinds: str) -> Slot:
        """Return a random process of one of these kinds."""
        return self.chance.choice(self.fleet.of(*kinds))

    def last(self, seconds_min: float, seconds_max: float) -> None:
        """Wait for a random time while a fault lasts."""
        time.sleep(self.chance.uniform(seconds_min, seconds_max))

    def kill(self, slot: Slot) -> None:
        """SIGKILL, and start it again at once, as a supervisor would."""
        slot.kill()
        slot.start()
        self.tally.kills += 1

    def freeze(self, slot: Slot) -> None:
        slot.freeze()
        self.tally.freezes += 1


#: Injects a fault; yields a name at each point from which the recovery is measured.
Fault = Callable[[Context], Iterator[str]]
