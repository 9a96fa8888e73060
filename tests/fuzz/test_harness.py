"""The harness can fail: the judge and the fuzzer find planted defects."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.judge import HangError, judge
from tests.fuzz.report import Tally, read, table
from tests.fuzz.target import load, planted
from tests.support.servers import ROOT

#: What is reported for each of them.
SAID = {"crash": "ZeroDivisionError", "hang": "HangError", "hog": "HogError"}


def replay(target: str, file: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Replay one input in its own process, as a person does."""
    file.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz.campaign", target, "--replay", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_all_that_is_planted_is_tried() -> None:
    assert planted() == sorted(SAID)


@pytest.mark.parametrize(
    "target",
    ["crash", "hog", pytest.param("hang", marks=pytest.mark.slow)],  # seconds of processor time
)
def test_what_is_planted_is_found(target: str, tmp_path: Path) -> None:
    ended = replay(target, tmp_path / "input", "an input with a { in it")
    assert ended.returncode == 1
    assert SAID[target] in ended.stderr


def test_a_clear_answer_is_no_finding(tmp_path: Path) -> None:
    ended = replay("crash", tmp_path / "input", "")
    assert (ended.returncode, ended.stderr) == (0, "crash: ValueError\n")


@pytest.mark.slow
def test_a_hang_leaves_no_timer_behind() -> None:
    with pytest.raises(HangError):
        judge(load("hang"), b"{")
    assert judge(load("hang"), b"") == ""


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(LookupError, match="no target nonsense; there are"):
        load("nonsense")


@pytest.mark.slow
def test_the_fuzzer_finds_what_is_planted(tmp_path: Path) -> None:
    """In seconds, starting from an input without the brace that triggers it."""
    argv = ["scripts/fuzz", "--seconds", "60", "--build", str(tmp_path), *sorted(SAID)]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert ended.returncode == 1, ended.stderr
    rows = {line.split()[0]: line.split()[-1] for line in ended.stdout.splitlines()}
    assert rows == {"target": "findings", **dict.fromkeys(SAID, "1"), "all": "3"}
    for target, word in SAID.items():
        assert f"\n{target}: {word}" in ended.stderr
        (found,) = (tmp_path / target / "findings").iterdir()
        assert b"{" in found.read_bytes()


def test_a_fuzzer_that_did_not_run_is_no_success() -> None:
    row = read("x", "ImportError: nothing of that name", [], 0, "")
    assert row.fault == "it ended by itself: ImportError: nothing of that name"
    assert read("x", "#7 NEW cov: 3 ft: 4", [], 1, "too late").fault == "too late"


def test_the_table() -> None:
    good = read(
        "ingress",
        "#1000\tpulse  cov: 20 ft: 30\nstat::number_of_executed_units: 1234\n"
        "stat::average_exec_per_sec:     99\n",
        [],
        5,
        "",
    )
    assert good == Tally("ingress", 1234, 99, 20, 5, (), "")
    assert [line.split() for line in table([good])] == [
        ["target", "runs", "runs/s", "edges", "corpus", "findings"],
        ["ingress", "1,234", "99", "20", "5", "0"],
        ["all", "1,234", "5", "0"],
    ]
