"""The list of mutations follows the code: each guard that it removes is there, once."""

import pytest

from tests.simulation.mutation import ROOT, Mutation, mutations


@pytest.mark.parametrize("mutation", mutations(), ids=lambda mutation: mutation.name)
def test_a_listed_guard_is_in_the_code_once(mutation: Mutation) -> None:
    assert mutation.text() != (ROOT / mutation.file).read_text(encoding="utf-8")
