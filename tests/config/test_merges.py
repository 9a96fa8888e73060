"""`fabric rules check` names merge rules that can do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabric.config import rulebook


def faults(tmp_path: Path, *merges: str) -> list[str]:
    path = tmp_path / "fabric.toml"
    path.write_text("".join(f"[[synthesis.merges]]\n{one}\n" for one in merges))
    assert rulebook.check_file(path)[1] == []
    return [f"{fault.line}: {fault}" for fault in rulebook.misfits(path)]


@pytest.mark.parametrize(
    ("merges", "told"),
    [
        (['path = "/findings/x"\nreducer = "max"'], "2: synthesis.merges[0].path"),
        (['path = "/n"'], "2: synthesis.merges[0].reducer"),
        (['path = "/n"\nreducer = "max"\ncompare = "text"'], "4: synthesis.merges[0].compare"),
        (['path = "/n"\nreducer = "max"\npolicy = "surest"'], "4: synthesis.merges[0].policy"),
        (['path = "/n"\ncompare = "text"\ntolerance = 1'], "4: synthesis.merges[0].tolerance"),
        (['path = "/n"\nreducer = "biggest"'], "3: synthesis.merges[0].reducer"),
        (['path = "/n/"\nreducer = "max"'], "2: synthesis.merges[0].path"),
        (['path = "/*"\nreducer = "max"', 'path = "/n"\nreducer = "min"'],
         "5: synthesis.merges[1].path"),
        (['path = "/**"\nreducer = "max"', 'path = "/a/*"\nreducer = "min"'],
         "5: synthesis.merges[1].path"),
        (['path = "/t"\nreducer = "rows"'], "3: synthesis.merges[0].key"),
        (['path = "/t"\nreducer = "max"\nkey = "x"'], "4: synthesis.merges[0].key"),
    ],
)  # fmt: skip
def test_a_rule_that_can_do_nothing_is_named_with_its_line(
    tmp_path: Path, merges: list[str], told: str
) -> None:
    (fault,) = faults(tmp_path, *merges)
    assert fault.startswith(told)


def test_rules_that_can_are_sound(tmp_path: Path) -> None:
    sound = ['path = "/n"\nreducer = "max"', 'path = "/*"\nreducer = "min"']
    assert faults(tmp_path, *sound, 'path = "/t/x"\nreducer = "rows"\nkey = "id"') == []
