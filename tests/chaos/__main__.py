"""`python -m tests.chaos`: real processes and servers, real faults, and a judgement at the end."""

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.checker import check
from tests.chaos.evidence import Evidence
from tests.chaos.journal import write_json
from tests.chaos.report import summary, table
from tests.chaos.runner import Runner
from tests.chaos.standalone import Standalone

#: Anomalies of one kind that are shown; the kept directory has all of them.
SHOWN_MAX = 10


def main() -> int:
    """Run, judge, print; 1 when there was any anomaly, or the run itself went wrong."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--flavour", default="redis-7.0")
    parser.add_argument("--fsync", choices=("everysec", "always"), default="everysec")
    parser.add_argument("--rate", type=float, default=1_000, help="signals a second")
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    parser.add_argument("--keep", type=Path, help="directory that keeps the evidence")
    options = parser.parse_args()
    # Told to stop, it ends as after Ctrl-C: no process is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = options.keep or Path(tempfile.mkdtemp(prefix="fabric-chaos-"))
    directory.mkdir(parents=True, exist_ok=True)
    runner = Runner(
        Standalone(options.flavour, options.fsync),
        directory,
        seed=options.seed,
        minutes=options.minutes,
        rate=options.rate,
    )
    outcome = runner.run()
    evidence = Evidence(directory)
    anomalies = check(evidence)
    signals = sum(len(numbers) for numbers in evidence.acknowledged().values())
    figures = summary(outcome, signals, anomalies)
    sys.stdout.write(table(figures) + "\n")
    if options.out:
        write_json(options.out, figures)
    write_json(directory / "anomalies.json", anomalies)
    for name, found in anomalies.items():
        for one in found[:SHOWN_MAX]:
            sys.stderr.write(f"{name}: {one}\n")
    is_good = not outcome.troubles and not any(anomalies.values())
    if is_good and not options.keep:
        shutil.rmtree(directory)
    else:
        sys.stderr.write(f"the evidence is in {directory}\n")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
