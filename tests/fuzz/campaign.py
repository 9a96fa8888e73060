"""`scripts/fuzz`: run every target under the fuzzer, each in its own process, and print a table.

The table goes to stdout, everything else to stderr. Exit code 0: nothing found; 1: something found;
2: fuzzing was not possible.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.judge import judge
from tests.fuzz.report import Tally, read, table
from tests.fuzz.target import FOUND, HOME, INPUT_BYTES_MAX, load, names, planted

ROOT = HOME.parent.parent

#: Memory of one target's process, MiB: the traced project and its libraries take a tenth of it.
MEMORY_MIB_MAX = 1_024

#: Address space beyond that, MiB: libraries and the fuzzer map more than they use.
MAPPED_MIB = 2_048

#: Wall time for one input, s. The judge limits processor time and usually stops first; this limit
#: is for code that ignores its signal, on a machine that may be busy.
INPUT_SECONDS_MAX = 60

#: Time that a process gets beyond its share, to import and to end, s.
GRACE_SECONDS = 120

#: Time for a fixed number of runs, s: the slowest target makes a hundred a second.
RUNS_SECONDS_MAX = 600

#: Seed for a fixed number of runs: most targets then reach the same code each time.
SEED = 1

#: Shortest share of time that is worth starting a process for, s.
SHARE_SECONDS_MIN = 2


class Budget(NamedTuple):
    """What one target gets: a time in s, or a number of runs within it."""

    seconds: int
    runs: int = 0

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.runs:,} runs" if self.runs else f"{self.seconds} s"


def main() -> int:
    """Run what the arguments ask for; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="by default all")
    parser.add_argument("--seconds", type=int, default=600, help="for all together (600)")
    parser.add_argument(
        "--runs", type=int, help="of each target instead, from a fixed seed and a new corpus"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "fuzz", help="corpora, logs")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try one input, and end")
    parser.add_argument("--list", action="store_true", help="name the targets, and end")
    given = parser.parse_args()
    wanted = given.targets or names()
    if given.list:
        print("\n".join(names()))
        return 0
    unknown = set(wanted) - {*names(), *planted()}
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    if given.replay is not None:
        return _replayed(given.replay, wanted)
    jobs = max(1, given.jobs)
    share = max(SHARE_SECONDS_MIN, given.seconds * jobs // len(wanted))
    budget = Budget(share) if given.runs is None else Budget(RUNS_SECONDS_MAX, given.runs)
    return _fuzzed(wanted, budget, jobs, given.build.resolve())


def _replayed(file: Path, wanted: Sequence[str]) -> int:
    data = file.read_bytes()
    failed = 0
    for name in wanted:
        try:
            answer = judge(load(name), data)
        except Exception as error:
            # Print the whole traceback: the person who fixes it needs more than the last frame.
            sys.excepthook(type(error), error, error.__traceback__)
            failed += 1
        else:
            _say(f"{name}: {answer or 'nothing to say'}")
    return 1 if failed else 0


def _fuzzed(wanted: Sequence[str], budget: Budget, jobs: int, build: Path) -> int:
    have = [sys.executable, "-c", "import atheris"]
    if subprocess.run(have, check=False, capture_output=True).returncode:
        _say(
            "scripts/fuzz: nothing was fuzzed: atheris, the coverage-guided engine, is not here "
            f"(Python {sys.version_info.major}.{sys.version_info.minor} on {sys.platform}; "
            "pip install atheris says why). The same targets run in the tests, without coverage: "
            "scripts/test tests/fuzz"
        )
        return 2
    _say(f"scripts/fuzz: {len(wanted)} targets, {budget} each, {jobs} at a time")
    tallies: list[Tally] = []
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(_fuzz_target, name, budget, build / name) for name in wanted]
        for done in as_completed(running):
            tallies.append(done.result())
            if sys.stderr.isatty():
                print(f"\r{len(tallies)} of {len(wanted)}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        _say("")
    tallies.sort(key=lambda one: wanted.index(one.target))
    print("\n".join(table(tallies)))
    failed = [one for one in tallies if one.fault or not one.runs]
    for one in failed:
        _say(f"\n{one.target}: {one.fault or 'it never ran'}")
        for file in one.findings:
            _say(f"  scripts/fuzz --replay {os.path.relpath(file)} {one.target}")
        _say(f"  all it said: {os.path.relpath(build / one.target / 'log')}")
    return 1 if failed else 0


def _fuzz_target(name: str, budget: Budget, build: Path) -> Tally:
    """Fuzz one target for its share."""
    corpus, findings, log = build / "corpus", build / "findings", build / "log"
    for folder in (findings, *((corpus,) if budget.runs else ())):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    target = load(name)
    for seed in [*target.seeds(), *(file.read_bytes() for file in FOUND.glob("*"))]:
        (corpus / sha256(seed).hexdigest()[:40]).write_bytes(seed)
    dictionary = build / "words"
    dictionary.write_text("".join(f'"{_quoted(word)}"\n' for word in dict.fromkeys(target.words)))
    memory_bytes = (MEMORY_MIB_MAX + MAPPED_MIB) << 20
    argv = [
        *(sys.executable, "-m", "tests.fuzz.engine", name, str(memory_bytes), str(corpus)),
        f"-dict={dictionary}",
        f"-artifact_prefix={findings}/",
        *((f"-runs={budget.runs}", f"-seed={SEED}") if budget.runs else ()),
        f"-max_total_time={budget.seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MIB_MAX}",
        "-len_control=20",
        "-print_final_stats=1",
        "-verbosity=1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    late = ""
    with log.open("wb") as file:
        try:
            subprocess.run(
                argv,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=build,
                env=environment,
                timeout=budget.seconds + GRACE_SECONDS,
            )
        except subprocess.TimeoutExpired:
            late = f"did not end within {budget.seconds + GRACE_SECONDS} s, and was killed"
    said = log.read_text(errors="replace")
    return read(name, said, sorted(findings.glob("*")), sum(1 for _ in corpus.iterdir()), late)


def _quoted(word: bytes) -> str:
    """Return a token as libFuzzer's dictionaries have it."""
    return "".join(f"\\x{byte:02x}" for byte in word)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
