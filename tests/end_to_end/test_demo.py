"""`fabric demo`: six real agents on real files, with the project's own private server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: A tree with one finding for each reviewer.
TREE = {
    "shop/__init__.py": "",
    "shop/basket.py": '"""Baskets."""\n\nimport os\n\nfrom shop.price import total\n\n\n'
    "def pay(items=[]):\n    # TODO: ask the bank\n    return total(items)\n",
    "shop/price.py": '"""Prices."""\n\nfrom shop import basket\n\n\n'
    "def total(items):\n    return eval('+'.join(items))\n\n\n"
    "def forgotten():\n    return basket\n",
    "shop/broken.py": "def (:\n",
}

#: Longest a demo may take here, s. It takes about five.
DEMO_S_MAX = 100


def _demo(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "FABRIC" not in name}
    return subprocess.run(
        [sys.executable, "-P", "-m", "fabric.cli", "demo", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEMO_S_MAX,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        path = tmp_path / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_the_fleet_reviews_a_tree_and_reports(project: Path) -> None:
    """One run: every reviewer finds what is there, two wait for the index, nothing is left."""
    done = _demo(project, "code", "--json", "--output", str(project / "report.md"))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [agent["status"] for agent in report["agents"]] == ["completed"] * 6
    found = {(item["agent"], item["finding"]["rule"]) for item in report["arrivals"]}
    assert {
        ("INDEXER", "syntax-error"),
        ("SAFETY", "mutable-default"),
        ("SAFETY", "eval-or-exec"),
        ("IMPORTS", "unused-import"),
        ("IMPORTS", "import-cycle"),
    } <= found
    assert {agent for agent, _ in found} >= {"STYLE", "DEAD_CODE"}

    signals = [row["signal"] for row in report["timeline"]]
    assert signals.count("BLOCKED(index)") == 2
    resolved = signals.index("DEPENDENCY_RESOLVED")
    assert all(place > resolved for place, word in enumerate(signals) if word == "(auto-resume)")
    assert signals.count("CHECKPOINT_REACHED") == 6

    text = (project / "report.md").read_text()
    assert "| Time | Signal | Stream | Action |" in text
    assert "redis-cli -s" in text
    assert not (project / ".fabric" / "redis.sock").exists()


def test_a_terminal_free_run_prints_a_line_for_each_signal(project: Path) -> None:
    """Piped: lines on stderr while it runs, the Markdown report alone on stdout."""
    done = _demo(project, "code")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Code review of `code`")
    lines = done.stderr.splitlines()
    assert sum("STARTED" in line for line in lines) == 6
    assert sum("COMPLETED" in line for line in lines) == 6


def test_a_folder_without_python_files_is_a_usage_error(project: Path) -> None:
    (project / "empty").mkdir()
    done = _demo(project, "empty")
    assert done.returncode == 2
    assert "no Python files" in done.stderr
