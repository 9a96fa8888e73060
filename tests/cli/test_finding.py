"""`fabric finding` and `fabric add`: what an agent reports, as one signal."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.test_emit import sent
from tests.support.servers import RunningServer
from tests.support.shell import Shell


@pytest.mark.parametrize(
    ("words", "partial"),
    [
        (
            ["finding", "a.py", "42", "--rule", "sqli", "--severity", "high", "-m", "bad"],
            {"findings": [
                {"path": "a.py", "line": 42, "rule": "sqli", "severity": "high", "message": "bad"}
            ]},
        ),
        (
            ["finding", "--key", "port", "--value", "5432", "--evidence", "config.py:7"],
            {"findings": [{"key": "port", "value": 5432, "evidence": "config.py:7"}]},
        ),
        (
            ["add", "tests=3", "seconds=0.5"],
            {"tests": {"$add": 3}, "seconds": {"$add": 0.5}},
        ),
    ],
)  # fmt: skip
def test_words_become_a_partial_result(
    quiet: Shell, server: RunningServer, words: list[str], partial: dict[str, Any]
) -> None:
    quiet.good(*words)
    signal = sent(server, quiet)
    assert (signal["type"], signal["payload"]) == ("PARTIAL_RESULT", {"partial": partial})


def test_it_waits_for_the_decision_if_asked(shell: Shell) -> None:
    shell.good("emit", "COMPLETED", "--confirm")
    for words in (["finding", "a.py", "-m", "late"], ["add", "tests=1"]):
        done = shell.run(*words, "--confirm")
        assert (done.code, done.out) == (4, "")
        assert "refused (ENDED)" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["finding"],
        ["add", "tests=many"],
        ["add", "3"],
        ["same", "a", "b", "a"],
        ["renamed", "a.py", "./a.py"],
    ],
)
def test_what_says_nothing_is_refused(quiet: Shell, words: list[str]) -> None:
    assert quiet.run(*words).code == 2


def test_nan_is_named(quiet: Shell) -> None:
    done = quiet.run("emit", "PARTIAL_RESULT", "--payload", '{"partial": {"x": NaN}}')
    assert done.code == 2
    assert "NaN" in done.err


@pytest.mark.parametrize(
    ("words", "kind", "payload"),
    [
        (
            ["same", "a.py:1:r", "b", "c", "--by", "ann"],
            "SAME_AS",
            {"keys": ["a.py:1:r", "b", "c"], "distinct": False, "by": "ann"},
        ),
        (
            ["same", "--distinct", "a", "b", "--by", "ann"],
            "SAME_AS",
            {"keys": ["a", "b"], "distinct": True, "by": "ann"},
        ),
        (
            ["renamed", "src/a.py", "src/b.py", "--by", "ann"],
            "RENAMED",
            {"from": "src/a.py", "to": "src/b.py", "by": "ann"},
        ),
    ],
)
def test_a_person_says_it_of_keys_and_paths(
    quiet: Shell, server: RunningServer, words: list[str], kind: str, payload: dict[str, Any]
) -> None:
    quiet.good(*words)
    signal = sent(server, quiet)
    assert (signal["type"], signal["emitter"], signal["payload"]) == (kind, "ann", payload)


def test_a_person_who_says_so_is_no_agent(shell: Shell) -> None:
    shell.good("same", "a", "b", "--by", "ann", "--confirm")
    shell.good("renamed", "a.py", "b.py", "--by", "ann", "--confirm")
    assert "ann" not in shell.good("status", "--json").out
