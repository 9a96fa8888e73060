"""The directions of imports and the house style hold, and the checks that say so can fail."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tidy

ROOT = Path(__file__).resolve().parent.parent

Write = Callable[[str, str], None]


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Runs the contracts of root's pyproject.toml on root's packages."""
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def linter_contracts() -> list[dict[str, Any]]:
    """The contracts of pyproject.toml."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    found: list[dict[str, Any]] = linter["contracts"]
    return found


def contracts() -> dict[str, str]:
    """The contracts of pyproject.toml: id → name, as the linter prints it."""
    return {contract["id"]: contract["name"] for contract in linter_contracts()}


def test_imports_keep_their_directions() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_code_is_tidy() -> None:
    found = tidy.problems(ROOT)
    assert not found, "\n".join(found)


def test_the_ratchet_reads_every_source() -> None:
    found = {path.relative_to(ROOT).as_posix() for path in tidy.sources(ROOT)}
    assert {"fabric/errors.py", "tests/tidy.py"} <= found


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write_file


@pytest.fixture
def skeleton(tmp_path: Path, write: Write) -> Path:
    """A project with our layers and contracts, and imports that keep to them."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    layers = ("core", "wire", "config", "store", "view", "devserver", "doctor", "client", "ops")
    for layer in (*layers, "watch", "agents", "demo", "cli", "testing"):
        write(f"fabric/{layer}/__init__.py", "")
    for module in ("__init__", "backoff", "errors"):
        write(f"fabric/{module}.py", "")
    for contract in linter_contracts():
        for container in contract.get("containers", []):
            for layer in contract["layers"]:
                for module in layer.split(" | "):
                    write(f"{container.replace('.', '/')}/{module}.py", "")
    write("workers/__init__.py", "import fabric.store\n")
    write("fabric/core/__init__.py", "import dataclasses\n\nimport msgspec\n")
    write("fabric/core/synthesis/__init__.py", "import fabric.core\n")
    write("fabric/store/__init__.py", "import redis\n\nimport fabric.wire\n")
    write("fabric/cli/__init__.py", "import click\n\nimport fabric.demo\nimport workers\n")
    return tmp_path


def test_the_contracts_hold_for_the_skeleton(skeleton: Path) -> None:
    result = lint_imports(skeleton)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("name", "text", "broken"),
    [
        ("fabric/core/clock.py", "import time\n", "core"),
        ("fabric/core/fails.py", "from fabric.errors import FabricError\n", "layers"),
        ("fabric/core/loop.py", "import asyncio\n", "core"),
        ("fabric/wire/up.py", "import fabric.store\n", "layers"),
        ("fabric/config/rulebook.py", "import fabric.store\n", "layers"),
        ("fabric/client/raw.py", "import redis.asyncio\n", "driver"),
        ("fabric/client/up.py", "import fabric.cli\n", "layers"),
        ("fabric/client/work.py", "import workers\n", "workers"),
        ("fabric/store/command.py", "import click\n", "click"),
        ("fabric/added_later.py", "from redis import Redis\n", "driver"),
        ("fabric/client/up.py", "import fabric.ops\n", "layers"),
        ("fabric/cli/tried.py", "import fabric.testing\n", "testing"),
    ],
)
def test_a_broken_direction_is_found(
    skeleton: Path, write: Write, name: str, text: str, broken: str
) -> None:
    write(name, text)
    result = lint_imports(skeleton)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{contracts()[broken]} BROKEN" in result.stdout


@pytest.mark.parametrize(
    ("one", "other"), [("fabric/core/a", "fabric/core/b"), ("fabric/view/a", "fabric/devserver/b")]
)
def test_a_cycle_is_found(skeleton: Path, write: Write, one: str, other: str) -> None:
    write(f"{one}.py", f"import {other.replace('/', '.')}\n")
    write(f"{other}.py", f"import {one.replace('/', '.')}\n")
    result = lint_imports(skeleton)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{contracts()['acyclic']} BROKEN" in result.stdout


