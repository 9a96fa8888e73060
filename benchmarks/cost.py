"""`cost`: what a signal costs the worker, in work and not in time: no other program disturbs it.

Byte codes, calls of Python's and of C's functions, and bytes sent, counted by the interpreter; and
with valgrind the machine's instructions. `--check` compares the counts with those on record.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.connection import BenchmarkError
from benchmarks.process import ROOT, environment, progress

#: The figures on record, by Python version and workload. Raise them by hand, with a reason.
RECORD = Path(__file__).with_name("cost.json")

#: Share by which a figure may grow over the one on record.
GROWTH_MAX = 0.05

#: Signals that are counted: four batches of 256, so that what comes once hardly counts.
SIGNALS = 1_024

#: Signals of the two runs under callgrind. Their difference leaves out the start of the process.
SIGNALS_CALLGRIND = (512, 1_536)

#: What is counted, and how a table calls it.
COUNTS = {"codes": "byte codes", "calls": "calls", "c_calls": "calls of C", "bytes": "bytes sent"}

#: What depends on the version of Python: each compiles to other byte codes.
BY_VERSION = frozenset({"codes"})

#: Longest run of one process, s: callgrind takes fifty times as long.
RUN_SECONDS_MAX = 600.0

#: Functions that a profile shows.
FUNCTIONS_SHOWN = 25

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


@dataclass(frozen=True)
class Cost:
    """One workload: each count for one signal, in all and by function."""

    name: str
    counts: dict[str, float]
    #: Function → byte codes and calls; function of C → calls.
    functions: dict[str, tuple[float, float]]
    c_functions: dict[str, float]
    #: Instructions by function of the executable and its libraries; empty without valgrind.
    instructions: dict[str, float]


def run(names: tuple[str, ...], *, callgrind: bool) -> list[Cost]:
    """Count each workload. Raises BenchmarkError."""
    found = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            progress(f"cost of {name}: byte codes and calls")
            counted = json.loads(_run(Path(folder), name, SIGNALS, "--count"))
            instructions: dict[str, float] = {}
            if callgrind:
                progress(f"cost of {name}: instructions")
                few, many = (_instructions(Path(folder), name, each) for each in SIGNALS_CALLGRIND)
                more = SIGNALS_CALLGRIND[1] - SIGNALS_CALLGRIND[0]
                instructions = {key: (many[key] - few[key]) / more for key in many}
        counts = {key: counted[key] for key in COUNTS}
        found.append(Cost(name, counts, counted["functions"], counted["c_functions"], instructions))
    progress("")
    return found


def has_valgrind() -> bool:
    """Whether instructions can be counted here."""
    return shutil.which("valgrind") is not None


def check(found: list[Cost]) -> tuple[list[str], list[str]]:
    """Return what has grown over the record by more than GROWTH_MAX, and what else to tell."""
    record = json.loads(RECORD.read_text())
    version = VERSION if VERSION in record else next(iter(record))
    grown, notes = [], []
    compared = [key for key in COUNTS if version == VERSION or key not in BY_VERSION]
    if version != VERSION:
        left_out = ", ".join(COUNTS[key] for key in COUNTS if key not in compared)
        notes.append(
            f"no figures on record for Python {VERSION}: {left_out} NOT compared, the rest is with "
            f"those of {version} (scripts/bench cost --record writes them)"
        )
    for one in found:
        for key in compared:
            now, before = one.counts[key], record[version][one.name][key]
            words = f"{one.name}: {now:,.1f} {COUNTS[key]} a signal, {before:,.1f} on record"
            if now > before * (1 + GROWTH_MAX):
                grown.append(f"{words}: {now / before - 1:+.1%}")
            elif now < before * (1 - GROWTH_MAX):
                notes.append(f"{words}: {now / before - 1:+.1%}; lower the record (--record)")
    return grown, notes


def keep(found: list[Cost]) -> None:
    """Write the figures on record for this version of Python."""
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    known = record.setdefault(VERSION, {})
    for one in found:
        known[one.name] = {key: round(value, 1) for key, value in one.counts.items()}
    RECORD.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def table(found: list[Cost], *, profile: bool) -> str:
    """Return the figures as a Markdown table; with `profile`, those by function too."""
    heads = ["a signal", *COUNTS.values(), "instructions"]
    lines = [f"Python {VERSION}", "", _row(heads), _row(["---"] * len(heads))]
    for one in found:
        counts = [f"{one.counts[key]:,.1f}" for key in COUNTS]
        total = sum(one.instructions.values())
        lines.append(_row([one.name, *counts, f"{total:,.0f}" if total else "not counted"]))
    for one in found if profile else ():
        lines += ["", f"{one.name}, by function:", "", _row(["byte codes", "calls", "function"])]
        lines.append(_row(["---"] * 3))
        by_codes = sorted(one.functions.items(), key=lambda item: -item[1][0])
        for name, (codes, calls) in by_codes[:FUNCTIONS_SHOWN]:
            lines.append(_row([f"{codes:,.1f}", f"{calls:,.2f}", f"`{name}`"]))
        by_calls = list(one.c_functions.items())[:FUNCTIONS_SHOWN]
        lines += ["", "C: " + ", ".join(f"`{name}` {calls:.2f}" for name, calls in by_calls)]
        if one.instructions:
            by_count = sorted(one.instructions.items(), key=lambda item: -item[1])
            lines += ["", "Instructions: "]
            lines[-1] += ", ".join(f"`{n}` {c:,.0f}" for n, c in by_count[:FUNCTIONS_SHOWN])
    return "\n".join(lines)


def document(found: list[Cost]) -> dict[str, Any]:
    """Return all figures, for JSON."""
    return {
        one.name: {
            **one.counts,
            "functions": one.functions,
            "c_functions": one.c_functions,
            "instructions": one.instructions,
        }
        for one in found
    }


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _run(folder: Path, name: str, signals: int, *flags: str, under: tuple[str, ...] = ()) -> bytes:
    """Run benchmarks.hot_path on a workload; return what it prints. Raises BenchmarkError."""
    replies = folder / f"{name}-{signals}"
    command = [sys.executable, "-m", "benchmarks.hot_path", str(replies), "--signals", str(signals)]
    if not replies.exists():
        _output([*command, "--prepare", name])
    return _output([*under, *command, *flags])


def _output(command: list[str]) -> bytes:
    # The order of sets, and so the work, depends on the seed of hashes.
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=environment() | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    if ended.returncode:
        words = ended.stderr.decode(errors="replace")[-2_000:]
        raise BenchmarkError(f"{' '.join(command)} ended with {ended.returncode}:\n{words}")
    return ended.stdout


def _instructions(folder: Path, name: str, signals: int) -> Counter[str]:
    """Return the instructions of a whole run by function, as callgrind counts them."""
    out = folder / "callgrind"
    valgrind = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}")
    _run(folder, name, signals, under=valgrind)
    names: dict[str, str] = {}
    counted: Counter[str] = Counter()
    function, is_inclusive = "", False
    for line in out.read_text(errors="replace").splitlines():
        if found := re.match(r"(c?)fn=\((\d+)\)(?: (.*))?", line):
            if found[3]:
                names[found[2]] = found[3]
            if not found[1]:
                function = names[found[2]]
        elif line.startswith("calls="):
            is_inclusive = True  # the next line counts what was called, which has its own lines
        elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
            if not is_inclusive:
                counted[function] += int(line.split()[1])
            is_inclusive = False
    return counted
