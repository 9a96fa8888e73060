"""Waits that no answer can end any more, and commands that nobody attends to: both end."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.forked import Forked
from tests.support.servers import RunningServer
from tests.support.shell import Done, Shell, end, is_following
from tests.support.waiting import until

#: Many processes, and waits of seconds.
pytestmark = pytest.mark.slow

#: The agent that waits.
B = {"FABRIC_AGENT": "B"}

FAST = """
[liveness]
silence_factor = 5
silence_ms_min = 1000
silence_ms_max = 2000
"""


def agent(shell: Shell, name: str = "B") -> dict[str, Any]:
    return dict(shell.records("agents").get(name, {}))


def waiting(shell: Shell, *words: str, **more: str) -> Forked:
    """Start a wait of B for x; return when B waits."""
    process = shell.start("wait", "x", *words, **B, **more)
    until(lambda: agent(shell).get("waits_for") == ["x"])
    return process


def withdrawn(shell: Shell) -> bool:
    return not shell.records("dependencies")["x"].get("waiters")


def over(done: Done, why: str) -> None:
    assert (done.code, done.out) == (4, "")
    assert done.err == f"fabric: the wait of B for x is over: {why}\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("COMPLETED",), "B has completed"),
        (("FAILED", "error=disk full"), "B has failed: disk full"),
        (("STARTED", "--incarnation", "2"), "B has started again, as incarnation 2"),
        (("RELEASE(x)",), "it was withdrawn (RELEASE, or a new start of B)"),
    ],
)
def test_a_wait_ends_with_its_agent(shell: Shell, words: tuple[str, ...], why: str) -> None:
    shell.good("emit", "STARTED", "--confirm", **B)
    process = waiting(shell)
    shell.good("emit", *words, **B)
    over(end(process), why)


def test_a_wait_of_the_next_incarnation_is_not_withdrawn(shell: Shell) -> None:
    shell.good("emit", "STARTED", "--confirm", **B)
    process = waiting(shell)
    process.send_signal(signal.SIGSTOP)
    shell.good("emit", "STARTED", "--incarnation", "2", "--confirm", **B)
    shell.good("emit", "BLOCKED(x)", "--confirm", **B)
    process.terminate()
    process.send_signal(signal.SIGCONT)
    assert end(process).code in {4, 143}
    shell.good("emit", "HEARTBEAT", "--confirm", **B)
    assert agent(shell)["waits_for"] == ["x"]


@pytest.fixture
def fast(quiet: Shell, server: RunningServer) -> Shell:
    """A shell whose orchestrator declares an agent dead after two seconds."""
    (quiet.home / "fabric.toml").write_text(FAST)
    quiet.start("orchestrator", "--name", "fast")
    namespace = quiet.variables["FABRIC_NAMESPACE"]
    until(lambda: server.cli("HGET", f"{namespace}:{{0}}:lease", "owner") == "fast")
    return quiet


def test_an_agent_that_is_declared_dead_while_its_wait_sleeps(
    fast: Shell, server: RunningServer
) -> None:
    """As on a laptop that was closed."""
    namespace = fast.variables["FABRIC_NAMESPACE"]

    def status() -> str:
        return str(server.cli("HGET", f"{namespace}:{{0}}:s:agents", "B") or "")

    process = fast.start("wait", "x", **B)
    until(lambda: '"blocked"' in status())
    process.send_signal(signal.SIGSTOP)
    until(lambda: '"dead"' in status())
    process.send_signal(signal.SIGCONT)
    done = end(process)
    assert (done.code, done.out) == (4, "")
    assert "the wait of B for x is over: B was declared dead: silent for " in done.err
    done = fast.run("wait", "--agent", "B")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("fabric: B was declared dead: silent for ")
    done = fast.run("inbox", "-f", **B)
    assert done.code == 4
    assert "CANCEL" in done.out
    assert "B was declared dead: silent for " in done.err


@pytest.mark.parametrize(("code", "exit_code"), [("DEADLINE", 7), ("ABANDONED", 1)])
def test_a_wait_that_the_orchestrator_gives_up(
    shell: Shell, server: RunningServer, session: str, code: str, exit_code: int
) -> None:
    process = waiting(shell)
    payload = json.dumps({"reason": "nobody has answered", "code": code, "dependency": "x"})
    inbox = f"fabric:{{0}}:{session}:inbox:B"
    server.cli("XADD", inbox, "9-1", "type", "CANCEL", "from", "ORCHESTRATOR", "payload", payload)
    done = end(process)
    assert (done.code, done.out) == (exit_code, "")
    assert "nobody has answered" in done.err


def forget(server: RunningServer, session: str) -> None:
    """Delete a session, as FLUSHALL does."""
    keys = server.cli("KEYS", f"fabric:{{0}}:{session}:*")
    server.cli("DEL", *keys)


@pytest.mark.parametrize(
    "words",
    [
        ("wait", "x"),
        ("wait", "--agent", "A"),
        ("wait", "--all"),
        ("inbox", "-f"),
        ("synthesis", "-f"),
        ("tail", "-f"),
        ("escalations", "-f"),
        ("watch", "--plain"),
    ],
)
def test_a_session_that_is_gone(
    shell: Shell, server: RunningServer, session: str, words: tuple[str, ...]
) -> None:
    shell.good("emit", "STARTED", "--confirm")
    process = shell.start(*words)
    if words == ("wait", "x"):
        until(lambda: agent(shell, "A").get("waits_for") == ["x"])
    else:
        until(lambda: " name=fabric-cli " in server.cli("CLIENT", "LIST"))
    if words[0] == "watch":
        assert process.stdout is not None
        process.stdout.readline()
    else:
        until(lambda: is_following(server))
    forget(server, session)
    done = end(process)
    assert done.code == 3
    assert f"session {session} is gone" in done.err


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED"])
def test_an_inbox_is_followed_until_its_agent_has_ended(
    shell: Shell, server: RunningServer, word: str
) -> None:
    shell.good("emit", "STARTED", "--confirm")
    process = shell.start("inbox", "-f")
    until(lambda: is_following(server))
    shell.good("emit", word)
    done = end(process)
    assert (done.code, done.out) == (0, "")
    assert "nothing more comes until it starts again" in done.err


def test_a_wait_ends_with_the_reader_of_its_output(shell: Shell) -> None:
    process = waiting(shell)
    assert process.stdout is not None
    process.stdout.close()
    process.wait(60)
    assert process.returncode == 141
    until(lambda: withdrawn(shell))


def test_a_wait_without_an_output(shell: Shell) -> None:
    argv = [sys.executable, "-m", "fabric.cli", "wait", "x", "--timeout", "0.5"]
    line = 'exec "$@" >&-'
    done = subprocess.run(
        ["/bin/sh", "-c", line, "sh", *argv],
        env=shell.environment(**B),
        cwd=shell.home,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 7
    assert done.stderr.startswith("fabric: B waited 0.5 s for x")


#: Starts a command and stays until it is killed. The test run itself may ignore SIGHUP.
PARENT = """
import signal, subprocess, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with open(sys.argv[1], "w") as out:
    subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
