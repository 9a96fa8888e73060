"""How many acknowledged signals each failover has lost."""

from bisect import bisect_right

from tests.chaos.evidence import Evidence
from tests.chaos.journal import lines
from tests.chaos.judge.lost import missing
from tests.chaos.plan import AGENTS_CLOCKS, SENDERS

#: Faults that cause a failover.
FAILOVERS = ("kill primary", "freeze primary", "fail over in order")

#: Faults of agents, which happen at the same time.
BESIDE = frozenset({*SENDERS, *AGENTS_CLOCKS})


def by_failover(evidence: Evidence) -> dict[str, list[int]]:
    """Return for each kind of failover the numbers of signals that its failovers have lost.

    A signal is lost by the failover during which the old primary acknowledged it; or else by the
    next one.
    """
    began: list[float] = []
    is_over: list[float] = []
    kinds: list[str] = []
    is_failover = False
    for line in lines(evidence.directory / "faults.jsonl"):
        if line["what"] == "fault" and line["kind"] not in BESIDE:
            is_failover = line["kind"] in FAILOVERS
        if line["what"] == "fault" and line["kind"] in FAILOVERS:
            kinds.append(line["kind"])
            began.append(line["at"])
            is_over.append(line["at"])
        elif line["what"] == "recovered" and is_failover:
            is_over[-1] = line["at"]
    counts = [0] * len(began)
    lost = missing(evidence)
    for life, number, _, sent in evidence.sent():
        if counts and number in lost.get(life, ()):
            last = bisect_right(began, sent) - 1
            is_during = last >= 0 and sent <= is_over[last]
            counts[last if is_during else min(last + 1, len(counts) - 1)] += 1
    found: dict[str, list[int]] = {}
    for kind, count in zip(kinds, counts, strict=True):
        found.setdefault(kind, []).append(count)
    return found
