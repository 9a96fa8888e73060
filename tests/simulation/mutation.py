"""Mutation testing: remove a safety check on purpose, and see that something notices.

Two files list the checks: a file of the source, the text of the check, and the text that replaces
it. The simulation must find every check of `mutations.toml`, and we count how many seeds that
takes; the store's tests on a real server must find every check of a Lua script. Each mutation is
tried in a copy of the source, in processes of its own; nothing here is changed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LISTS = ("tests/simulation/mutations.toml", "tests/store/lua_mutations.toml")

#: What a copy contains, and what it links to: the real servers of the tests.
FOLDERS = ("fabric", "workers", "tests")
SERVERS = ".servers"

#: The store's tests that run for a mutation of a script, after those of the script itself.
STORE_TESTS = ("test_lease.py", "test_commit.py", "test_conformance.py", "test_permission.py")

#: Seconds for one mutation. One that makes runs endless is stopped, and counts as not found.
SECONDS_MAX = 900


@dataclass(frozen=True)
class Mutation:
    """One check: the file that has it, its text, and the text without it."""

    name: str
    file: str
    guard: str
    without: str

    @property
    def script(self) -> str | None:
        """The verb of the Lua script that has the check; None for Python."""
        path = Path(self.file)
        return path.stem if path.suffix == ".lua" else None

    def apply(self, folder: Path) -> None:
        """Remove the check from a copy. Raises LookupError unless it stands there exactly once."""
        path = folder / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.guard) != 1:
            raise LookupError(
                f"{self.name}: its guard stands {text.count(self.guard)} times in {path}"
            )
        path.write_text(text.replace(self.guard, self.without), encoding="utf-8")


@dataclass(frozen=True)
class Found:
    """The result for a mutation: the invariant or the test that found it, "" if nothing did.

    `seeds` is how many the simulation tried; 0 for a script.
    """

    mutation: Mutation
    by: str
    seeds: int


def mutations() -> list[Mutation]:
    """Return all that are listed."""
    return [
        Mutation(**one)
        for name in LISTS
        for one in tomllib.loads((ROOT / name).read_text(encoding="utf-8"))["mutation"]
    ]


def try_all(chosen: list[Mutation], seeds_max: int, processes: int) -> Iterator[Found]:
    """Try each mutation; yield each result as it comes."""
    with ThreadPoolExecutor(processes) as pool:
        for done in as_completed([pool.submit(look, one, seeds_max) for one in chosen]):
            yield done.result()


def look(mutation: Mutation, seeds_max: int) -> Found:
    """Remove one check and see what notices."""
    with _mutated(mutation) as folder:
        if mutation.script is not None:
            return Found(mutation, _failing_test(mutation, folder), 0)
        said = _run(
            [
                *(sys.executable, "-m", "tests.simulation", "--seeds", f"1..{seeds_max}"),
                *("--processes", "1", "--first", "--json"),
            ],
            folder,
        )
    if said is None:
        return Found(mutation, "", seeds_max)
    if not said.stdout.strip():
        # It does not even start: a mutation that is no program finds nothing.
        raise LookupError(f"{mutation.name}: {said.stderr[-2000:]}")
    summary = json.loads(said.stdout)
    failed = summary["violations"]
    return Found(mutation, failed[0]["invariant"] if failed else "", summary["seeds"])


@contextmanager
def _mutated(mutation: Mutation) -> Iterator[Path]:
    """Copy the source without the check."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name)
        for part in FOLDERS:
            shutil.copytree(
                ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / SERVERS).symlink_to(ROOT / SERVERS)
        mutation.apply(folder)
        yield folder


def _failing_test(mutation: Mutation, folder: Path) -> str:
    """Return the first test of the store that fails on a real server; "" if all pass."""
    tests = [f"tests/store/{name}" for name in (f"test_lua_{mutation.script}.py", *STORE_TESTS)]
    said = _run(
        [
            *(sys.executable, "-m", "pytest", "-x", "-rfE", "--tb=no", "-m", "server"),
            *("-p", "no:xdist", "-p", "no:cacheprovider", *tests),
        ],
        folder,
    )
    if said is None or said.returncode == 0:
        return ""
    found = re.search(r"^FAILED (\S+)", said.stdout, re.MULTILINE)
    if found is None:
        raise LookupError(f"{mutation.name}: {said.stdout[-2000:]}{said.stderr[-2000:]}")
    return found[1]


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str] | None:
    """Run a program on a copy; None when it took too long."""
    kept = {
        name: os.environ[name] for name in ("PATH", "FABRIC_TEST_SERVERS") if name in os.environ
    }
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env={"PYTHONPATH": str(folder), **kept},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        return None
