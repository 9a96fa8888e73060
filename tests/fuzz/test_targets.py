"""Every target keeps its contract on good inputs, on earlier findings, and on mutated good inputs.

The examples are the same each time; `scripts/fuzz` looks for new ones, guided by code coverage.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.judge import judge
from tests.fuzz.mutation import mutated
from tests.fuzz.target import FOUND, Target, load, names
from tests.support.effort import examples

#: Bytes of a long input, and the pieces that it repeats.
LONG_BYTES = 50_000
UNITS = [b"[", b'"', b"\\", b"9", b"a/", b"*", b"\x1e", b"x\x1f", b"\n", b'{"a":', b"a.", b"\xff"]

#: Mutations tried for each target.
TRIES = 30


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


@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_the_same_again_and_again(target: Target, unit: bytes) -> None:
    """A quadratic algorithm would not end here in time."""
    judge(target, unit * (LONG_BYTES // len(unit)))


@examples(TRIES)
@given(st.data())
def test_good_inputs_gone_wrong(target: Target, data: st.DataObject) -> None:
    judge(target, data.draw(mutated(target)))
