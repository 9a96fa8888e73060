"""A project for each test; a test that is marked `server` runs on every flavour."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fabric import devserver
from fabric.devserver import launch, lock
from fabric.devserver import server as life
from fabric.devserver.project import Project
from tests.support.project_member import MEMBER, Member
from tests.support.servers import (
    FLAVOUR_DEFAULT,
    ServerMissingError,
    binary,
    flavours,
    short_directory,
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the flavours: what starts no server runs with the default one on PATH."""
    is_served = metafunc.definition.get_closest_marker("server") is not None
    metafunc.parametrize("flavour", flavours() if is_served else [FLAVOUR_DEFAULT], indirect=True)


@pytest.fixture(autouse=True)
def flavour(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Puts one flavour of server first on PATH, and hides the packages that carry another."""
    try:
        program = binary(request.param)
    except ServerMissingError as error:
        pytest.fail(str(error), pytrace=False)
    folder = short_directory()
    (folder / "redis-server").write_text(f'#!/bin/sh\nexec "{program}" "$@"\n')
    (folder / "redis-server").chmod(0o700)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    for package in launch.PACKAGES:  # empty ones come first, in the processes that we start
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(launch, "PACKAGES", {})
    yield request.param
    shutil.rmtree(folder)


@pytest.fixture
def root(flavour: str) -> Iterator[Path]:
    """A project with a difficult name; no server is left in it."""
    folder = short_directory()
    project = folder / "a ?#% é"
    project.mkdir()
    (project / "fabric.toml").touch()
    yield project
    for found in folder.iterdir():
        devserver.stop(found)
        assert not lock.is_held(Project(found).server_lock)
    shutil.rmtree(folder)


@pytest.fixture
def member(root: Path) -> Iterator[Callable[..., Member]]:
    members: list[Member] = []

    def start(*arguments: str, program: str = MEMBER) -> Member:
        members.append(Member(root, *arguments, program=program))
        return members[-1]

    yield start
    for one in members:
        one.kill()


@pytest.fixture
def innocent() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is not one of ours."""
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        yield process
        assert process.poll() is None, "it was signalled"
        process.kill()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short time limits, for tests of failures."""
    monkeypatch.setattr(life, "START_SECONDS_MAX", 0.5)
    monkeypatch.setattr(life, "SHUTDOWN_SECONDS_MAX", 0.5)
    monkeypatch.setattr(devserver, "LEAVE_SECONDS_MAX", 0.5)
    monkeypatch.setattr(life, "REPLY_SECONDS_MAX", 0.2)
