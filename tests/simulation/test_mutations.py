"""The list of mutations follows the code: each guard that it removes is there, once."""

import shutil
from pathlib import Path

import pytest

from tests.simulation import mutation as listed
from tests.simulation.mutation import LISTS, ROOT, Found, Mutation, mutations
from tests.simulation.scenes import SCENES


@pytest.mark.parametrize("mutation", mutations(), ids=lambda mutation: mutation.name)
def test_a_listed_guard_is_in_the_code_once(mutation: Mutation) -> None:
    assert mutation.text() != (ROOT / mutation.file).read_text(encoding="utf-8")


def test_a_listed_scene_is_there() -> None:
    assert {one.scene for one in mutations()} <= {"", *SCENES}


def test_a_seed_is_written_into_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = mutations()
    for name in LISTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(listed, "ROOT", tmp_path)
    first, *others = before
    for seed in (7, 12):
        listed.record(Found(first, "an invariant", seed))
        now, *same = mutations()
        assert (now.name, now.guard, now.seed) == (first.name, first.guard, seed)
        assert same == others
