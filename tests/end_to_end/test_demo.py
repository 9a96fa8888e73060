"""`fabric demo`: nine real agents on real files, with the project's own private server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fabric.devserver.project import Project
from tests.demo.plant import ABORTS_RUFF, TOO_DEEP

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


def _plant(folder: Path) -> Path:
    for name, text in TREE.items():
        path = folder / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return _plant(tmp_path)


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A project that the fleet has reviewed, with its report.md, and the report as JSON."""
    project = _plant(tmp_path_factory.mktemp("reviewed"))
    done = _demo(project, "code", "--json", "--output", str(project / "report.md"))
    assert done.returncode == 0, done.stderr
    return project, json.loads(done.stdout)


def test_the_fleet_reviews_a_tree_and_reports(reviewed: tuple[Path, dict[str, Any]]) -> None:
    """Every reviewer finds what is there, two wait for the index, nothing is left."""
    project, report = reviewed
    assert [agent["status"] for agent in report["agents"]] == ["completed"] * 9
    found = {(item["agent"], item["rule"]) for item in report["findings"]}
    assert {
        ("INDEXER", "syntax-error"),
        ("SAFETY", "eval"),
        ("STYLE", "mutable-argument-default"),
        ("IMPORTS", "unused-import"),
        ("IMPORTS", "import-cycle"),
    } <= found
    assert {agent for agent, _ in found} >= {"STYLE", "DEAD_CODE"}

    rows = [f"{row['signal']} {row['action']}" for row in report["timeline"]]
    assert sum(row.startswith("BLOCKED(index) ") for row in rows) == 2
    resolved = next(n for n, row in enumerate(rows) if "INDEXER completes index" in row)
    continued = [n for n, row in enumerate(rows) if "continues: index is there" in row]
    assert len(continued) == 2
    assert min(continued) > resolved
    assert sum(": issues_found" in row for row in rows if row.startswith("CHECKPOINT")) == 6

    text = (project / "report.md").read_text()
    assert "| At | Signal | Stream | Action |" in text
    assert "fabric replay demo-" in text
    assert Project(project).log.exists()
    assert not Project(project).socket().exists()


def test_the_report_is_the_synthesis_which_began_while_all_were_at_work(
    reviewed: tuple[Path, dict[str, Any]],
) -> None:
    project, report = reviewed
    course = report["course"]
    assert course["is_final"]
    first, finding = course["points"]
    assert (first["revision"], first["ended"]) == (1, 0)
    assert finding["findings"] > 0
    assert finding["ended"] < 9
    assert len(course["chart"].strip()) > 1
    assert all(item["at_ms"] >= 0 for item in report["findings"])

    text = (project / "report.md").read_text()
    assert "## How it came together" in text
    assert "| the first revision | " in text
    assert course["chart"] in text


def test_reviewers_contradict_each_other_at_work_and_yield_to_who_found_worse(
    reviewed: tuple[Path, dict[str, Any]],
) -> None:
    _, report = reviewed
    severities = {
        vote["agent"]: (vote["severity"], vote["is_held"]) for vote in report["course"]["votes"]
    }
    assert severities["INDEXER"] == ("high", True)
    assert severities["SAFETY"] == ("medium", False)
    assert all(is_held is (severity == "high") for severity, is_held in severities.values())
    assert not all(is_held for _, is_held in severities.values())
    rows = [f"{row['signal']} {row['action']}" for row in report["timeline"]]
    told = [row.startswith("CONFLICT") and "where-to-begin" in row for row in rows]
    ends = [rows.index(f"COMPLETED {agent} is done") for agent in severities]
    assert told.index(True) < min(ends)


@pytest.mark.slow
def test_a_terminal_free_run_prints_a_line_for_each_signal(project: Path) -> None:
    """Piped: lines on stderr while it runs, the Markdown report alone on stdout."""
    done = _demo(project, "code")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Code review of `code`")
    lines = done.stderr.splitlines()
    assert sum("STARTED" in line for line in lines) == 9
    assert sum("COMPLETED" in line for line in lines) == 9


def test_a_folder_without_python_files_is_a_usage_error(project: Path) -> None:
    (project / "empty").mkdir()
    done = _demo(project, "empty")
    assert done.returncode == 2
    assert "no Python files" in done.stderr


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in files}


def _places(report: dict[str, Any], *rows: tuple[str, str]) -> list[int]:
    """Return where in the timeline these rows (signal, what its action holds) come first."""
    timeline = report["timeline"]
    return [
        next(
            number
            for number, row in enumerate(timeline)
            if row["signal"] == signal and words in row["action"]
        )
        for signal, words in rows
    ]


