"""The judges: each checks one kind of invariant, from what it sees in the store only.

`lease.py`: one writer a partition, no commit by a stale epoch, versions without a gap.
`signals.py`: every accepted signal takes effect once, in its agent's order; nothing is invented, no
input is trimmed before it is acknowledged, the log has no gap, and every message has its id in the
log. `claims.py`: one holder a resource; tokens rise, and each is granted once. `barriers.py`: a
barrier opens once a generation, never without its members. `notices.py`: an agent whose wait ends
is told in the same commit. `deadlocks.py`: every deadlock is reported, and only deadlocks.
`rules.py`: records agree with each other, and no waiter is forgotten. `synthesis.py`: the synthesis
is the fold of its inputs, and its patches build it from an empty document. `bounds.py`: every queue
is bounded. `limits.py`: nobody is heard too often, or while kept out. `quotas.py`: agents that
share a quota wait while it is used up. `runs.py`: nobody is heard in a closed run. `roster.py`:
barriers and syntheses wait for expected agents. `cuts.py`:
what is cut was read, no log is; a deleted session had ended, and is gone whole. `refusals.py`:
an agent that is refused, displaced or ended by others is told, and what was taken from it; a storm
of refusals makes no storm of notices. `questions.py`: deadlines of questions are kept, and an asker
is told that nobody is there; waits that nobody will end are asked about. `tasks.py`: a task has one
agent, and what is done stays done. `silence.py`: an agent that has sent something, could not be
heard, or has announced its silence, is not declared dead. `times.py`: no grant, offer or barrier
stands beyond its time. `balance.py`: tasks that run are kept apart by the rules, none is lost, and
no agent with room is idle in vain.
`serving.py`: while one worker has a healthy link, signals are decided soon.
`attention.py`: an agent that goes on against an unread CANCEL is asked about.
`identity.py`: a name belongs to one living process, and what will have to be merged is told.
`delivery.py`: every message arrives at least once, in order. `ending.py`: at the end the log alone
gives everything that the server holds, and after the faults everything drains.
"""

from __future__ import annotations

from tests.simulation.judge.attention import Attention
from tests.simulation.judge.balance import Balances
from tests.simulation.judge.barriers import Barriers
from tests.simulation.judge.bounds import Bounds
from tests.simulation.judge.claims import Claims
from tests.simulation.judge.cuts import Cuts
from tests.simulation.judge.deadlocks import Deadlocks
from tests.simulation.judge.identity import Identities, Merges
from tests.simulation.judge.judge import Commit, Judge, Violation
from tests.simulation.judge.lease import Leases
from tests.simulation.judge.limits import Limits
from tests.simulation.judge.notices import Notices
from tests.simulation.judge.questions import Questions
from tests.simulation.judge.quotas import Quotas
from tests.simulation.judge.refusals import Deaths, Refusals
from tests.simulation.judge.roster import Rosters
from tests.simulation.judge.runs import Runs
from tests.simulation.judge.signals import Signals
from tests.simulation.judge.silence import Outages, Pace, Silence
from tests.simulation.judge.synthesis import Syntheses
from tests.simulation.judge.tasks import Tasks
from tests.simulation.plan import Plan
from tests.simulation.rulesets import RULESETS

__all__ = ["Commit", "Judge", "Violation", "all_judges"]


def all_judges(plan: Plan) -> list[Judge]:
    """Return one of each judge that checks commits."""
    # The age of a signal and the length of an outage are unknown when the server's clock was set.
    rules = RULESETS[plan.settings["rules"]]
    is_told_time = not any(line.verb == "clock" for line in plan.lines)
    return [
        Leases(),
        Signals(),
        Claims(),
        Barriers(),
        Deadlocks(),
        Notices(),
        Refusals(),
        Deaths(),
        Questions(rules.grace_ms),
        Tasks(rules.attempts_max),
        Balances(rules),
        Syntheses(),
        Limits(rules),
        Quotas(),
        Runs(),
        Cuts(),
        Identities(),
        Merges(),
        Rosters(),
        Attention(rules.unread_ms_max),
        Bounds(plan.settings["ingress_max"]),
        *((Silence(plan.settings["lease_ms"]),) if is_told_time else ()),
        Outages(plan.settings["lease_ms"], rules.silence_ms_min, is_told_time=is_told_time),
        Pace(rules.silence_ms_min),
    ]
