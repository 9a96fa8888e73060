"""All checks of a run's evidence, by name.

`python -m tests.chaos.checker DIRECTORY` checks the evidence of an earlier run again.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from tests.chaos.evidence import Evidence
from tests.chaos.judge import (
    altered,
    barrier,
    drained,
    given_up,
    holder,
    lost,
    message,
    mortal,
    order,
    received,
    replayed,
    returned,
    synthesis,
    token,
    twice,
    vanished,
    waiting,
)

Judge = Callable[[Evidence], Iterator[str]]

#: Name → check; each module explains its own.
JUDGES: dict[str, Judge] = {
    "lost": lost.judge,
    "twice": twice.judge,
    "returned": returned.judge,
    "order": order.judge,
    "altered": altered.judge,
    "tokens": token.judge,
    "two holders": holder.judge,
    "barriers": barrier.judge,
    "messages": message.judge,
    "received": received.judge,
    "vanished": vanished.judge,
    "mortal": mortal.judge,
    "left waiting": waiting.judge,
    "given up": given_up.judge,
    "replayed": replayed.judge,
    "synthesis": synthesis.judge,
    "drained": drained.judge,
}

#: Anomalies of one kind that are kept; the number is large because losses are counted.
KEPT_MAX = 100_000


def check(evidence: Evidence) -> dict[str, list[str]]:
    """Return the anomalies that each check finds."""
    return {name: list(islice(judge(evidence), KEPT_MAX)) for name, judge in JUDGES.items()}


def check_all(stages: Sequence[Path]) -> tuple[int, dict[str, list[str]]]:
    """Check every stage of a run; return the number of confirmed signals, and the anomalies."""
    signals, anomalies = 0, {name: list[str]() for name in JUDGES}
    for directory in stages:
        evidence = Evidence(directory)
        signals += sum(len(numbers) for numbers in evidence.acknowledged().values())
        for name, found in check(evidence).items():
            anomalies[name] += [f"{directory.name}: {one}" for one in found]
    return signals, anomalies


def main(directory: Path) -> int:
    """Print every anomaly of every stage; return 1 if there was one."""
    stages = sorted(path.parent for path in directory.glob("*/faults.jsonl"))
    _, anomalies = check_all(stages)
    for name, found in anomalies.items():
        sys.stdout.write(f"{name}: {len(found)}\n" + "".join(f"  {one}\n" for one in found))
    return int(any(anomalies.values()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
