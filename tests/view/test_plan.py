"""How a plan is shown: long ones are cut, and no label breaks a diagram."""

import pytest

from fabric.core.plan import plan
from fabric.core.rules import Rules
from fabric.core.task import TaskSpec
from fabric.view.plan import ROWS_MAX, document, duration, lines, mermaid


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0, "0 s"),
        (1_500, "1.5 s"),
        (89_999, "90 s"),
        (120_000, "2 min"),
        (7_140_000, "119 min"),
        (7_200_000, "2 h"),
        (7_799_000, "2 h 10 min"),
    ],
)
def test_a_length_of_time_is_short(ms: int, shown: str) -> None:
    assert duration(ms) == shown


def test_long_tables_are_cut_and_say_so() -> None:
    tasks = [TaskSpec(str(number), writes=["x"]) for number in range(10)]
    made = plan(tasks, Rules())
    shown = list(lines(made))
    assert shown[0] == "10 tasks, 10 waves, 1 agent"
    assert f"… and {45 - ROWS_MAX} more: --json has them all" in shown
    assert len(document(made)["pairs"]) == 45


def test_a_group_that_cannot_run_at_once_is_told() -> None:
    tasks = [TaskSpec(name, writes=["x"], parallel_group="ci") for name in "ab"]
    assert "Group ci is to run at once, and cannot: a and b" in lines(plan(tasks, Rules()))


def test_an_empty_list_is_shown() -> None:
    assert next(lines(plan([], Rules()))) == "0 tasks, 0 waves, 1 agent"
    assert list(mermaid(plan([], Rules()))) == ["flowchart LR"]


def test_a_label_cannot_leave_its_box() -> None:
    tasks = [
        TaskSpec('end"]; click x', writes=['"a" --> b']),
        TaskSpec("<b>", writes=['"a" --> b']),
    ]
    drawn = list(mermaid(plan(tasks, Rules())))
    assert '    t0["end#34;#93;#59; click x"]' in drawn
    assert '    t1["#60;b#62;"]' in drawn
    assert drawn[-1].startswith('  t0 -. "both write #34;a#34;')
    assert drawn[-1].count('"') == 2
