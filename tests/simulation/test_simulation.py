"""The simulation: some seeds, runs that repeat byte for byte, and defects that it finds."""

import os
import subprocess
import sys
from statistics import mean

import pytest

from tests.core.balance_cost import KINDS, tasks_of
from tests.simulation import load, mutation
from tests.simulation.generate import generate
from tests.simulation.plan import read
from tests.simulation.run import run
from tests.simulation.scenes import SCENES
from tests.simulation.scenes import plan as plan_of
from tests.simulation.shrink import replay_text, shrink
from tests.support.effort import scaled
from tests.support.servers import ROOT

#: Seeds of the default suite: some seconds of work.
SEEDS = scaled(3)

#: Checks whose removal few seeds show: the test of mutations tries these by default.
QUICK = (
    "a stale epoch may commit",
    "the input is trimmed to its end",
    "an agent that has ended keeps its claims",
    "waiting agents are not told of a resolved output",
)

#: Seeds within which each of them must be found.
QUICK_SEEDS_MAX = 60


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_every_invariant_holds(seed: int) -> None:
    result = run(generate(seed))
    assert not result.violation, result.detail
    assert result.commits
    assert result.signals


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_breaks_nothing(name: str) -> None:
    result = run(plan_of(name, 1))
    assert not result.violation, result.detail


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a file of its own", "two of 100 files"])
def test_many_agents_do_all_tasks_of_a_board(kind: str) -> None:
    few, many = (load.run(tasks_of(count, KINDS[kind]), 100).lines for count in (200, 600))
    assert mean(many) < 1.5 * mean(few)


@pytest.mark.slow
def test_a_seed_is_one_run_to_the_byte() -> None:
    """Also in another process, where hashes of texts, and so the order of sets, differ."""
    program = (
        "from tests.simulation.generate import generate\n"
        "from tests.simulation.run import run\n"
        "print([(r.digest, r.steps) for r in (run(generate(seed)) for seed in (4, 9, 18))])"
    )
    told_by = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashes in ("1", "2")
    }
    assert len(told_by) == 1, told_by


def test_a_plan_is_read_as_it_is_written() -> None:
    plan = generate(7)
    assert read(str(plan)) == plan


@pytest.mark.slow
def test_a_failing_plan_is_made_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short plan breaks the same invariant, and can be replayed from its file."""
    monkeypatch.setattr("fabric.core.lifecycle.claims.drop_all", lambda *_: [])
    plan = next(plan for plan in map(generate, range(1, 50)) if run(plan).violation)
    shortest = shrink(plan)
    assert shortest.violation
    assert len(shortest.plan.lines) <= len(plan.lines) // 10, str(shortest.plan)
    again = run(read(replay_text(shortest)))
    assert (again.violation, again.digest) == (shortest.violation, shortest.digest)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_guard_that_is_taken_out_is_missed(name: str) -> None:
    (guard,) = [one for one in mutation.mutations() if one.name == name]
    assert mutation.look(guard, QUICK_SEEDS_MAX).by
