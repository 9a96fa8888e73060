"""`fabric down` stops the project's private server and its users, and nothing else."""

from collections.abc import Iterator

import pytest

from fabric import devserver
from tests.cli.up_process import project, up
from tests.support.project_member import is_gone
from tests.support.servers import RunningServer
from tests.support.shell import Shell, end
from tests.support.waiting import until

pytestmark = pytest.mark.server


@pytest.fixture
def here(lone: Shell) -> Iterator[Shell]:
    with project(lone) as found:
        yield found


def test_nothing_to_stop(here: Shell) -> None:
    done = here.run("down")
    assert (done.code, done.out) == (3, "")
    assert done.err == f"fabric: no private server runs for {here.home}\n"
    done = here.run("down", "--json")
    assert done.code == 3
    assert done.json == {"server": None, "left": [], "remaining": []}


def test_it_stops_up_with_all_that_it_runs(here: Shell) -> None:
    with up(here) as running:
        running.handle()
        done = here.good("down", "--json")
        assert done.json["server"]["pid"] == running.server_pid
        assert done.json["left"] == [running.process.pid]
        assert done.json["remaining"] == []
        assert end(running.process).code == 0
        assert all(map(is_gone, [*running.pids, running.server_pid]))
    assert here.run("down").code == 3


@pytest.mark.slow
def test_it_stops_a_server_that_was_left_behind(here: Shell) -> None:
    with up(here) as running:
        running.kill()
        until(lambda: all(map(is_gone, running.workers.values())), "the workers notice")
        done = here.good("down")
        assert done.lines == [
            f"stopped {running.told['server']} of {here.home} (pid {running.server_pid})"
        ]
        assert is_gone(running.server_pid)


@pytest.mark.slow
def test_a_server_named_by_url_is_not_stopped(here: Shell, server: RunningServer) -> None:
    done = here.run("down", FABRIC_REDIS_URL=server.url)
    assert (done.code, done.out) == (3, "")
    assert "no private server to stop" in done.err
    assert "unset it" not in done.err
    with up(here) as running:
        done = here.run("down", FABRIC_REDIS_URL=server.url)
        assert done.code == 3
        assert "unset it" in done.err
        assert devserver.find(here.home) is not None
        # Named, but it is the private one.
        assert here.good("down", FABRIC_REDIS_URL=running.told["url"]).code == 0
        assert end(running.process).code == 0
    assert server.alive
