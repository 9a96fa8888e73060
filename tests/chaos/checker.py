"""All judgements over one run's evidence, by name."""

from collections.abc import Callable, Iterator
from itertools import islice

from tests.chaos.evidence import Evidence
from tests.chaos.judge import (
    altered,
    barrier,
    drained,
    holder,
    lost,
    message,
    order,
    received,
    replayed,
    synthesis,
    token,
    twice,
    waiting,
)

Judge = Callable[[Evidence], Iterator[str]]

#: Name → what is judged; each file says what it means.
JUDGES: dict[str, Judge] = {
    "lost": lost.judge,
    "twice": twice.judge,
    "order": order.judge,
    "altered": altered.judge,
    "tokens": token.judge,
    "two holders": holder.judge,
    "barriers": barrier.judge,
    "messages": message.judge,
    "received": received.judge,
    "left waiting": waiting.judge,
    "replayed": replayed.judge,
    "synthesis": synthesis.judge,
    "drained": drained.judge,
}

#: Anomalies of one kind that are kept: more say nothing new.
KEPT_MAX = 1_000


def check(evidence: Evidence) -> dict[str, list[str]]:
    """Return the anomalies of each judgement."""
    return {name: list(islice(judge(evidence), KEPT_MAX)) for name, judge in JUDGES.items()}
