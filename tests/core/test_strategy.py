"""Which reducer a place has: the first rule that matches, or else by what is there."""

from __future__ import annotations

from typing import Any

import pytest

from fabric.core.rules import Merge
from fabric.core.synthesis import reducer
from fabric.core.synthesis.reducer import Strategies


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *((1, "sum"), (1.5, "sum"), (True, "by_source"), ("1", "by_source"), (None, "by_source")),
        *(([], "union"), (["x"], "union"), ({}, "by_source")),
    ],
)
def test_without_rules_it_is_by_what_is_there(value: Any, name: str) -> None:
    assert Strategies().of("/a", value) == name


@pytest.mark.parametrize(
    ("pattern", "pointer", "matches"),
    [
        ("/n", "/n", True),
        ("/n", "/n/m", False),
        ("/n", "/m/n", False),
        ("/*", "/n", True),
        ("/*", "/n/m", False),
        ("/metrics/*/latency", "/metrics/http/latency", True),
        ("/metrics/*/latency", "/metrics/a/b/latency", False),
        ("/metrics/**", "/metrics/a/b/latency", True),
        ("/**/latency", "/metrics/a/latency", True),
        ("/a~1b", "/a~1b", True),
        ("/a~1*", "/a~1b", True),
        ("/*_ms", "/wait_ms", True),
    ],
)
def test_a_path_is_a_pointer_or_a_glob_of_several(
    pattern: str, pointer: str, *, matches: bool
) -> None:
    strategies = Strategies([Merge(pattern, "max")])
    assert (strategies.of(pointer, "text") == "max") is matches
    assert (strategies.of(pointer, "text") == "max") is matches, "the same, when it is remembered"


def test_of_several_rules_the_first_counts() -> None:
    strategies = Strategies([Merge("/n/m", "max"), Merge("/n/*", "min"), Merge("/**", "last")])
    assert [strategies.of(place, 1) for place in ("/n/m", "/n/x", "/y")] == ["max", "min", "last"]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reducer, "_REMEMBERED_MAX", 10)
    strategies = Strategies([Merge("/n*", "max")])
    for number in range(100):
        assert strategies.of(f"/n{number}", 1) == "max"
        assert strategies.of(f"/m{number}", 1) == "sum"
        assert len(strategies._remembered) <= 10
