"""Mutation testing: remove a safety check on purpose, and see that something notices.

Two files list the checks: a file of the source, the text of the check, and the text that replaces
it. The simulation must find every check of `mutations.toml`; the store's tests on a real server
must find every check of a Lua script. Each mutation is tried in memory, in a process of its own
that is a copy of this one, so that imports are paid for once; no file is changed.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from multiprocessing import connection, get_context
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
LISTS = ("tests/simulation/mutations.toml", "tests/store/lua_mutations.toml")

#: Packages that a process imports again for a mutation of Python.
PACKAGES = ("fabric", "workers", "tests")

#: The store's tests that run for a mutation of a script, after those of the script itself.
STORE_TESTS = (
    *("test_lease.py", "test_commit.py", "test_rebuild.py", "test_conformance.py"),
    "test_permission.py",
)

#: Seconds for one mutation. One that makes runs endless is stopped, and counts as not found.
SECONDS_MAX = 900


#: Errors of a mutation that cannot run: they tell nothing of the check.
NO_PROGRAM = ("NameError(", "ImportError(", "AttributeError(")


@dataclass(frozen=True)
class Mutation:
    """One check: the file that has it, its text, and the text without it."""

    name: str
    file: str
    guard: str
    without: str
    #: The scene in which it is to be found; "" for whole random plans.
    scene: str = ""
    #: The seed whose run has found it last: it is tried first. 0 if none is known.
    seed: int = 0

    @property
    def script(self) -> str | None:
        """The verb of the Lua script that has the check; None for Python."""
        path = Path(self.file)
        return path.stem if path.suffix == ".lua" else None

    def text(self) -> str:
        """Return the file without the check. Raises LookupError unless it stands there once."""
        text = (ROOT / self.file).read_text(encoding="utf-8")
        if text.count(self.guard) != 1:
            raise LookupError(
                f"{self.name}: its guard stands {text.count(self.guard)} times in {self.file}"
            )
        return text.replace(self.guard, self.without)


@dataclass(frozen=True)
class Found:
    """The result for a mutation: the invariant or the test that found it, "" if nothing did.

    `seed` is that of the run that found it; 0 for a script.
    """

    mutation: Mutation
    by: str
    seed: int = 0


def mutations() -> list[Mutation]:
    """Return all that are listed."""
    return [
        Mutation(**one)
        for name in LISTS
        for one in tomllib.loads((ROOT / name).read_text(encoding="utf-8"))["mutation"]
    ]


def look(mutation: Mutation, seeds_max: int) -> Found:
    """Remove one check and see what notices."""
    return next(try_all([mutation], seeds_max, 1))


def try_all(chosen: Sequence[Mutation], seeds_max: int, processes: int) -> Iterator[Found]:
    """Try each mutation; yield each result as it comes. Raises LookupError if one cannot run."""
    for one in chosen:
        one.text()  # before anything has run
    if any(one.script for one in chosen):
        # Imports what the tests need.
        _run_tests(["--collect-only", _test("test_lua_commit.py"), *map(_test, STORE_TESTS)])
    context, left = get_context("fork"), list(reversed(chosen))
    running: dict[Any, tuple[Mutation, Any, float]] = {}
    try:
        while left or running:
            while left and len(running) < processes:
                here, there = context.Pipe(duplex=False)
                mutation = left.pop()
                child = context.Process(target=_try, args=(mutation, seeds_max, there))
                child.start()
                there.close()
                running[here] = mutation, child, time.monotonic() + SECONDS_MAX
            first = min(stop for _, _, stop in running.values())
            ready = connection.wait(list(running), max(0.0, first - time.monotonic()))
            for answer in ready or [min(running, key=lambda one: running[one][2])]:
                mutation, child, _ = running.pop(answer)
                yield _result(mutation, answer if ready else None)
                child.kill()
                child.join()
    finally:
        for _, child, _ in running.values():
            child.kill()


def table(found: Sequence[Found], seconds: float) -> str:
    """Return the totals: how many were looked for, how many found, and by which seeds."""
    simulated = [one for one in found if not one.mutation.script]
    tested = [one for one in found if one.mutation.script]
    seeds = sorted(one.seed for one in simulated if one.by)
    lines = [f"{'':<24}{'checks':>8}{'found':>8}{'not found':>11}"]
    for name, some in (("simulation", simulated), ("scripts, by tests", tested), ("all", found)):
        count = sum(bool(one.by) for one in some)
        lines.append(f"{name:<24}{len(some):>8}{count:>8}{len(some) - count:>11}")
    if seeds:
        lines.append(f"seeds: half by {seeds[len(seeds) // 2]}, the last by {seeds[-1]}")
    return "\n".join(["", *lines, f"{seconds:.0f} s", ""])


def record(found: Found) -> None:
    """Write into the list which seed has found a mutation, so that it is tried first."""
    path, name = ROOT / LISTS[0], re.escape(f'name = "{found.mutation.name}"\n')
    text = path.read_text(encoding="utf-8")
    row = rf"\g<1>\g<2>seed = {found.seed}\n"
    path.write_text(re.sub(rf"({name})(scene = .*\n)?(seed = \d+\n)?", row, text), encoding="utf-8")


def _result(mutation: Mutation, answer: Any) -> Found:
    if answer is None:
        return Found(mutation, "")
    try:
        by, seed, error = answer.recv()
    except EOFError:
        by, seed, error = "", 0, "its process has ended without a result"
    if error:
        # It does not even start: a mutation that is no program finds nothing.
        raise LookupError(f"{mutation.name}: {error}")
    return Found(mutation, by, seed)


def _try(mutation: Mutation, seeds_max: int, answer: Any) -> None:
    """Try a mutation in this process, and send what has found it."""
    os.setsid()  # an interrupt is for the process that waits
    try:
        by, seed = _failing_test(mutation) if mutation.script else _violated(mutation, seeds_max)
    except BaseException as error:
        answer.send(("", 0, repr(error)))
    else:
        answer.send((by, seed, ""))


def _violated(mutation: Mutation, seeds_max: int) -> tuple[str, int]:
    """Return the invariant that breaks first without the check, and in which seed."""
    _import_without(mutation)
    generate = importlib.import_module("tests.simulation.generate").generate
    if mutation.scene:
        generate = partial(importlib.import_module("tests.simulation.scenes").plan, mutation.scene)
    run = importlib.import_module("tests.simulation.run").run
    sys.unraisablehook = lambda unraisable: None
    for seed in (*([mutation.seed] if mutation.seed else ()), *range(1, seeds_max + 1)):
        result = run(generate(seed))
        if any(error in result.detail for error in NO_PROGRAM):
            raise LookupError(f"it is no program without the check: {result.detail}")
        if result.violation:
            return result.violation, seed
    return "", 0


def _import_without(mutation: Mutation) -> None:
    """Let this process import everything again, one file without its check."""
    changed, path = mutation.text(), str(ROOT / mutation.file)

    class Loader(SourceFileLoader):
        def get_code(self, fullname: str) -> CodeType:
            return compile(changed, path, "exec", dont_inherit=True)

    class Finder(MetaPathFinder):
        def find_spec(
            self, fullname: str, where: Sequence[str] | None, target: ModuleType | None = None
        ) -> ModuleSpec | None:
            spec = PathFinder.find_spec(fullname, where)
            if spec is None or spec.origin != path:
                return None
            spec.loader = Loader(fullname, path)
            return spec

    for name in [one for one in sys.modules if one.partition(".")[0] in PACKAGES]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder())


def _failing_test(mutation: Mutation) -> tuple[str, int]:
    """Return the first test of the store that fails on a real server; "" if all pass."""
    scripts: Any = importlib.import_module("fabric.store.scripts")
    source, changed = scripts.source, mutation.text()
    scripts.source = lambda verb: changed if verb == mutation.script else source(verb)
    scripts.digest.cache_clear()
    scripts.commands.cache_clear()
    status, failed = _run_tests(
        ["-x", *map(_test, (f"test_lua_{mutation.script}.py", *STORE_TESTS))]
    )
    if status and not failed:
        raise LookupError(f"the tests did not run: {status!r}")
    return (failed[0] if failed else ""), 0


def _run_tests(arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Run tests that need a server in this process; return the status, and those that failed."""
    import pytest

    failed: list[str] = []

    class Ear:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                failed.append(report.nodeid)

    options = ("-m", "server", "-p", "no:xdist", "-p", "no:cacheprovider")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        status = pytest.main([*options, *arguments], plugins=[Ear()])
    return status, failed


def _test(name: str) -> str:
    return str(ROOT / "tests" / "store" / name)