time.sleep(600)
"""


def orphan(shell: Shell, out: Path, *prefix: str) -> None:
    """Leave a wait of B whose parent was killed."""
    argv = [*prefix, sys.executable, "-m", "fabric.cli", "wait", "x"]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(out), *argv],
        env=shell.environment(FABRIC_HEARTBEAT_MS="100", **B),
        cwd=shell.home,
        text=True,
    )
    try:
        until(lambda: agent(shell).get("waits_for") == ["x"])
    finally:
        parent.kill()
        parent.wait()


def test_a_wait_ends_with_its_parent(shell: Shell, tmp_path: Path) -> None:
    orphan(shell, tmp_path / "out")
    until(lambda: withdrawn(shell))


def test_nohup_lets_a_wait_outlive_its_parent(shell: Shell, tmp_path: Path) -> None:
    out = tmp_path / "out"
    orphan(shell, out, "nohup")
    before = agent(shell)["signals"]
    until(lambda: agent(shell)["signals"] > before + 10, "it waits a second longer")
    shell.good("emit", "DEPENDENCY_RESOLVED(x)", "--location", "here")
    until(lambda: out.read_text() == "here\n")


def test_a_wait_that_breaks_is_withdrawn(shell: Shell, server: RunningServer, session: str) -> None:
    process = waiting(shell)
    server.cli("SET", f"fabric:{{0}}:{session}:inbox:B", "spoilt")
    server.cli("CLIENT", "KILL", "TYPE", "normal")
    assert end(process).code == 6
    server.cli("DEL", f"fabric:{{0}}:{session}:inbox:B")
    until(lambda: withdrawn(shell))
