"""What faults act on, and what they have done so far."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.chaos.deployment import Deployment
from tests.chaos.process import Fleet, Slot

#: Time for which workers hold a lease, ms: a take-over waits for it to run out.
LEASE_MS = 2_000


@dataclass
class Tally:
    """Counts of the report."""

    #: Kind of fault → how often.
    faults: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    freezes: int = 0
    cut: int = 0
    restarts: int = 0
    failovers: int = 0


@dataclass
class Context:
    """One run: servers, processes, and chance, which is the same with the same seed."""

    deployment: Deployment
    fleet: Fleet
    chance: random.Random
    tally: Tally
    #: Writes a line into the stage's journal.
    note: Callable[[str], None]

    def one_of(self, *kinds: str) -> Slot:
        """A process of one of these kinds."""
        return self.chance.choice(self.fleet.of(*kinds))

    def last(self, seconds_min: float, seconds_max: float) -> None:
        """Let a fault last."""
        time.sleep(self.chance.uniform(seconds_min, seconds_max))

    def kill(self, slot: Slot) -> None:
        """SIGKILL, and start it again at once, as a supervisor would."""
        slot.kill()
        slot.start()
        self.tally.kills += 1

    def freeze(self, slot: Slot) -> None:
        slot.freeze()
        self.tally.freezes += 1


#: Carries out a fault; yields a name whenever it is to be measured how soon the fabric works.
Fault = Callable[[Context], Iterator[str]]