LONG_FUNCTION = "def long():\n" + "    pass\n" * tidy.FUNCTION_LINES_LIMIT


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("fabric/long.py", "#\n" * tidy.FILE_LINES_LIMIT, "500 lines"),
        ("fabric/store/lua/long.lua", "--\n" * tidy.FILE_LINES_LIMIT, "500 lines"),
        ("workers/long.py", LONG_FUNCTION, "long has 71 lines"),
        ("workers/long.py", f"async {LONG_FUNCTION}", "long has 71 lines"),
        ("tests/utils.py", "", '"utils" says nothing'),
        ("fabric/common/lock.py", "", '"common" says nothing'),
        ("tests/a.py", "x = 1  # noqa: S101\n", "without a reason"),
        ("tests/a.py", "x = 1  # noqa\n", "name the code"),
        ("tests/a.py", "x = 1  # type: ignore[misc]\n", "without a reason"),
        ("tests/a.py", "x = 1  # type: ignore[misc]  # noqa: S101 - has a reason\n", "without"),
        ("fabric/core/a.py", "def f():\n    from os import path\n", "core imports os.path"),
        ("fabric/core/a.py", "import random\n", "core imports random"),
        ("fabric/core/a.py", "import pydantic\n", "core imports pydantic"),
        ("fabric/core/a.py", "from fabric import errors\n", "core imports fabric.errors"),
        ("fabric/core/a.py", "x = open('f')\n", "core calls open()"),
        ("fabric/core/a.py", "x = hash('order')\n", "core calls hash()"),
        ("fabric/core/a.py", "x = datetime.now(UTC)\n", "core calls .now()"),
    ],
)
def test_a_breach_of_style_is_found(
    tmp_path: Path, write: Write, name: str, text: str, complaint: str
) -> None:
    write(name, text)
    found = tidy.problems(tmp_path)
    assert len(found) == 1, found
    assert found[0].startswith(f"{name}:")
    assert complaint in found[0]


def test_what_keeps_to_the_style_passes(tmp_path: Path, write: Write) -> None:
    write("fabric/core/a.py", "from fabric.core import signal\nimport math, msgspec\n")
    write("fabric/a.py", "import os  # noqa: F401 - the public name of something\n")
    write("tests/a.py", "x = 1  # type: ignore[misc]  # the driver's annotation is wrong\n")
    write("tests/b.py", "x = '# noqa'\n" + "#\n" * (tidy.FILE_LINES_LIMIT - 2))
    assert tidy.problems(tmp_path) == []


def test_a_longer_file_is_written_down_and_only_shrinks(tmp_path: Path, write: Write) -> None:
    allowed = {"fabric/a.py": tidy.Longer(510, "one table, and a table is read in one piece")}
    write("fabric/a.py", "#\n" * 510)
    assert tidy.problems(tmp_path, allowed) == []
    write("fabric/a.py", "#\n" * 511)
    assert "511 lines, 510 allowed" in tidy.problems(tmp_path, allowed)[0]
    write("fabric/a.py", "#\n")
    assert "take its entry out" in tidy.problems(tmp_path, allowed)[0]
    (tmp_path / "fabric/a.py").unlink()
    assert "not there" in tidy.problems(tmp_path, allowed)[0]


def test_a_core_that_grows_is_found(tmp_path: Path, write: Write) -> None:
    write("fabric/core/__init__.py", "")
    write("fabric/core/a.py", "from fabric.core import b\nfrom fabric.core.b import x, y\n")
    write("fabric/core/b.py", "from fabric.core import __name__ as core\n")
    assert [*tidy.core_size(tmp_path, 3, 2)] == []
    assert "3 modules, 2 allowed" in next(tidy.core_size(tmp_path, 2, 2))
    assert "2 imports among its modules, 1 allowed" in next(tidy.core_size(tmp_path, 3, 1))


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").iterdir()), ids=lambda path: path.name)
def test_a_script_says_what_it_does_and_stops_at_errors(script: Path) -> None:
    lines = script.read_text().splitlines()
    assert os.access(script, os.X_OK)
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1].startswith("# ")
    assert "set -euo pipefail" in lines
