"""Every target keeps its contract: on good inputs, on what was found once, on good ones gone wrong.

The same examples each time; `scripts/fuzz` looks for new ones, by what they reach in the code.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.effort import examples
from tests.fuzz.judge import judge
from tests.fuzz.mutation import mutated
from tests.fuzz.target import FOUND, Target, load, names

#: Mutations tried of each target, each time.
TRIES = 60


@pytest.fixture(params=names(), scope="module")
def target(request: pytest.FixtureRequest) -> Target:
    return load(request.param)


def test_good_inputs(target: Target) -> None:
    seeds = target.seeds()
    assert len(set(seeds)) == len(seeds) > 0
    for seed in seeds:
        assert judge(target, seed) == "", "good, and yet refused"


def test_what_was_found_once(target: Target) -> None:
    for file in sorted(FOUND.glob("*")):
        judge(target, file.read_bytes())


@examples(TRIES)
@given(st.data())
def test_good_inputs_gone_wrong(target: Target, data: st.DataObject) -> None:
    judge(target, data.draw(mutated(target)))
