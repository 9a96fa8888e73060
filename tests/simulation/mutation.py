"""Guards taken out on purpose: the simulation must find every one, and how soon it does is counted.

`mutations.toml` lists them: a file, the text that is the guard, what stands there without it. Each
is tried in a copy of the source, in processes of its own; nothing here is changed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LIST = Path(__file__).with_name("mutations.toml")

#: What a copy has to hold.
FOLDERS = ("fabric", "workers", "tests")

#: Seconds for one mutation: those that make runs endless are stopped, and count as not found.
SECONDS_MAX = 900


@dataclass(frozen=True)
class Mutation:
    """One guard: where it stands, and what stands there when it is gone."""

    name: str
    file: str
    guard: str
    without: str

    def apply(self, folder: Path) -> None:
        """Take the guard out of a copy. Raises LookupError when it is not there just once."""
        path = folder / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.guard) != 1:
            raise LookupError(
                f"{self.name}: its guard stands {text.count(self.guard)} times in {path}"
            )
        path.write_text(text.replace(self.guard, self.without), encoding="utf-8")


@dataclass(frozen=True)
class Found:
    """What became of a mutation: by which invariant it was found, after how many seeds."""

    mutation: Mutation
    violation: str
    seeds: int


def mutations() -> list[Mutation]:
    """Return all that are listed."""
    listed = tomllib.loads(LIST.read_text(encoding="utf-8"))["mutation"]
    return [Mutation(**one) for one in listed]


def try_all(chosen: list[Mutation], seeds_max: int, processes: int) -> Iterator[Found]:
    """Look for each mutation, seed by seed, until it is found; yield each as it is done."""
    with ThreadPoolExecutor(processes) as pool:
        for done in as_completed([pool.submit(look, one, seeds_max) for one in chosen]):
            yield done.result()


def look(mutation: Mutation, seeds_max: int) -> Found:
    """Take one guard out and look for it."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name)
        for part in FOLDERS:
            shutil.copytree(
                ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        mutation.apply(folder)
        try:
            told = subprocess.run(
                [
                    *(sys.executable, "-m", "tests.simulation", "--seeds", f"1..{seeds_max}"),
                    *("--processes", "1", "--first", "--json"),
                ],
                cwd=folder,
                env={"PYTHONPATH": name, "PATH": ""},
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS_MAX,
            )
        except subprocess.TimeoutExpired:
            return Found(mutation, "", seeds_max)
    if not told.stdout.strip():
        # It does not even start: a mutation that is no program finds nothing.
        raise LookupError(f"{mutation.name}: {told.stderr[-2000:]}")
    summary = json.loads(told.stdout)
    failed = summary["violations"]
    return Found(mutation, failed[0]["invariant"] if failed else "", summary["seeds"])
