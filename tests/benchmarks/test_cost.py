"""The ratchet of `scripts/bench cost --check`: what is on record, and that growth is seen."""

import json
from pathlib import Path

import pytest

from benchmarks import cost, hot_path


@pytest.fixture
def on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[cost.Cost]:
    """One workload as it would be measured, and on record for this version of Python."""
    monkeypatch.setattr(cost, "RECORD", tmp_path / "cost.json")
    found = [cost.Cost("mix", dict.fromkeys(cost.COUNTS, 100.0), {}, {}, {})]
    cost.keep(found)
    return found


def test_a_version_and_every_workload_are_on_record() -> None:
    record = json.loads(cost.RECORD.read_text())
    assert record
    for figures in record.values():
        assert figures.keys() == set(hot_path.NAMES)
        assert all(one.keys() == cost.COUNTS.keys() for one in figures.values())


@pytest.mark.parametrize("key", cost.COUNTS)
def test_growth_of_any_figure_is_seen(on_record: list[cost.Cost], key: str) -> None:
    assert cost.check(on_record) == ([], [])
    on_record[0].counts[key] = 104.9
    assert cost.check(on_record) == ([], [])
    on_record[0].counts[key] = 105.1
    grown, _ = cost.check(on_record)
    assert len(grown) == 1
    assert cost.COUNTS[key] in grown[0]


def test_a_version_that_is_not_on_record_is_named_and_its_calls_compared(
    on_record: list[cost.Cost], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "VERSION", "3.99")
    on_record[0].counts["calls"] = 106.0
    on_record[0].counts["codes"] = 200.0
    grown, notes = cost.check(on_record)
    assert len(grown) == 1
    assert "3.99" in notes[0]
    assert "NOT compared" in notes[0]


def test_a_lower_figure_asks_for_a_lower_record(on_record: list[cost.Cost]) -> None:
    on_record[0].counts["codes"] = 90.0
    grown, notes = cost.check(on_record)
    assert not grown
    assert "lower the record" in notes[0]


@pytest.mark.slow  # counting byte codes takes seconds
def test_two_runs_count_the_same() -> None:
    once, again = (cost.run(("mix",), callgrind=False) for _ in range(2))
    assert once == again
