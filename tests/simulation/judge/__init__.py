"""The judges: each keeps one kind of invariant, by what it sees of the store alone.

One writer a partition, no commit by a stale epoch, versions without a gap (design, 3.2 and 3.3):
`lease.py`. Every accepted signal takes effect once, in the order of its agent; nothing is invented,
nothing un-acknowledged is trimmed, the log is dense, and every message has the id that it has in
the log (design, 3 and 4): `ledger.py`. One holder a resource; tokens rise, and each is given once
(seeds, Rule 3): `claims.py`. A barrier opens once a generation, never without its members (seeds,
Rule 4): `barriers.py`. Whoever is granted, resolved or let go is told so in the same commit (seeds,
Rules 2 to 4): `told.py`. Every deadlock is named, and only deadlocks (seeds, Rule 2):
`deadlocks.py`. Records agree with each other, and no waiter is forgotten: `rules.py`. The synthesis
is the fold of its inputs, and its patches make it of nothing (design, 3.5): `synthesis.py`. Every
queue is bounded (design, 6): `bounds.py`. Who has spoken is not taken for silent (design, 6):
`silence.py`. Every message comes at least once, in order (design, 3):
`delivery.py`. In the end the log alone gives all that the server holds, and after the faults
everything drains (design, 3.1 and 3.4): `ending.py`.
"""

from __future__ import annotations

from tests.simulation.judge.barriers import Barriers
from tests.simulation.judge.bounds import Bounds
from tests.simulation.judge.claims import Claims
from tests.simulation.judge.deadlocks import Deadlocks
from tests.simulation.judge.judge import Commit, Judge, Violation
from tests.simulation.judge.lease import Leases
from tests.simulation.judge.ledger import Notifications
from tests.simulation.judge.silence import Silence
from tests.simulation.judge.synthesis import Syntheses
from tests.simulation.judge.told import Told
from tests.simulation.plan import Plan

__all__ = ["Commit", "Judge", "Violation", "all_judges"]


def all_judges(plan: Plan) -> list[Judge]:
    """Return one of each of those that look at commits."""
    # How old a word is, nobody can tell by a clock that was set.
    is_told_time = not any(line.verb == "clock" for line in plan.lines)
    return [
        Leases(),
        Notifications(),
        Claims(),
        Barriers(),
        Deadlocks(),
        Told(),
        Syntheses(),
        Bounds(plan.settings["ingress_max"]),
        *((Silence(plan.settings["lease_ms"]),) if is_told_time else ()),
    ]
