"""Which replica serves which partition: all compute the same, and little moves."""

from collections import Counter
from itertools import pairwise, permutations

import pytest

from workers.replica import preferred, share

PARTITIONS = 1_000
REPLICAS = [f"replica-{number}" for number in range(5)]


def shares(replicas: list[str], partitions: int = PARTITIONS) -> dict[str, set[int]]:
    return {name: share(name, partitions, replicas) for name in replicas}


def test_each_partition_has_one_replica() -> None:
    found = Counter(number for mine in shares(REPLICAS).values() for number in mine)
    assert found == Counter(range(PARTITIONS))


def test_all_agree_whatever_the_order_of_names() -> None:
    names = REPLICAS[:4]
    answers = {
        tuple(preferred(number, list(order)) for number in range(50))
        for order in permutations(names)
    }
    assert len(answers) == 1


@pytest.mark.parametrize("gone", REPLICAS)
def test_when_one_leaves_only_its_own_partitions_move(gone: str) -> None:
    before = shares(REPLICAS)
    after = shares([name for name in REPLICAS if name != gone])
    for name, mine in after.items():
        assert mine >= before[name]
        assert mine - before[name] <= before[gone]


def test_when_one_joins_partitions_move_only_to_it() -> None:
    for fewer, more in pairwise(REPLICAS[:size] for size in range(1, len(REPLICAS) + 1)):
        before, after = shares(fewer), shares(more)
        for name in fewer:
            assert after[name] <= before[name]


def test_the_shares_are_about_even() -> None:
    sizes = [len(mine) for mine in shares(REPLICAS).values()]
    assert min(sizes) > PARTITIONS / len(REPLICAS) / 2
    assert max(sizes) < PARTITIONS / len(REPLICAS) * 2


def test_a_replica_of_twice_the_weight_has_twice_the_share() -> None:
    weights = dict(zip(REPLICAS, (1, 1, 2, 4, 0), strict=True))
    sizes = [len(share(name, PARTITIONS, REPLICAS, weights)) for name in REPLICAS]
    assert sum(sizes) == PARTITIONS
    assert [round(8 * size / PARTITIONS) for size in sizes] == [1, 1, 2, 4, 0]


def test_only_when_its_weight_changes_do_partitions_move_to_or_from_a_replica() -> None:
    before = {name: share(name, PARTITIONS, REPLICAS, {}) for name in REPLICAS}
    after = {name: share(name, PARTITIONS, REPLICAS, {REPLICAS[0]: 3}) for name in REPLICAS}
    assert after[REPLICAS[0]] > before[REPLICAS[0]]
    assert all(after[name] <= before[name] for name in REPLICAS[1:])


def test_a_replica_without_weight_serves_when_no_other_has_any() -> None:
    assert preferred(0, ["far"], {"far": 0}) == "far"
    assert share("far", PARTITIONS, ["far", "near"], {"far": 0}) == set()
    both = {"far": 0, "farther": 0}
    assert share("far", PARTITIONS, list(both), both) | share(
        "farther", PARTITIONS, list(both), both
    ) == set(range(PARTITIONS))


def test_a_replica_that_is_not_live_has_no_share() -> None:
    assert share("unknown", PARTITIONS, REPLICAS) == set()
    assert share("alone", 3, ["alone"]) == {0, 1, 2}
    assert preferred(0, []) is None
