"""What a worker runs with when a project's file names programs: nothing without consent."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from fabric.config import rulebook
from fabric.config.settings import Settings
from fabric.config.trust import request
from workers import daemon, extension, orchestrator, synthesizer

FILE = """
[escalations]
hook = ["notify"]
[synthesis]
refiners = ["summary"]
[[synthesis.merges]]
path = "/b"
reducer = "p95"
"""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, tuple[Any, ...]]:
    """What each worker was made from; none of them runs."""
    monkeypatch.delenv("FABRIC_CONFIG", raising=False)
    monkeypatch.delenv("FABRIC_TRUST", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (tmp_path / "fabric.toml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    made: dict[str, tuple[Any, ...]] = {}

    def run(work: Any) -> int:
        work.close()
        return 0

    monkeypatch.setattr(asyncio, "run", run)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(gc, "set_threshold", lambda *_: None)
    monkeypatch.setattr(extension, "reducers", lambda rules: {"p95": max})
    monkeypatch.setattr(extension, "refiners", lambda rules: [*rules.refiners])
    monkeypatch.setattr(orchestrator, "factory", lambda *all_: made.update(orchestrator=all_))
    monkeypatch.setattr(synthesizer, "factory", lambda *all_: made.update(synthesizer=all_))
    return made


def test_without_consent_no_code_of_others_is_loaded(
    started: dict[str, tuple[Any, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    for worker in ("orchestrator", "synthesizer"):
        assert daemon.serve(worker, Settings()) == 0
    assert started["orchestrator"][0].hook == ()
    assert started["synthesizer"][2:] == ({}, [])
    assert caplog.text.count("that you have not allowed (escalations.hook, synthesis.") == 2


def test_with_consent_it_is(started: dict[str, tuple[Any, ...]], tmp_path: Path) -> None:
    asked = request(tmp_path / "fabric.toml", rulebook.find().values)
    assert asked is not None
    asked.allow("shown")
    for worker in ("orchestrator", "synthesizer"):
        assert daemon.serve(worker, Settings()) == 0
    assert started["orchestrator"][0].hook == ("notify",)
    assert started["synthesizer"][2:] == ({"p95": max}, ["summary"])
