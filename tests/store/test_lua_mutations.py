"""Every listed mutation of a script is a script: the server compiles it."""

import pytest

from tests.simulation.mutation import ROOT, Mutation, mutations
from tests.store.backend import RedisBackend


@pytest.mark.parametrize(
    "mutation",
    [mutation for mutation in mutations() if mutation.script],
    ids=lambda mutation: mutation.name,
)
async def test_a_script_without_its_guard_compiles(real: RedisBackend, mutation: Mutation) -> None:
    text = (ROOT / mutation.file).read_text(encoding="utf-8")
    assert await real.call("SCRIPT", "LOAD", text.replace(mutation.guard, mutation.without))
