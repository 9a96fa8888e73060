"""`python -m tests.chaos`: run real processes and servers, inject faults, check the results."""

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.checker import check_all
from tests.chaos.deployment import (
    SENTINEL_DURABILITIES,
    ClusterService,
    Deployment,
    SentinelService,
    Standalone,
)
from tests.chaos.evidence import Evidence
from tests.chaos.journal import write_json
from tests.chaos.loss import by_failover
from tests.chaos.report import summary, table
from tests.chaos.runner import Runner, Wishes
from tests.chaos.upgrade import tree
from tests.support.servers import ROOT

#: Kinds of deployments.
DEPLOYMENTS = ("standalone", "sentinel", "cluster")
#: Guarantees for an acknowledged signal, from weak to strong.
DURABILITIES = tuple(SENTINEL_DURABILITIES)
#: Shortest outage, s: agents and workers notice it for sure, and no lease of 5 s lasts as long.
OUTAGE_S_MIN = 10
#: Anomalies of one kind that are printed; the kept directory has all of them.
SHOWN_MAX = 10


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=10, help="how long faults are made (10)")
    add("--seed", type=int, default=1, help="which faults, in which order (1)")
    add("--deployment", choices=DEPLOYMENTS, default="standalone", help="of servers (standalone)")
    add(
        "--durability", choices=SENTINEL_DURABILITIES, default="async", help="with replicas (async)"
    )
    add("--flavour", default="redis-7.0", help="the server (redis-7.0)")
    # A killed process loses nothing that it had written. With everysec, Redis puts off a write by
    # up to 2 s while an fsync is under way (aof.c, flushAppendOnlyFile): on a busy disk a kill
    # would lose signals that it had acknowledged. With `no` it never does.
    add("--fsync", choices=("no", "everysec", "always"), default="no", help="of the file (no)")
    add("--rate", type=float, default=1_000, help="signals a second of the crowds (1000)")
    add("--beside", metavar="REV", help="every second process runs another commit's source")
    add("--upgrade", metavar="REV", help="replace workers of a commit by this one's, and back")
    add("--outage", type=float, metavar="S", help="only outages, of so many seconds")
    add("--out", type=Path, help="file for the figures, as JSON")
    add("--keep", type=Path, help="directory that keeps the evidence")
    options = parser.parse_args()
    if options.deployment == "cluster" and options.durability == "min-replicas":
        parser.error("with one replica each, a primary that takes over would take nothing")
    if options.outage is not None and options.outage < OUTAGE_S_MIN:
        parser.error(f"--outage: at least {OUTAGE_S_MIN}; a shorter one may end within a lease")
    if options.outage is not None and options.deployment != "standalone":
        parser.error("--outage: only of a standalone server")
    return options


def deploy(options: argparse.Namespace) -> Deployment:
    """Return the chosen servers, not started yet."""
    if options.deployment == "sentinel":
        return SentinelService(options.flavour, options.fsync, options.durability)
    if options.deployment == "cluster":
        return ClusterService(options.flavour, options.fsync, options.durability)
    return Standalone(options.flavour, options.fsync)


def allowed(deployment: Deployment) -> tuple[str, ...]:
    """Return the names of the checks whose findings are allowed losses of this deployment."""
    if isinstance(deployment, Standalone):
        return ()
    # Messages that a failover has lost are derived again if their signal is still there. After a
    # lost INTEGRATION_REQUIRED, leader and members disagree for a while.
    return ("lost", "vanished", "barriers") if deployment.may_lose else ("vanished",)


def main() -> int:
    """Run, check, print; return 1 if there was an anomaly, or if the run itself failed."""
    options = parse()
    # End on SIGTERM as on Ctrl-C: no process is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = options.keep or Path(tempfile.mkdtemp(prefix="fabric-chaos-"))
    other = options.upgrade or options.beside
    trees = (ROOT,) if other is None else (tree(other), ROOT)
    wishes = Wishes(
        *(options.seed, options.minutes, options.rate, options.fsync, options.flavour, trees),
        is_upgrade=options.upgrade is not None,
        outage_s=options.outage,
    )
    deployment = deploy(options)
    outcome = Runner(deployment, directory, wishes).run()
    signals, anomalies = check_all(outcome.stages)
    losses = {name: anomalies.pop(name) for name in allowed(deployment)}
    outcome.lost = by_failover(Evidence(outcome.stages[0]))
    if other is not None:
        # Two versions may decide differently, for example after a bug fix: then a replay of the
        # other version's log differs.
        losses["replayed"] = anomalies.pop("replayed")
    figures = summary(outcome, signals, anomalies, losses)
    sys.stdout.write(table(figures) + "\n")
    if options.out:
        write_json(options.out, figures)
    write_json(directory / "anomalies.json", {**anomalies, **losses})
    for name, found in anomalies.items():
        for one in found[:SHOWN_MAX]:
            sys.stderr.write(f"{name}: {one}\n")
    is_good = not outcome.problems and not any(anomalies.values())
    if is_good and not options.keep:
        shutil.rmtree(directory)
    else:
        sys.stderr.write(f"the evidence is in {directory}\n")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
