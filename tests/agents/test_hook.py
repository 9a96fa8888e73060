"""The hook's own script: it starts the daemon when it is not there, and never stops the work."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fabric.agents import fallback
from fabric.agents.command import SCRIPT, hook_command
from tests.agents.conftest import tool
from tests.support.daemon import environment
from tests.support.project_member import is_gone
from tests.support.servers import ROOT, short_directory
from tests.support.waiting import until


class Client:
    """Runs the hook as a client does, on no server."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.state = short_directory()
        self.variables = environment() | {"XDG_STATE_HOME": str(self.state)}
        self.folder = self.state / "fabric" / "agentd"

    def start(self, event: dict[str, Any], flags: str = "") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S602 - clients run hooks in a shell
            f"exec {hook_command('claude')} {flags}",
            shell=True,
            cwd=self.project,
            env=self.variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        given = {"session_id": "1", "cwd": str(self.project), **event}
        assert process.stdin is not None
        process.stdin.write(json.dumps(given).encode())
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, event: dict[str, Any], flags: str = "") -> Any:
        """Return the answer's document, or None; the exit code is 0 whatever happens."""
        process = self.start(event, flags)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return json.loads(out) if out else None

    def pid(self) -> int:
        return int((self.folder / "daemon.lock").read_text())

    def close(self) -> None:
        if (self.folder / "daemon.lock").exists():
            pid = self.pid()
            os.kill(pid, 15)
            until(lambda: is_gone(pid))


@pytest.fixture
def client(project: Path) -> Iterator[Client]:
    made = Client(project)
    yield made
    made.close()


def broken(client: Client) -> None:
    """Make the daemon impossible to start: its folder is a file."""
    client.folder.parent.mkdir(parents=True)
    client.folder.write_text("")


WRITE = tool("PreToolUse", "Write", path="/x/a.py", id="1")
AFTER = tool("PostToolUse", "Write", path="/x/a.py", id="1")


def test_two_hooks_at_once_start_one_daemon(client: Client) -> None:
    both = [client.start({"hook_event_name": "SessionStart"}) for _ in range(2)]
    for process in both:
        process.communicate(timeout=60)
    log = (client.folder / "log").read_text()
    assert "Traceback" not in log
    running = [one for one in Path("/proc").glob("[0-9]*/cmdline") if _is_daemon(one, client)]
    assert [int(one.parent.name) for one in running] == [client.pid()]


def _is_daemon(path: Path, client: Client) -> bool:
    try:
        words = path.read_bytes()
    except OSError:
        return False
    return b"fabric.agents" in words and os.fsencode(client.state) in words


def test_without_a_server_the_client_works_on_and_is_told_once(client: Client) -> None:
    assert client.run(WRITE)["hookSpecificOutput"].get("permissionDecision") is None
    assert client.run(AFTER) is None


def test_without_a_daemon_the_client_works_on_and_its_events_are_kept(client: Client) -> None:
    broken(client)
    answer = client.run({"hook_event_name": "SessionStart"})
    assert "cannot be started" in answer["hookSpecificOutput"]["additionalContext"]


def test_without_a_daemon_writes_are_refused_if_so_told(client: Client) -> None:
    broken(client)
    said = client.run(WRITE, "--fail-closed")["hookSpecificOutput"]
    assert said["permissionDecision"] == "deny"
    assert "--fail-closed" in said["permissionDecisionReason"]
    assert client.run(AFTER, "--fail-closed")["hookSpecificOutput"].keys() == {
        "hookEventName",
        "additionalContext",
    }


def test_the_hook_imports_nothing_that_costs() -> None:
    """Each import of a module would cost a client more than the hook itself, 100 times an hour."""
    words = [sys.executable, "-S", "-E", "-X", "importtime", str(SCRIPT), "emacs"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert not loaded & {"json", "socket", "os", "re", "asyncio", "fabric"}
    assert "_socket" in loaded


def test_kept_events_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "SPOOL_MAX", 2)
    assert fallback.keep(tmp_path, b"one")
    assert not fallback.keep(tmp_path, b"two")
    fallback.keep(tmp_path, b"one too many")
    kept = sorted((tmp_path / "spool").iterdir())
    assert [one.read_bytes() for one in kept] == [b"one", b"two"]
