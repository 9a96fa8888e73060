"""`fabric wait`: for a dependency, an agent, all agents; and its message after a timeout."""

import signal
from typing import Any

import pytest

from tests.support.servers import RunningServer
from tests.support.shell import Shell, end, is_following
from tests.support.waiting import until

#: Many processes; what they show is tested in the library too.
pytestmark = pytest.mark.slow

#: Seconds for a wait that is to end without an answer: long enough for the orchestrator to hear of
#: it, which takes some milliseconds.
SOON = "1"


@pytest.fixture
def producer(shell: Shell) -> Shell:
    """A shell whose agent A has declared to produce x, and has come to 40 %."""
    shell.good("emit", "STARTED", 'produces=["x"]')
    shell.good("emit", "PROGRESS(40%)")
    until(lambda: agents(shell).get("A", {}).get("percent") == 40)
    return shell


def agents(shell: Shell) -> dict[str, Any]:
    return shell.records("agents")


def waiters(shell: Shell, name: str = "x") -> list[str]:
    return list(shell.records("dependencies").get(name, {}).get("waiters", {}))


def test_a_dependency_that_is_resolved_later(producer: Shell) -> None:
    process = producer.start("wait", "x", FABRIC_AGENT="B", FABRIC_STREAM="B")
    until(lambda: waiters(producer) == ["B"])
    producer.good("emit", "DEPENDENCY_RESOLVED(x)", "--location", "here/it is")
    assert end(process) == (0, "here/it is\n", "")


def test_a_dependency_that_is_resolved_already(producer: Shell) -> None:
    producer.good("emit", "DEPENDENCY_RESOLVED(x)", "--location", "here")
    assert producer.good("wait", "x", FABRIC_AGENT="B").out == "here\n"
    assert producer.good("wait", "x", "--json", FABRIC_AGENT="B").json == {
        "dependency": "x",
        "by": "A",
        "location": "here",
    }


def test_a_dependency_without_a_location(producer: Shell) -> None:
    producer.good("emit", "COMPLETED")
    assert producer.good("wait", "x", "--agent", "B").out == ""


def test_a_dependency_that_is_never_resolved(producer: Shell) -> None:
    done = producer.run("wait", "x", "--timeout", SOON, FABRIC_AGENT="B")
    assert (done.code, done.out) == (7, "")
    assert done.err.startswith(
        "fabric: B waited 1 s for x: to be produced by A, active at 40 %, last heard of "
    )
    until(lambda: waiters(producer) == [], "the wait is withdrawn")


def test_a_dependency_without_a_producer(shell: Shell) -> None:
    done = shell.run("wait", "y", "--timeout", SOON)
    assert done.code == 7
    assert "nobody has declared to produce it" in done.err


def test_a_wait_that_nobody_has_handled(quiet: Shell) -> None:
    done = quiet.run("wait", "y", "--timeout", SOON)
    assert done.code == 7
    assert "no orchestrator has handled this wait; is one running?" in done.err


def test_a_producer_that_fails(producer: Shell) -> None:
    process = producer.start("wait", "x", FABRIC_AGENT="B")
    until(lambda: waiters(producer) == ["B"])
    producer.good("emit", "FAILED", "error=disk full")
    done = end(process)
    assert (done.code, done.out) == (1, "")
    assert done.err == "fabric: A failed to produce x: disk full\n"
    until(lambda: waiters(producer) == [], "the wait is withdrawn")


def test_an_agent_that_may_not_wait(producer: Shell) -> None:
    producer.good("emit", "COMPLETED", FABRIC_AGENT="B")
    done = producer.run("wait", "x", FABRIC_AGENT="B")
    assert (done.code, done.out) == (4, "")
    assert "B may not wait: B has completed as incarnation 1" in done.err


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 129),
        (signal.SIGQUIT, 131),
        (signal.SIGUSR1, 138),
    ],
)
def test_an_interrupted_wait_is_withdrawn(
    producer: Shell, number: signal.Signals, code: int
) -> None:
    process = producer.start("wait", "x", FABRIC_AGENT="B")
    until(lambda: waiters(producer) == ["B"])
    process.send_signal(number)
    assert end(process).code == code
    until(lambda: waiters(producer) == [])


def test_a_wait_outlasts_a_broken_connection(producer: Shell, server: RunningServer) -> None:
    process = producer.start("wait", "x", FABRIC_AGENT="B")
    until(lambda: waiters(producer) == ["B"])
    until(lambda: is_following(server))
    server.cli("CLIENT", "KILL", "TYPE", "normal")
    producer.good("emit", "DEPENDENCY_RESOLVED(x)", "--location", "here")
    done = end(process)
    assert (done.code, done.out) == (0, "here\n")


def test_an_agent_that_ends(producer: Shell, server: RunningServer) -> None:
    process = producer.start("wait", "--agent", "A")
    until(lambda: is_following(server))
    producer.good("emit", "COMPLETED")
    assert end(process) == (0, "", "")
    assert producer.good("wait", "-a", "A", "--json").json == {
        "agent": "A",
        "status": "completed",
        "error": "",
    }


