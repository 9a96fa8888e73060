"""An idle client begins a turn when somebody wants something of its agent; and it need not wait."""

import json
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL

import pytest

from fabric import SyncFabric
from fabric.core.record import AgentStatus
from tests.clients.bench import PROGRAMS, Bench, call
from tests.clients.conftest import MakeBench, installed
from tests.clients.test_clients import STEP_S, is_waiting, names, status
from tests.clients.test_setup import environment, fabric_command
from tests.support.node import free_port
from tests.support.waiting import until

pytestmark = pytest.mark.slow


#: Seconds for one answer of OpenCode's server: what it is asked while it starts, it may forget.
OPENCODE_S = 20.0


class Terminal:
    """A client that has a terminal, and a person who has left."""

    def __init__(self, bench: Bench, harness: str, words: list[str]) -> None:
        self._socket = str(bench.root / "tmux")
        given = environment(bench, harness) | {"TERM": "xterm-256color"}
        size = ("-x", "120", "-y", "40")
        start = ("new-session", "-d", *size, "-c", str(bench.project), shlex.join(words))
        self._tmux(*start, given=given)

    def _tmux(self, *words: str, given: dict[str, str] | None = None) -> str:
        argv = ["tmux", "-S", self._socket, *words]
        done = subprocess.run(argv, env=given, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def close(self) -> None:
        self._tmux("kill-server")


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    if shutil.which("tmux") is None:
        pytest.skip("no tmux")
    opened: list[Terminal] = []
    yield opened
    for one in opened:
        one.close()


def children(pid: int) -> list[str]:
    """Return the names of the processes below one: below `fabric run`, the warden counts."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{one}/comm").read_text() for one in found]


def wake(fabric: SyncFabric, bench: Bench, screen: Callable[[], str] = str) -> None:
    """Send something to the client's agent when its turn has come; it must begin another."""
    bench.model.script("woken", [{"text": "here I am"}])
    until(lambda: bench.model.told("s") != "[]", screen, STEP_S)
    until(lambda: "STARTED" in names(fabric, "DEV"))
    with fabric.agent("QA") as qa:
        qa.resolve("schema", location="see script=woken", consumers=["DEV"])
        until(lambda: bench.model.told("woken") != "[]", screen, STEP_S)
    assert "QA says DEPENDENCY_RESOLVED" in bench.model.told("woken")


def test_claude_code_is_woken_by_its_plugin(
    make_bench: MakeBench, fabric: SyncFabric, terminals: list[Terminal]
) -> None:
    bench = make_bench()
    installed("claude")
    fabric_command(bench, "claude", "init", "claude", "--yes", "--user")
    home = Path(environment(bench, "claude")["HOME"])
    known = {
        "hasCompletedOnboarding": True,
        "theme": "dark",
        "projects": {str(bench.project): {"hasTrustDialogAccepted": True}},
        "customApiKeyResponses": {"approved": ["test"], "rejected": []},
    }
    (home / ".claude.json").write_text(json.dumps(known))
    bench.model.script("s", [{"text": "done"}])
    terminals.append(Terminal(bench, "claude", [str(PROGRAMS["claude"]), "script=s"]))
    wake(fabric, bench, terminals[0].screen)


def test_codex_is_woken_by_its_queue(
    make_bench: MakeBench, fabric: SyncFabric, terminals: list[Terminal]
) -> None:
    bench = make_bench()
    installed("codex")
    home = Path(environment(bench, "codex")["HOME"])
    bench._codex(home, bench.hook("codex"), "")
    config = home / ".codex" / "config.toml"
    # A model that has a successor asks whether to change.
    text = config.read_text().replace("gpt-5.5", "gpt-6.2-sol")
    config.write_text(f'{text}[projects."{bench.project}"]\ntrust_level = "trusted"\n')
    bench.model.script("s", [{"text": "done"}])
    flags = ["--dangerously-bypass-hook-trust", "-s", "danger-full-access", "-a", "never"]
    terminals.append(Terminal(bench, "codex", [str(PROGRAMS["codex"]), *flags, "script=s"]))
    wake(fabric, bench, terminals[0].screen)


def test_opencode_is_woken_by_its_plugin(make_bench: MakeBench, fabric: SyncFabric) -> None:
    bench = make_bench()
    installed("opencode")
    given = environment(bench, "opencode")
    bench._opencode(Path(given["HOME"]), "", "")
    bench.model.script("s", [{"text": "done"}])
    port = free_port()
    server = subprocess.Popen(
        [PROGRAMS["opencode"], "serve", "--port", str(port)],
        cwd=bench.project, env=given, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    bench.running.append(server)

    def ask(path: str, value: object) -> dict[str, object]:
        url, data = f"http://127.0.0.1:{port}{path}", json.dumps(value).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=OPENCODE_S) as answer:  # noqa: S310 - our own server
            found: dict[str, object] = json.loads(answer.read())
            return found

    def begin() -> str:
        try:
            return str(ask("/session", {})["id"])
        except OSError:
            return ""

    sessions: list[str] = []

    def is_begun() -> bool:
        sessions.append(begin())
        return sessions[-1] != ""

    until(is_begun, "it listens", STEP_S)
    ask(f"/session/{sessions[-1]}/message", {"parts": [{"type": "text", "text": "script=s"}]})
    wake(fabric, bench)


def test_a_run_of_claude_code_ends_at_a_held_file_and_is_resumed(
    make_bench: MakeBench, fabric: SyncFabric
) -> None:
    """While it waits, no process of it is there, and its model is not asked."""
    bench = make_bench("--wait 1")
    installed("claude")
    write = call("claude", "write", str(bench.project / "held.py"), "mine\n")
    bench.model.script("s", [{"tools": [write]}, {"text": "PROGRESS(40%)"}])
    run = (sys.executable, "-m", "fabric.cli", "run", "--agent", "DEV", "--")
    with fabric.agent("QA") as qa, qa.writing("held.py"):
        client = bench.start("claude", "s", through=run)
        err = bench.root / "home-claude" / "err"
        until(lambda: "waits for its turn" in err.read_text(), err.read_text, STEP_S)
        until(lambda: not children(client.pid), "its client has ended", STEP_S)
        assert is_waiting(fabric, "DEV")
        assert not (bench.project / "held.py").exists()
        assert status(fabric, "DEV") is not AgentStatus.FAILED
    assert client.wait(STEP_S) == 0, err.read_text()
    assert (bench.project / "held.py").read_text() == "mine\n"
    until(lambda: status(fabric, "DEV") is AgentStatus.COMPLETED)
    assert [turn for script, turn, _ in bench.model.requests if script == "s"] == [0, 1]
    assert "refused this write" not in bench.model.told("s")
    assert names(fabric, "DEV").count("COMPLETED") == 1
    until(lambda: not fabric.session().claims())


def test_of_two_writes_at_once_only_one_is_put_off(
    make_bench: MakeBench, fabric: SyncFabric
) -> None:
    """Claude Code forgets one of them if both are, so both are refused."""
    bench = make_bench("--wait 1")
    installed("claude")
    writes = [
        call("claude", "write", str(bench.project / name), "x\n") for name in ("a.py", "b.py")
    ]
    bench.model.script("s", [{"tools": writes}, {"text": "."}])
    run = (sys.executable, "-m", "fabric.cli", "run", "--agent", "DEV", "--")
    with fabric.agent("QA") as qa, qa.writing("a.py", "b.py"):
        assert bench.start("claude", "s", through=run).wait(STEP_S) == 0
    told = bench.model.told("s")
    assert all(f"refused this write: {name} is held by QA" in told for name in ("a.py", "b.py"))


def test_a_headless_claude_is_woken_through_its_standard_input(
    make_bench: MakeBench, fabric: SyncFabric
) -> None:
    bench = make_bench()
    installed("claude")
    bench.model.script("s", [{"text": "done"}])
    bench.model.script("woken", [{"text": "here I am"}])
    given = bench.environment("claude", "DEV")
    words = bench._claude(Path(given["HOME"]), bench.hook("claude"), "")
    words = [one for one in words if one not in ("", "json", "--output-format")]
    stream = ["--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]
    client = subprocess.Popen(
        [sys.executable, "-m", "fabric.cli", "run", "--agent", "DEV", "--", *words, *stream],
        cwd=bench.project, env=given, stdin=subprocess.PIPE, stdout=DEVNULL, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    bench.running.append(client)
    assert client.stdin is not None
    part = [{"type": "text", "text": "script=s"}]
    said = {"type": "user", "message": {"role": "user", "content": part}}
    print(json.dumps(said), file=client.stdin, flush=True)
    wake(fabric, bench)
    _, errors = client.communicate(timeout=STEP_S)
    assert client.returncode == 0, errors
    until(lambda: status(fabric, "DEV") is AgentStatus.COMPLETED)