@pytest.mark.slow
def test_two_fixers_of_one_file_overwrite_nothing(project: Path) -> None:
    """Priority decides who goes first, a barrier stops all, and each file holds both edits."""
    before = _checksums(project / "code")
    fixed = project / "fixed"
    done = _demo(project, "code", "--json", "--fixed", str(fixed))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert _checksums(project / "code") == before

    changes = report["changes"]
    assert changes["remarks"] == []
    paths = [change["path"] for change in changes["files"]]
    assert sorted(paths) == ["shop/__init__.py", "shop/basket.py", "shop/price.py"]
    for change in changes["files"]:
        assert sorted(change["edits"]) == ["FIXER", "FORMATTER"]
        assert (fixed / change["path"]).is_file()

    assert "def pay(items=[]):\n    # TODO" in (fixed / "shop/basket.py").read_text()
    assert "import os" not in (fixed / "shop/basket.py").read_text()

    assert changes["files"][0]["edits"] == ["FIXER", "FORMATTER"]
    wanted = f"fixed/{paths[0]}"
    places = _places(
        report,
        ("CONFLICT_DETECTED", f"INTEGRATOR, FORMATTER want {wanted}"),
        ("(serialize)", "INTEGRATOR gets fixed/**"),
        ("(wait)", f"FORMATTER waits for {wanted}"),
        ("(wait)", f"FIXER waits for {wanted}"),
        ("(resume)", f"FIXER continues with {wanted}"),
        ("(serialize)", f"FIXER gets {wanted}"),
        ("(resume)", f"FORMATTER continues with {wanted}"),
        ("(proceed)", f"FORMATTER gets {wanted}"),
        ("INTEGRATION_REQUIRED", "INTEGRATOR calls for integration: fixes"),
        ("(barrier)", "FORMATTER"),
        ("(integrate)", "INTEGRATOR integrates fixes"),
        ("INTEGRATED", "INTEGRATOR has integrated fixes"),
        ("(resume)", "the integration fixes is over"),
    )
    assert places == sorted(places)


@pytest.mark.slow
def test_a_single_file_is_enough(project: Path) -> None:
    """Both fixers are done with it before the barrier, and stay for it all the same."""
    done = _demo(project, "code/shop/price.py", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (change,) = report["changes"]["files"]
    assert change["edits"] == ["FIXER", "FORMATTER"]
    assert report["changes"]["remarks"] == []
    stopped = next(row for row in report["timeline"] if row["signal"] == "(barrier)")
    assert "FIXER" in stopped["action"]
    assert "FORMATTER" in stopped["action"]


@pytest.mark.slow
def test_a_tree_that_nobody_can_edit_is_reviewed_all_the_same(project: Path) -> None:
    done = _demo(project, "code/shop/broken.py", "--json")
    assert done.returncode == 0, done.stderr
    changes = json.loads(done.stdout)["changes"]
    assert changes["files"] == []
    assert changes["remarks"] == ["INTEGRATOR: There is no file that can be edited safely."]


def test_fixed_files_do_not_mix_with_others(project: Path) -> None:
    done = _demo(project, "code", "--fixed", "code")
    assert done.returncode == 2
    assert "not empty" in done.stderr


@pytest.mark.slow
def test_hostile_files_end_nobody(project: Path) -> None:
    """Each is a finding or named as not reviewed, and the rest is reviewed all the same."""
    code = project / "code"
    (code / "aborts.py").write_text(ABORTS_RUFF)
    (code / "deep.py").write_text(TOO_DEEP)
    (code / "json.py").write_text("raise SystemExit('imported')\n")
    (code / "odd\x1b[31m\n.py").write_text("import os\n")
    (code / "latin.py").write_bytes(b"# coding: latin-1\nx = '\xe4'\n")
    (code / "large.py").write_text("#" * 1_000_001)
    os.mkfifo(code / "pipe.py")
    (code / "loop.py").symlink_to("loop.py")
    done = _demo(project, "code", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [agent["status"] for agent in report["agents"]] == ["completed"] * 9
    found = {(item["agent"], item["path"]) for item in report["findings"]}
    rules = {(item["path"], item["rule"]) for item in report["findings"]}
    assert {("aborts.py", "not-reviewed"), ("deep.py", "too-deep")} <= rules
    assert ("IMPORTS", "odd\\x1b[31m\\x0a.py") in found
    assert ("SAFETY", "shop/price.py") in found
    assert report["course"]["disputes"] == []
    assert {one["path"] for one in report["skipped"]} == {"large.py", "loop.py", "pipe.py"}
    assert all(line.isprintable() for line in done.stderr.splitlines())
