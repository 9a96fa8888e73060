"""Fixtures that the whole suite shares: real servers, started once for each process of pytest."""

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import settings

from fabric.store import scripts
from fabric.store.cluster import slot
from fabric.store.connection import Caller
from tests.support.effort import scaled
from tests.support.fixtures import start_or_fail
from tests.support.servers import (
    FLAVOUR_DEFAULT,
    RunningServer,
    flavours,
    short_directory,
)

# The same examples each time, so that a failure comes from the change at hand;
# tests/support/effort.py tries new ones on request.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, max_examples=min(100, scaled(100))
)
settings.load_profile("repeatable")

# A shell's background job ignores Ctrl-C, and nohup a hangup; so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

#: Files with tests of a minute or more.
LONG = ("test_pythons.py", "test_growth.py", "test_up.py", "test_slow_link.py", "tests/clients/")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record",
        action="store_true",
        help="write down what the scenarios now answer, instead of comparing with it",
    )
    parser.addoption(
        "--suite",
        choices=("default", "rest", "all"),
        default="default",
        help="the default suite leaves to the rest what is slow, and all servers but one; "
        "the store's own tests run on every one",
    )


@pytest.fixture(scope="session", autouse=True)
def _state_home() -> Iterator[None]:
    """No test sees the state of the projects of the person who runs it, nor leaves any there."""
    folder = short_directory()
    with pytest.MonkeyPatch.context() as patching:
        patching.setitem(os.environ, "XDG_STATE_HOME", str(folder))
        yield
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def recording(pytestconfig: pytest.Config) -> bool:
    """True when scenarios are to be written again: `scripts/test tests/core --record`."""
    return bool(pytestconfig.getoption("--record"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`-m "not server"` leaves what needs no server; `--suite` says what to run."""
    for item in items:
        if {"server", "started_server", "start"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)
    wanted = config.getoption("--suite")
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        is_wanted = wanted == "all" or _is_extra(item) == (wanted == "rest")
        is_needless = item.get_closest_marker("one_server") and _is_on_another(item)
        (kept if is_wanted and not is_needless else left).append(item)
    config.hook.pytest_deselected(items=left)
    # Those of minutes each come first: begun last, they would run alone at the end.
    items[:] = sorted(kept, key=lambda item: not any(name in item.nodeid for name in LONG))


def pytest_collection_finish() -> None:
    """Let no garbage collection look again at all that the collection of the tests has made."""
    gc.collect()
    gc.freeze()


def _is_extra(item: pytest.Item) -> bool:
    """Whether a test is slow, or runs on another server than the default one."""
    return item.get_closest_marker("slow") is not None or _is_on_another(item)


def _is_on_another(item: pytest.Item) -> bool:
    """Whether a test runs on another server than the default one."""
    values = getattr(getattr(item, "callspec", None), "params", {}).values()
    named = [value for value in values if value in flavours()]
    return bool(named) and named[0] != FLAVOUR_DEFAULT


@pytest.fixture(scope="session", autouse=True)
def _one_slot_a_script() -> Iterator[None]:
    """No test calls a script whose keys lie in two slots: one server would take it, no cluster."""
    run = scripts.run

    async def checked(
        channel: Caller, verb: str, keys: Sequence[str], arguments: Sequence[Any]
    ) -> Any:
        slots = {slot(key) for key in keys}
        assert len(slots) == 1, f"script {verb} is given keys of {len(slots)} slots: {keys}"
        return await run(channel, verb, keys, arguments)

    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(scripts, "run", checked)
        yield


@pytest.fixture(scope="session", params=flavours())
def started_server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """One server per flavour and process of pytest, whatever earlier tests left in it."""
    running = start_or_fail(request.param)
    yield running
    running.remove()


@pytest.fixture
def server(started_server: RunningServer) -> RunningServer:
    """An empty server, once per flavour; a test may stop or kill it: the next finds it started."""
    if not started_server.alive:
        started_server.start()
    started_server.flush()
    return started_server


@pytest.fixture
def server_url(server: RunningServer) -> str:
    return server.url


@pytest.fixture
def start() -> Iterator[Callable[..., RunningServer]]:
    """Starts a server for this test alone: `start("redis-7.0", "--appendonly", "yes")`."""
    running: list[RunningServer] = []

    def start_one(flavour: str, *options: str) -> RunningServer:
        running.append(start_or_fail(flavour, *options))
        return running[-1]

    yield start_one
    for one in running:
        one.remove()
