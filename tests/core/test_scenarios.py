"""The core answers as the scenarios say: read scenarios/*.txt, not this file."""

from pathlib import Path

import pytest

from tests.core.scenario import ScenarioError, play

FOLDER = Path(__file__).parent / "scenarios"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_scenario(path: Path, recording: bool) -> None:
    played = play(path)
    if recording:
        path.write_text(played, encoding="utf-8")
    assert played == path.read_text(encoding="utf-8"), "if this is right: pytest --record"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0:05  A\n", "not a speaker and a signal"),
        ("soon  A  STARTED\n", "no time"),
        ("show everything\n", "nothing to show called everything"),
        ("0:00  A  BLOCKED(x)\n1:00  A  HEARTBEAT\n", "undeclared:x is due before that"),
    ],
)
def test_a_line_that_makes_no_sense_is_reported(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=complaint):
        play(path)


def test_an_answer_that_is_not_the_cores_is_found(tmp_path: Path) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text("0:00  A  STARTED\n    1-0  refused\n")
    assert play(path) == "0:00  A  STARTED\n    1-0  accepted\n    STARTED to the results\n"
