"""`python -m tests.simulation`: run many seeds, one plan, or the list of mutations."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from itertools import count, islice
from pathlib import Path

from tests.simulation import mutation, plan
from tests.simulation.generate import generate
from tests.simulation.run import Result, run
from tests.simulation.shrink import replay_text, shrink
from tests.simulation.totals import Totals

#: Seeds that a process takes at a time: a second or two of work.
CHUNK_SEEDS = 4

#: Seeds after which a mutation counts as not found.
MUTATION_SEEDS_MAX = 1_000


def main() -> int:
    """Run; return 0 if every invariant held, 1 if one broke."""
    # Coroutines of killed processes may complain when they are closed.
    sys.unraisablehook = lambda unraisable: None
    given = _arguments()
    if given.mutations is not None:
        return _mutations(given)
    if given.plan is not None:
        return _replay(Path(given.plan))
    return _explore(given)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seeds", default="1..", help="A..B, both included; A.. goes on for ever")
    parser.add_argument("--minutes", type=float, help="end after so long (1 without a B)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--first", action="store_true", help="end with the first seed that fails")
    parser.add_argument("--json", action="store_true", help="the summary as JSON")
    parser.add_argument("--out", type=Path, default=Path("build/simulation"),
                        help="folder for the shrunk plans of seeds that fail")  # fmt: skip
    parser.add_argument("--plan", help="carry out one plan, from a file")
    parser.add_argument("--mutations", nargs="*", metavar="NAME",
                        help="take guards out, see each found by seed B (1000)")  # fmt: skip
    parser.add_argument("--record", action="store_true",
                        help="write into the list of mutations which seeds found them")  # fmt: skip
    return parser.parse_args()


def _explore(given: argparse.Namespace) -> int:
    first, _, last = given.seeds.partition("..")
    begin = int(first or 1)
    seeds: Iterator[int] = iter(range(begin, int(last) + 1)) if last else count(begin)
    minutes = given.minutes if given.minutes or last else 1.0
    began = time.monotonic()
    deadline = began + 60 * minutes if minutes else float("inf")
    tally = Totals()
    for result in _results(seeds, given.processes, deadline):
        tally.add(result)
        _progress(tally, time.monotonic() - began)
        if result.violation and given.first:
            break
    seconds = time.monotonic() - began
    _progress(None, seconds)
    sys.stdout.write(json.dumps(tally.summary(seconds)) if given.json else tally.table(seconds))
    sys.stdout.write("\n")
    if tally.broken and not given.first:
        _keep(tally.broken[0], given.out)
    return 1 if tally.broken else 0


def _results(seeds: Iterator[int], processes: int, deadline: float) -> Iterator[Result]:
    """Yield results as they come, until all seeds are done or the time is over."""
    if processes == 1:
        for seed in seeds:
            if time.monotonic() > deadline:
                return
            yield run(generate(seed))
        return
    with ProcessPoolExecutor(processes) as pool:
        waiting: set[Future[list[Result]]] = set()
        while True:
            while len(waiting) < 2 * processes and time.monotonic() < deadline:
                chunk = list(islice(seeds, CHUNK_SEEDS))
                if not chunk:
                    break
                waiting.add(pool.submit(_chunk, chunk))
            if not waiting:
                return
            done = next(as_completed(waiting))
            waiting.remove(done)
            yield from done.result()


def _chunk(seeds: list[int]) -> list[Result]:
    return [run(generate(seed)) for seed in seeds]


def _keep(result: Result, folder: Path) -> None:
    """Shrink a failing plan, and write it to a file."""
    sys.stderr.write(
        f"shrinking the plan of seed {result.plan.seed} ({len(result.plan.lines)} lines)\n"
    )
    shortest = shrink(result.plan)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"seed-{result.plan.seed}.txt"
    path.write_text(replay_text(shortest), encoding="utf-8")
    sys.stderr.write(f"{len(shortest.plan.lines)} lines: {path}\n")


def _replay(path: Path) -> int:
    result = run(plan.read(path.read_text(encoding="utf-8")))
    sys.stdout.write(f"{result.detail or 'every invariant holds'} (digest {result.digest})\n")
    return 1 if result.violation else 0


def _mutations(given: argparse.Namespace) -> int:
    listed = {one.name: one for one in mutation.mutations()}
    # First those that are found at once: by their tests, or by the seed that is written down.
    chosen = sorted(
        (listed[name] for name in given.mutations or listed),
        key=lambda one: not (one.script or one.seed),
    )
    found: list[mutation.Found] = []
    seeds_max = int(given.seeds.partition("..")[2] or MUTATION_SEEDS_MAX)
    began = time.monotonic()
    for one in mutation.try_all(chosen, seeds_max, given.processes):
        found.append(one)
        if given.record and one.seed:
            mutation.record(one)
        is_new = one.seed != one.mutation.seed
        seed = f"{'new ' if is_new else ''}seed {one.seed}  " if one.seed else ""
        seen = f"{seed}{one.by}" if one.by else "NOT FOUND"
        _show_progress("")
        sys.stdout.write(f"{one.mutation.name:<70}  {seen}\n")
        sys.stdout.flush()
        missed = sum(not one.by for one in found)
        seconds = time.monotonic() - began
        _show_progress(f"{len(found)} of {len(chosen)}, {missed} not found, {seconds:.0f} s")
    _show_progress("")
    sys.stdout.write(mutation.table(found, time.monotonic() - began))
    return 0 if all(one.by for one in found) else 1


def _progress(tally: Totals | None, seconds: float) -> None:
    _show_progress(
        f"{tally.seeds} seeds, {tally.simulated_s / 3600:.1f} h simulated in {seconds:.0f} s, "
        f"{len(tally.broken)} violations"
        if tally is not None
        else ""
    )


def _show_progress(line: str) -> None:
    """Replace the progress line, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
