"""A server and an orchestrator for each module; a session of its own for each test."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fixtures import start_or_fail
from tests.support.servers import FLAVOUR_DEFAULT, RunningServer
from tests.support.shell import Shell, end
from tests.support.waiting import until

#: What the command line does not depend on the flavour; one test runs on each of them.
FLAVOUR = FLAVOUR_DEFAULT

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    running = start_or_fail(FLAVOUR)
    yield running
    running.remove()


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Shell]:
    """A shell with no server named."""
    shell = Shell(tmp_path)
    yield shell
    shell.close()


@pytest.fixture
def quiet(lone: Shell, server: RunningServer) -> Shell:
    """A shell on a namespace that no orchestrator serves."""
    lone.variables |= {
        "FABRIC_REDIS_URL": server.url,
        "FABRIC_NAMESPACE": f"quiet{next(_numbers)}",
        "FABRIC_SESSION": "s",
        "FABRIC_AGENT": "A",
    }
    return lone


@pytest.fixture(scope="module")
def orchestrator(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Serves the default namespace; ends well when it is told to."""
    shell = Shell(tmp_path_factory.mktemp("orchestrator"), {"FABRIC_REDIS_URL": server.url})
    process = shell.start("orchestrator", "--name", "the-one")
    try:
        until(lambda: server.cli("HGET", "fabric:{0}:lease", "owner") == "the-one")
        yield
        process.terminate()
        assert end(process).code == 0
    finally:
        shell.close()


@pytest.fixture
def shell(lone: Shell, server: RunningServer, orchestrator: None) -> Shell:
    """A shell of agent A in stream A, in a session of its own."""
    lone.variables |= {
        "FABRIC_REDIS_URL": server.url,
        "FABRIC_SESSION": f"s{next(_numbers)}",
        "FABRIC_AGENT": "A",
        "FABRIC_STREAM": "A",
    }
    return lone


@pytest.fixture
def session(shell: Shell) -> str:
    """The name of the shell's session."""
    return shell.variables["FABRIC_SESSION"]
