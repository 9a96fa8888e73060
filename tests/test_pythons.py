"""The newer versions of Python that we claim to support: part of the suite runs on each of them.

An interpreter is looked for in `PYTHON312` (`PYTHON313`, …), on PATH, and among pyenv's versions.
Its environment stays in build/, and is made again when pyproject.toml changes.
"""

import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.servers import ROOT

VERSIONS = ("3.12", "3.13")

#: What runs on each: the core, the wire format, agents with and without a server, a whole session.
SUBSET = (
    "tests/core",
    "tests/wire",
    "tests/testing",
    "tests/client/test_agent.py",
    "tests/client/test_public.py",
    "tests/end_to_end/test_example_session.py",
)
#: Of the examples of each property: another Python breaks in many, or in none.
EFFORT = "0.1"
#: Time to install everything, s: an index may be slow.
INSTALL_SECONDS_MAX = 1_800
#: Time for the tests, s.
TESTS_SECONDS_MAX = 1_200


def interpreter(version: str) -> Path | None:
    """Return an interpreter of a version; None when there is none that runs."""
    named = os.environ.get(f"PYTHON{version.replace('.', '')}")
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [named, shutil.which(f"python{version}")]
    found += sorted(map(str, root.glob(f"versions/{version}.*/bin/python")), reverse=True)
    return next((Path(one) for one in found if one and _runs(one, version)), None)


def _runs(program: str, version: str) -> bool:
    """Whether a program is this Python: pyenv's shims are on PATH for versions that are not set."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.returncode == 0 and f" {version}." in done.stdout


def environment(version: str, program: Path) -> Path:
    """Return the Python of an environment with the package and its test extra, made if need be."""
    folder = ROOT / "build" / f"python-{version}"
    mark = folder / "made-for"
    wanted = sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    python = folder / "bin" / "python"
    if mark.is_file() and mark.read_text() == wanted:
        return python
    subprocess.run([program, "-m", "venv", "--clear", folder], check=True)
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[test]"],
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS_MAX,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"the package cannot be installed here: {done.stderr.strip()[-300:]}")
    mark.write_text(wanted)
    return python


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_it_works_on(version: str) -> None:
    program = interpreter(version)
    if program is None:
        pytest.skip(f"no Python {version} on this machine (PYTHON{version.replace('.', '')}=…)")
    python = environment(version, program)
    hidden = ("PYTEST_", "PYTHON", "VIRTUAL_ENV")
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *SUBSET],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(hidden)},
            "FABRIC_TEST_EFFORT": EFFORT,
        },
        capture_output=True,
        text=True,
        timeout=TESTS_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]


def test_an_interpreter_that_does_not_run_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "python9.9"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert interpreter("9.9") is None
    shim.write_text("#!/bin/sh\necho Python 9.9.1\n")
    assert interpreter("9.9") == shim
    shim.rename(tmp_path / "other")
    monkeypatch.setenv("PYTHON99", str(tmp_path / "other"))
    assert interpreter("9.9") == tmp_path / "other"