def test_an_agent_that_has_failed(producer: Shell) -> None:
    producer.good("emit", "FAILED", "error=disk full")
    done = producer.run("wait", "--agent", "A")
    assert (done.code, done.out, done.err) == (1, "", "fabric: A has failed: disk full\n")


def test_an_agent_that_does_not_end(producer: Shell) -> None:
    done = producer.run("wait", "--agent", "A", "--timeout", SOON)
    assert done.code == 7
    assert "A is active" in done.err


def test_an_agent_that_has_not_started_yet(shell: Shell) -> None:
    process = shell.start("wait", "--agent", "late")
    assert process.stderr is not None
    assert "nothing heard of late yet" in process.stderr.readline()
    shell.good("emit", "STARTED", FABRIC_AGENT="late")
    shell.good("emit", "COMPLETED", FABRIC_AGENT="late")
    assert end(process).code == 0


def test_all_agents(producer: Shell, session: str) -> None:
    producer.good("emit", "STARTED", FABRIC_AGENT="B")
    until(lambda: "B" in agents(producer))
    done = producer.run("wait", "--all", "--timeout", SOON)
    assert done.code == 7
    assert f"in {session}: A is active, B is active" in done.err
    process = producer.start("wait", "--all")
    producer.good("emit", "COMPLETED", FABRIC_AGENT="B")
    producer.good("emit", "COMPLETED")
    assert end(process) == (0, "A completed\nB completed\n", "")


def test_all_agents_of_which_one_has_failed(producer: Shell) -> None:
    producer.good("emit", "FAILED")
    done = producer.run("wait", "--all")
    assert (done.code, done.out) == (1, "A failed\n")
    assert done.err == "fabric: A has failed: no reason given\n"


@pytest.mark.parametrize(
    "words", [(), ("--all", "x"), ("--all", "--agent", "B"), ("x", "--timeout", "-1")]
)
def test_ambiguous_arguments(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell.run("wait", *words).code == 2


def test_a_resource_that_another_agent_holds(shell: Shell) -> None:
    shell.good("emit", "INTENT(config.py)", FABRIC_AGENT="A")
    until(lambda: "A" in agents(shell))
    process = shell.start("wait", "config.py", "--json", FABRIC_AGENT="B")
    until(lambda: agents(shell).get("B", {}).get("status") == "blocked")
    shell.good("emit", "RELEASE(config.py)", FABRIC_AGENT="A")
    done = end(process)
    assert done.code == 0
    assert done.json["token"] == 2
    assert "config.py is yours, under token 2" in done.err
    done = shell.run("wait", "config.py", "--timeout", SOON, FABRIC_AGENT="A")
    assert done.code == 7
    assert "B has it; A was number 1 in line" in done.err


def test_a_deadlock_over_two_resources(shell: Shell) -> None:
    for name, path in (("A", "x"), ("B", "y")):
        shell.good("emit", f"INTENT({path})", FABRIC_AGENT=name)
    first = shell.start("wait", "y", FABRIC_AGENT="A")
    until(lambda: agents(shell).get("A", {}).get("status") == "blocked")
    done = shell.run("wait", "x", FABRIC_AGENT="B")
    assert done.code == 5
    assert "deadlock: " in done.err
    shell.good("emit", "RELEASE(y)", FABRIC_AGENT="B")
    assert end(first).code == 0


def test_a_question_that_is_decided(shell: Shell) -> None:
    shell.good("emit", "ESCALATE", "question=Which?", "id=q", FABRIC_AGENT="A")
    until(lambda: "A" in agents(shell))
    process = shell.start("wait", "q", FABRIC_AGENT="B")
    until(lambda: agents(shell).get("B", {}).get("status") == "blocked")
    shell.good("emit", "DECIDED", "escalation=q", "decision=v1", FABRIC_AGENT="ME")
    done = end(process)
    assert (done.code, done.out) == (0, "v1\n")


def test_a_waiting_agent_sends_heartbeats(shell: Shell) -> None:
    process = shell.start("wait", "x", FABRIC_AGENT="B", FABRIC_HEARTBEAT_MS="100")
    until(lambda: agents(shell).get("B", {}).get("signals", 0) >= 4)
    assert agents(shell)["B"]["last_signal"] == "BLOCKED"
    shell.good("emit", "DEPENDENCY_RESOLVED(x)", FABRIC_AGENT="A")
    assert end(process).code == 0


def test_an_agent_told_to_stop_ends_its_wait(shell: Shell, server: RunningServer) -> None:
    process = shell.start("wait", "x", FABRIC_AGENT="B")
    until(lambda: agents(shell).get("B", {}).get("status") == "blocked")
    session = shell.variables["FABRIC_SESSION"]
    inbox = f"fabric:{{0}}:{session}:inbox:B"
    server.cli(
        *("XADD", inbox, "9-1", "type", "CANCEL", "from", "ORCHESTRATOR"),
        *("payload", '{"reason": "A, of group g, has failed", "code": "FAIL_FAST"}'),
    )
    done = end(process)
    assert done.code == 1
    assert "B is to stop: A, of group g, has failed" in done.err
    until(lambda: waiters(shell) == [], "the wait is withdrawn")
