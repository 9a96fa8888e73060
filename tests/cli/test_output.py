"""No output can move a terminal: neither JSON nor messages that repeat their input."""

import json
import sys

import pytest

from fabric import cli
from fabric.cli.output import json_line, print_json

#: A terminal takes each of them for something else than a character to show.
MOVING = "\x00\x1b[2J\x7f\x9b2J\x85\u202e\u2066\u2028\ufeff\U000e0041"


def test_json_decodes_to_the_same_and_moves_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    value = {MOVING: [MOVING, "é\u4e2d\U0001f600"]}
    print_json(value)
    for text in (json_line(value), capsys.readouterr().out):
        assert json.loads(text) == value
        assert text.replace("\n", "").isprintable()
        assert "é\u4e2d\U0001f600" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["tail", "x", "a\x9b2Jb"],
        ["a\x1b[2Jb"],
        ["emit", "PROGRESS", "a\u202eb"],
        ["tail", "--since", "a\x85b", "x"],
        ["emit", '{"type":"a\x1b"}'],
        ["emit", '{"type":"\udcff"}'],
        ["dead", "show", "a\x9bb"],
    ],
    ids=ascii,
)
def test_an_error_repeats_what_was_given_without_moving_a_terminal(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FABRIC_REDIS_URL", "unix:///nowhere/redis.sock")
    monkeypatch.setattr(sys, "argv", ["fabric", *arguments])
    assert cli.main() != 0
    said = capsys.readouterr().err
    assert said
    assert said.replace("\n", "").isprintable()
