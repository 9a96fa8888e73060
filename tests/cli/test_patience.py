"""The server is away for a while: what sends waits for it, what only looks says so at once."""

from collections.abc import Callable

import pytest

from tests.cli.git_repository import NOWHERE
from tests.support.fixtures import proxy
from tests.support.proxy import Proxy
from tests.support.servers import RunningServer
from tests.support.shell import Shell, end
from tests.support.waiting import until

__all__ = ["proxy"]

MakeProxy = Callable[[RunningServer], Proxy]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("emit", "COMPLETED"), 0),
        (("inbox",), 0),
        (("decide", "7-0", "v1"), 3),
        (("wait", "x"), 143),
        (("wait", "--all"), 143),
    ],
)
def test_a_command_of_an_agent_waits_until_the_server_is_back(
    quiet: Shell, server: RunningServer, proxy: MakeProxy, words: tuple[str, ...], code: int
) -> None:
    between = proxy(server)
    between.refuse()
    process = quiet.start(*words, FABRIC_REDIS_URL=between.url)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert said.startswith("fabric: server: ")
    assert "trying again for up to" in said
    between.accept()
    if code == 143:
        is_sent = "blocked_clients:1"
        until(lambda: is_sent in server.cli("INFO", "clients").split(), "it waits")
        process.terminate()
    done = end(process)
    assert done.code == code, done
    assert "trying again" not in done.err


@pytest.mark.parametrize(
    "words",
    [("emit", "HEARTBEAT"), ("wait", "x"), ("wait", "--all"), ("inbox",), ("decide", "1-0", "a")],
)
def test_its_patience_is_a_setting(quiet: Shell, words: tuple[str, ...]) -> None:
    done = quiet.run(*words, FABRIC_EMIT_LIMIT_MS="0", **NOWHERE)
    assert done.code == 6
    assert "trying again" not in done.err


def test_a_wait_is_no_more_patient_than_its_timeout(quiet: Shell) -> None:
    assert quiet.run("wait", "x", "--timeout", "0.1", **NOWHERE).code == 6


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("tail",),
        ("why", "A"),
        ("doctor",),
        ("synthesis",),
        ("escalations",),
        ("watch", "--once"),
        ("guard", "a.py"),
        ("keys",),
        ("dead",),
        ("replay",),
    ],
)
def test_a_command_that_only_looks_fails_at_once(quiet: Shell, words: tuple[str, ...]) -> None:
    done = quiet.run(*words, **NOWHERE)
    assert done.code == 6, done
    assert "trying again" not in done.err


def test_what_no_patience_helps_against_fails_at_once(quiet: Shell, server: RunningServer) -> None:
    server.cli("ACL", "SETUSER", "guest", "reset", "on", ">x", "~*", "+@all", "-hmget")
    for login, expected in (("ghost:x@", 4), ("guest:y@", 4), ("guest:x@", 4)):
        url = server.url.replace("unix://", f"unix://{login}")
        done = quiet.run("emit", "HEARTBEAT", FABRIC_REDIS_URL=url)
        assert done.code == expected, done
        assert "trying again" not in done.err
    done = quiet.run("emit", "HEARTBEAT", FABRIC_REDIS_URL="http://nowhere")
    assert done.code == 2
    assert "trying again" not in done.err
