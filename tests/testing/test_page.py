"""The code on docs/testing.md is what a reader pastes: it runs, and does what the page says."""

import asyncio
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fabric.testing import running, running_sync
from tests.support.daemon import environment
from tests.support.servers import ROOT

PAGE = (ROOT / "docs" / "testing.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

#: A plugin for coroutine tests, in short.
PLUGIN = """
import asyncio, inspect

def pytest_pyfunc_call(pyfuncitem):
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        asyncio.run(pyfuncitem.obj())
        return True
"""


def functions(block: str) -> dict[str, Any]:
    """The coroutine functions that a block defines."""
    names: dict[str, Any] = {}
    exec(compile(block, "docs/testing.md", "exec"), names)  # noqa: S102 - the page is ours
    return {name: one for name, one in names.items() if inspect.iscoroutinefunction(one)}


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_each_block_runs(number: int) -> None:
    tests = [one for name, one in functions(BLOCKS[number]).items() if name.startswith("test_")]
    assert tests or "fixture" in BLOCKS[number]
    for test in tests:
        asyncio.run(test())


def test_the_first_one_is_a_test_of_an_agent_of_about_twenty_lines(tmp_path: Path) -> None:
    assert len([line for line in BLOCKS[0].splitlines() if line]) <= 22
    (tmp_path / "test_summariser.py").write_text(BLOCKS[0])
    (tmp_path / "conftest.py").write_text(PLUGIN)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_summariser.py"],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_every_argument_is_on_the_page() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    named = {
        name
        for name, one in inspect.signature(running).parameters.items()
        if one.kind is not inspect.Parameter.VAR_KEYWORD
    }
    assert rows == named
    assert inspect.signature(running).parameters == inspect.signature(running_sync).parameters
