"""`python -m benchmarks relay|peers|scale|cost|synthesis|startup|day|ending|idle`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import (
    cost,
    day,
    ending,
    hot_path,
    idle,
    peers,
    relay,
    report,
    results_workload,
    scale,
    server,
    startup,
    synthesis,
    workload,
)
from benchmarks.connection import BenchmarkError
from benchmarks.relay import Plan

#: Signals in one measurement: some seconds of work for the orchestrator.
SIGNALS = 200_000

#: Signals with --quick: less than a second of work.
SIGNALS_QUICK = 30_000

#: Fewest signals: the work must last much longer than the time to the first look.
SIGNALS_MIN = 10_000

#: Partial results of one `synthesis` run; with --quick, enough to compare its start and its end.
RESULTS = 100_000
RESULTS_QUICK = 30_000

#: Where tables and plots are written.
RESULTS_FOLDER = Path(__file__).parent / "results"


ROUNDS = 3
STARTUP_RUNS = 10
LATENCY_SECONDS = 3.0
LATENCY_SECONDS_QUICK = 1.0


def main() -> int:
    """Run one benchmark; return its exit code."""
    flags = _parser().parse_args()
    try:
        if flags.benchmark == "relay":
            _relay(flags)
        elif flags.benchmark == "synthesis":
            _synthesis(flags)
        elif flags.benchmark == "cost":
            return _cost(flags)
        elif flags.benchmark == "peers":
            _peers(flags)
        elif flags.benchmark == "scale":
            found = scale.run(flags.server)
            print(json.dumps([asdict(one) for one in found]) if flags.json else scale.table(found))
        elif flags.benchmark == "ending":
            print(ending.table(ending.run(flags.server)))
        elif flags.benchmark == "idle":
            resting = idle.run(flags.server)
            print(json.dumps([*map(asdict, resting)]) if flags.json else idle.table(resting))
        elif flags.benchmark == "day":
            played = day.run(flags.server, flags.runs)
            print(json.dumps(asdict(played)) if flags.json else day.table(played))
        else:
            _startup(flags)
    except BenchmarkError as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="data in place of the table")
    common.add_argument(
        "--server", type=Path, default=server.DEFAULT, help="redis-server to start (%(default)s)"
    )
    which = parser.add_subparsers(dest="benchmark", required=True)
    relaying = which.add_parser("relay", parents=[common], help=relay.__doc__)
    relaying.add_argument(
        "--signals", type=_signals, help=f"signals in each measurement ({SIGNALS:,})"
    )
    relaying.add_argument("--rounds", type=int, help=f"each contender's turns ({ROUNDS})")
    relaying.add_argument("--workload", choices=(*workload.NAMES, "both"), default="both")
    relaying.add_argument(
        "--aof", choices=("no", "everysec", "always"), default="no", help="append-only file"
    )
    relaying.add_argument(
        "--minutes", type=float, default=30.0, help="begin no round that would end later"
    )
    relaying.add_argument("--unix", action="store_true", help="a unix socket, not TCP loopback")
    relaying.add_argument("--quick", action="store_true", help="one short round, to see it work")
    relaying.add_argument("--no-latency", action="store_true", help="throughput only")
    relaying.add_argument("--verbose", action="store_true", help="show the keys that were written")
    starting = which.add_parser("startup", parents=[common], help=startup.__doc__)
    starting.add_argument("--runs", type=int, default=STARTUP_RUNS, help="%(default)s")
    which.add_parser("idle", parents=[common], help=idle.__doc__)
    which.add_parser("ending", parents=[common], help=ending.__doc__)
    playing = which.add_parser("day", parents=[common], help=day.__doc__)
    playing.add_argument("--runs", type=int, default=day.RUNS, help="%(default)s")
    folding = which.add_parser("synthesis", parents=[common], help=synthesis.__doc__)
    folding.add_argument("--results", type=_signals, help=f"results in each run ({RESULTS:,})")
    folding.add_argument("--workload", choices=(*results_workload.NAMES, "all"), default="all")
    folding.add_argument("--quick", action="store_true", help="short runs, to see it work")
    folding.add_argument("--no-kills", action="store_true", help="only what is left alone")
    folding.add_argument("--no-latency", action="store_true", help="throughput only")
    which.add_parser("scale", parents=[common], help=scale.__doc__)
    comparing = which.add_parser("peers", parents=[common], help=peers.__doc__)
    comparing.add_argument("--rounds", type=int, default=ROUNDS, help="%(default)s")
    comparing.add_argument("--minutes", type=float, default=30.0, help="begin no round after these")
    comparing.add_argument("--only", nargs="*", choices=[one.name for one in peers.PEERS])
    costing = which.add_parser("cost", parents=[common], help=cost.__doc__)
    costing.add_argument("--workload", choices=(*hot_path.NAMES, "all"), default="all")
    costing.add_argument("--no-callgrind", action="store_true", help="only what Python counts")
    costing.add_argument("--profile", action="store_true", help="by function, too")
    costing.add_argument("--check", action="store_true", help="fail when a figure has grown")
    costing.add_argument("--record", action="store_true", help="write the figures on record")
    return parser


def _signals(text: str) -> int:
    number = int(text)
    if number < SIGNALS_MIN:
        raise argparse.ArgumentTypeError(f"at least {SIGNALS_MIN:,}: fewer are done at once")
    return number


def _relay(flags: argparse.Namespace) -> None:
    latency_s = LATENCY_SECONDS_QUICK if flags.quick else LATENCY_SECONDS
    findings = relay.run(
        Plan(
            binary=flags.server,
            workloads=workload.NAMES if flags.workload == "both" else (flags.workload,),
            signals=flags.signals or (SIGNALS_QUICK if flags.quick else SIGNALS),
            rounds=flags.rounds or (1 if flags.quick else ROUNDS),
            unix=flags.unix,
            aof=flags.aof,
            latency_seconds=0 if flags.no_latency else latency_s,
            verbose=flags.verbose,
            patient=not flags.quick,
            seconds_max=flags.minutes * 60,
        )
    )
    if flags.json:
        print(json.dumps(report.document(findings), indent=2))
    else:
        print(report.table(findings))
    if not flags.quick:
        noise = report.noise(findings) or "No measurement was disturbed by other programs."
        text = f"`{' '.join(sys.argv[1:])}`\n\n```\n{report.table(findings)}\n```\n\n{noise}\n"
        RESULTS_FOLDER.mkdir(exist_ok=True)
        (RESULTS_FOLDER / f"relay-aof-{flags.aof}.md").write_text(text)
    sys.stderr.write(f"{report.NOTE}\n")
    disturbed = report.noise(findings)
    if disturbed is not None:
        sys.stderr.write(f"{disturbed}\n")


def _synthesis(flags: argparse.Namespace) -> None:
    latency_s = LATENCY_SECONDS_QUICK if flags.quick else LATENCY_SECONDS
    findings = synthesis.run(
        synthesis.Plan(
            binary=flags.server,
            workloads=results_workload.NAMES if flags.workload == "all" else (flags.workload,),
            results=flags.results or (RESULTS_QUICK if flags.quick else RESULTS),
            kills=(False,) if flags.no_kills else (False, True),
            latency_seconds=0 if flags.no_latency else latency_s,
            patient=not flags.quick,
        )
    )
    if flags.json:
        print(json.dumps(synthesis.document(findings), indent=2))
    else:
        print(synthesis.table(findings))


def _peers(flags: argparse.Namespace) -> None:
    chosen = tuple(flags.only or ())
    findings = peers.run(flags.server, flags.rounds, chosen, flags.minutes * 60)
    if flags.json:
        print(json.dumps(peers.document(findings), indent=2))
        return
    print(peers.table(findings))
    if not chosen:
        RESULTS_FOLDER.mkdir(exist_ok=True)
        (RESULTS_FOLDER / "peers.md").write_text(peers.table(findings) + "\n")
        peers.plot(findings, RESULTS_FOLDER / "peers.png")


def _cost(flags: argparse.Namespace) -> int:
    names = hot_path.NAMES if flags.workload == "all" else (flags.workload,)
    wants = not (flags.no_callgrind or flags.check or flags.record)
    if wants and not cost.has_valgrind():
        sys.stderr.write("no valgrind here: instructions are not counted, the rest is\n")
    found = cost.run(names, callgrind=wants and cost.has_valgrind())
    if flags.record:
        cost.keep(found)
    if flags.json:
        print(json.dumps(cost.document(found), indent=2))
    else:
        print(cost.table(found, profile=flags.profile))
    grown, notes = cost.check(found) if flags.check else ([], [])
    for words in notes:
        sys.stderr.write(f"benchmarks: {words}\n")
    for words in grown:
        sys.stderr.write(f"benchmarks: the hot path costs more: {words}\n")
    return int(bool(grown))


def _startup(flags: argparse.Namespace) -> None:
    found = startup.run(flags.server, flags.runs)
    if flags.json:
        print(json.dumps({one.label: one.each_ms for one in found}, indent=2))
    else:
        print(startup.table(found))


if __name__ == "__main__":
    sys.exit(main())
