"""`fabric guard PATH`: its output and its exit code."""

import msgspec
import pytest

from fabric.core.record import AgentRecord, AgentStatus
from tests.cli.git_repository import NOWHERE, SINCE_MS, Hold, holding
from tests.support.keyspace import session
from tests.support.servers import RunningServer
from tests.support.shell import Shell

pytestmark = pytest.mark.server


@pytest.fixture
def hold(quiet: Shell, server: RunningServer) -> Hold:
    return holding(server, quiet.variables["FABRIC_NAMESPACE"])


def test_the_current_token_and_no_other(quiet: Shell, hold: Hold) -> None:
    hold("A", 7, "src/**")
    quiet.good("guard", "src/a.py", "--token", "7")
    quiet.good("guard", "src/a.py")
    for token in ("6", "8"):
        done = quiet.run("guard", "src/a.py", "--token", token)
        assert (done.code, done.out) == (5, "")
        assert f"your token {token} has ended" in done.err


def test_a_path_that_another_agent_holds(quiet: Shell, hold: Hold) -> None:
    hold("B", 7, "src/**")
    done = quiet.run("guard", "src/a.py", "README.md", "src/b.py")
    assert done.code == 5
    words = "held by B (claimed as src/**, token 7, since 2025-01-02T03:04:05Z)"
    assert done.err.splitlines() == [
        f"fabric: src/{name} is {words}: ask with INTENT, and write after PROCEED"
        for name in ("a.py", "b.py")
    ]
    assert quiet.run("guard", "src/a.py", FABRIC_AGENT="").code == 5
    quiet.good("guard", "src/a.py", "--agent", "B")


def test_a_token_for_a_path_that_nobody_holds(quiet: Shell) -> None:
    done = quiet.run("guard", "a.py", "--token", "7")
    assert done.code == 5
    assert "nobody holds it now; your token 7 has ended: ask again with INTENT" in done.err


def test_json(quiet: Shell, hold: Hold) -> None:
    hold("B", 7, "src/**")
    done = quiet.run("guard", "src/a.py", "README.md", "--json")
    assert done.code == 5
    refused, allowed = done.json_lines
    since = {"since_ms": SINCE_MS}
    assert refused.pop("refusal") in done.err
    assert refused == {
        "path": "src/a.py",
        "allowed": False,
        "held": [{"resource": "src/**", "agent": "B", "token": 7, **since}],
    }
    assert allowed == {"path": "README.md", "allowed": True, "held": [], "refusal": ""}


def test_a_check_that_cannot_run_refuses(quiet: Shell) -> None:
    assert quiet.run("guard", "a.py", "--token", "7", **NOWHERE).code == 6
    assert quiet.run("guard", "a.py", **NOWHERE).code == 6
    done = quiet.run("guard", "a.py", FABRIC_SESSION="")
    assert (done.code, "no session" in done.err) == (2, True)
    done = quiet.run("guard", "a.py")
    assert (done.code, "no session s: nothing was logged" in done.err) == (3, True)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("a.py", "--staged"),
        ("--staged", "--install"),
        ("--staged", "--token", "7"),
        ("a.py", "--token", "0"),
    ],
)
def test_options_that_do_not_go_together(lone: Shell, words: tuple[str, ...]) -> None:
    assert lone.run("guard", *words).code == 2


def test_an_unread_order_to_stop_refuses_every_write(quiet: Shell, server: RunningServer) -> None:
    keys = session("s", quiet.variables["FABRIC_NAMESPACE"])
    record = AgentRecord(AgentStatus.ACTIVE, 1, cancelled=True)
    server.cli("HSET", keys.agents, "A", msgspec.json.encode(record))
    payload = '{"reason":"B, of group g, has failed","code":"FAIL_FAST"}'
    fields = ("type", "CANCEL", "from", "ORCHESTRATOR", "cause", "5-0", "payload", payload)
    server.cli("XADD", keys.inbox("A"), "5-1", *fields)
    server.cli("XADD", keys.log, "5-0", "kind", "signal")
    done = quiet.run("guard", "a.py")
    assert done.code == 5
    said = "unread message 5-1 tells you to stop (CANCEL): B, of group g, has failed"
    assert said in done.err
    assert "A was told to stop, and has not read that: fabric inbox" in done.err
    quiet.good("guard", "a.py", "--agent", "B")
    quiet.good("inbox")
    quiet.good("guard", "a.py")


def test_an_unread_pause_is_told(quiet: Shell, server: RunningServer) -> None:
    keys = session("s", quiet.variables["FABRIC_NAMESPACE"])
    server.cli("HSET", keys.agents, "A", msgspec.json.encode(AgentRecord(AgentStatus.ACTIVE, 1)))
    payload = '{"reason":"integration","barrier":"I3","generation":1}'
    fields = ("type", "PAUSE", "from", "ORCHESTRATOR", "cause", "5-0", "payload", payload)
    server.cli("XADD", keys.broadcast, "5-1", *fields)
    server.cli("XADD", keys.log, "5-0", "kind", "signal")
    done = quiet.run("guard", "a.py")
    assert done.code == 0
    assert "unread message 5-1 tells you to pause (PAUSE): integration" in done.err
