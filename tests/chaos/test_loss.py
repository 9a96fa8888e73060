"""A loss is counted for the failover that caused it."""

from pathlib import Path

import pytest

from tests.chaos.evidence import Numbers
from tests.chaos.loss import by_failover
from tests.chaos.sample_run import BOB, SampleRun
from tests.chaos.test_checker import line


def failovers(history: SampleRun, first_ms: float) -> None:
    """Add a planned failover, and 1,000 ms later a killed primary; each takes 100 ms."""
    for kind, at in (("fail over in order", first_ms), ("kill primary", first_ms + 1_000)):
        history.faults += [
            {"what": "fault", "kind": kind, "at": at},
            {"what": "fault", "kind": "kill agents", "at": at + 1},
            {"what": "recovered", "at": at + 100},
        ]


@pytest.mark.parametrize(
    ("after_ms", "order", "kill"), [(50, 1, 0), (500, 0, 1), (-500, 1, 0), (5_000, 0, 1)]
)
def test_a_loss_is_that_of_the_failover_it_fell_into_or_of_the_next(
    tmp_path: Path, after_ms: float, order: int, kill: int
) -> None:
    history = SampleRun(tmp_path)
    del history.streams["log"]["8-0"]  # bob's RELEASE, his third signal
    failovers(history, line(history, BOB, "sent", 2)["at"] - after_ms)
    assert by_failover(history.evidence()) == {
        "fail over in order": [order],
        "kill primary": [kill],
    }


def test_a_set_of_numbers_is_kept_as_ranges() -> None:
    numbers = Numbers()
    for number in (3, 1, 2, 7, 8, 3):
        numbers.add(number)
    assert list(numbers) == [1, 2, 3, 7, 8]
    assert len(numbers) == 5
    assert 2 in numbers
    assert 4 not in numbers
