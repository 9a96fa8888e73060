"""Reducers and refiners are found by entry points; a worker goes on without missing ones."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fabric.core.rule_table import Merge
from fabric.core.rules import Rules
from tests.support.daemon import environment
from tests.support.servers import ROOT
from tests.workers.refined import NAMES, REFINERS, install
from workers import extension
from workers.refiner import ANSWER_BYTES_MAX, GROUP

#: Of the one package that has reducers.
REDUCERS = """
def p95(values):
    return sorted(values)[-1 - len(values) // 20]
"""


def merging(*names: str) -> Rules:
    return Rules(merges=tuple(Merge(f"/{name}", name) for name in names))


def test_a_reducer_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = install(tmp_path, "reducing_tests", REDUCERS, reducers=["p95"])
    monkeypatch.syspath_prepend(site)
    found = extension.reducers(merging("p95", "sum"))
    assert found.keys() == {"p95"}, "what is built in need not be found"
    assert found["p95"]([3, 1, 2]) == 3


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("", "elsewhere", "the rules name elsewhere, and no package installed here has it in"),
        ("", "p95", "p95 of fabric.reducers cannot be loaded"),
        ("raise RuntimeError", "p95", "p95 of fabric.reducers cannot be loaded"),
    ],
    ids=["not installed", "not there", "broken"],
)
def test_a_reducer_that_cannot_be_loaded_is_logged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    text: str,
    name: str,
    words: str,
) -> None:
    monkeypatch.syspath_prepend(install(tmp_path, f"reducing_{len(text)}", text, reducers=["p95"]))
    assert extension.reducers(merging(name)) == {}
    assert words in caplog.text


def test_a_refiner_is_looked_for_and_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = install(tmp_path, "unloaded_tests", "raise RuntimeError", refiners=["one", "two"])
    monkeypatch.syspath_prepend(site)
    rules = Rules(refiners=("two", "three", "one"))
    assert extension.refiners(rules) == ["two", "one"]
    assert "the rules name three, and no package installed here has it in" in caplog.text
    assert GROUP in caplog.text
    assert "unloaded_tests" not in sys.modules


def refine(
    folder: Path, name: str, document: Any, *flags: str
) -> "subprocess.CompletedProcess[str]":
    """Run a refiner by hand."""
    site = install(folder, "refining_tests", REFINERS, refiners=NAMES)
    return subprocess.run(
        [sys.executable, "-P", "-m", "workers.refiner", name, *flags],
        input=json.dumps(document),
        env={**environment(), "PYTHONPATH": f"{ROOT}:{site}", "FOLDER": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


FINDING = {"state": "agreed", "value": 1, "said": {"A": [{"log": 1, "ms": 1}]}}
DOCUMENT = {"revision": 7, "findings": {"a": FINDING}, "complete": {"final": True}}


def test_a_refiner_can_be_tried_by_hand(tmp_path: Path) -> None:
    done = refine(tmp_path, "count", DOCUMENT)
    assert done.returncode == 0
    # What the refiner prints goes to standard error.
    assert json.loads(done.stdout) == {"value": {"findings": 1, "url": None}}
    assert done.stderr == "noise\n"


def test_a_refiner_whose_worker_is_gone_ends_by_itself(tmp_path: Path) -> None:
    done = refine(tmp_path, "gated", DOCUMENT, "--seconds-max", "1")
    assert (done.returncode, done.stdout) == (-signal.SIGALRM, "")


@pytest.mark.parametrize(
    ("name", "error", "trace"),
    [
        ("raising", "KeyError at {}/site/refining_tests.py:", "KeyError: 'secret'"),
        ("leaving", "SystemExit at {}/site/refining_tests.py:", "SystemExit: secret"),
        ("garbage", "its answer is not JSON (TypeError)", "TypeError: Object"),
        ("large", f"its answer has 6000013 bytes; at most {ANSWER_BYTES_MAX}", ""),
        ("hungry", "MemoryError at {}/site/refining_tests.py:", "MemoryError"),
        ("elsewhere", "no package installed here has it in fabric.refiners", ""),
    ],
)
def test_a_failure_is_answered_without_the_text_of_the_exception(
    tmp_path: Path, name: str, error: str, trace: str
) -> None:
    done = refine(tmp_path, name, DOCUMENT)
    assert done.returncode == 0
    assert json.loads(done.stdout)["error"].startswith(error.format(tmp_path))
    assert "secret" not in done.stdout
    assert trace in done.stderr
