"""Lists of tasks: what is wrong with one is named, and a sound one can be put in order."""

import random

import pytest

from fabric.core.task import TaskSpec, cycle, fault, in_order, prerequisites


def spec(id_: str, after: str = "", blocks: str = "") -> TaskSpec:
    return TaskSpec(id_, can_merge_after=after.split(), blocks=blocks.split())


@pytest.mark.parametrize(
    ("tasks", "code", "named"),
    [
        ([spec("a"), spec("b"), spec("a")], "DOUBLE", "a is listed twice"),
        ([spec("a", after="b")], "UNKNOWN", "can_merge_after of a names b"),
        ([spec("a", blocks="c")], "UNKNOWN", "blocks of a names c"),
        ([spec("a", after="a")], "CYCLE", "a → a"),
        ([spec("a", after="b"), spec("b", after="a")], "CYCLE", "a → b → a"),
        # From both ends: a waits for c, which waits for b, which a blocks.
        ([spec("a", after="c", blocks="b"), spec("b"), spec("c", after="b")], "CYCLE", "a → c → b"),
        ([spec("x", after="a"), spec("a", after="b"), spec("b", after="a")], "CYCLE", "a → b → a"),
    ],
)
def test_what_is_wrong_with_a_list_is_named(tasks: list[TaskSpec], code: str, named: str) -> None:
    found = fault(tasks)
    assert found is not None
    assert found.code == code
    assert named in found.reason


def test_a_list_may_name_tasks_that_exist_already() -> None:
    assert fault([spec("a", after="old", blocks="older")], {"old", "older"}) is None
    found = fault([spec("old")], {"old"})
    assert found is not None
    assert found.reason == "old is on the board already"


def test_both_ends_say_the_same() -> None:
    tasks = [spec("a", blocks="b c"), spec("b", after="a"), spec("c")]
    assert prerequisites(tasks) == {"a": [], "b": ["a"], "c": ["a"]}


@pytest.mark.parametrize("seed", range(50))
def test_a_list_is_put_in_order_exactly_if_it_has_no_cycle(seed: int) -> None:
    chance = random.Random(seed)
    names = [f"t{number}" for number in range(12)]
    tasks = [
        TaskSpec(
            name,
            can_merge_after=chance.sample(names, chance.randint(0, 1)),
            blocks=chance.sample(names, chance.randint(0, 1)),
        )
        for name in names
    ]
    before = prerequisites(tasks)
    found = cycle(before)
    for task, following in zip(found, [*found[1:], *found[:1]], strict=True):
        assert following in before[task]
    # Kahn's algorithm says independently whether there is one.
    left = {name: set(before[name]) for name in names}
    while free := [name for name, waits in left.items() if not waits]:
        left = {name: waits - set(free) for name, waits in left.items() if name not in free}
    assert bool(found) is bool(left)
    if not found:
        placed = [task.id for task in in_order(tasks)]
        assert sorted(placed) == sorted(names)
        places = {name: place for place, name in enumerate(placed)}
        assert all(places[one] < places[name] for name in names for one in before[name])


def test_a_chain_of_fifty_thousand_is_no_problem() -> None:
    tasks = [spec(f"t{number}", after=f"t{number + 1}") for number in range(50_000)]
    chain = [*tasks, spec("t50000")]
    assert fault(chain) is None
    assert in_order(chain)[0].id == "t50000"
    found = fault([*tasks, spec("t50000", after="t0")])
    assert found is not None
    assert found.code == "CYCLE"
