"""An agent daemon on a real server, and clients that give it their events."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest

from fabric import SyncFabric
from fabric.agents import hook
from fabric.agents.fallback import listens
from tests.support.daemon import Daemon, daemon, environment
from tests.support.fixtures import own_settings
from tests.support.forked import Forked
from tests.support.servers import RunningServer, short_directory
from tests.support.waiting import until

__all__ = ["daemon", "own_settings"]


class Agentd:
    """A daemon, and a project in which its clients work."""

    def __init__(self, url: str, project: Path) -> None:
        self.state = short_directory()
        self.project = project
        self.variables = {"XDG_STATE_HOME": str(self.state), "FABRIC_REDIS_URL": url}
        self.variables |= {"FABRIC_SESSION": "demo", "FABRIC_CONFIG": os.devnull}
        raw = {name.encode(): value.encode() for name, value in self.variables.items()}
        self.path = hook.socket_path(raw)
        self.folder = Path(os.fsdecode(hook.folder(raw)))
        self.process: Forked | None = None
        self.orchestrator: Daemon | None = None

    def start(self) -> None:
        self.process = Forked(
            *("fabric.agents", ()),
            cwd=self.project,
            env=environment() | self.variables,
            stdin=DEVNULL,
        )
        until(lambda: listens(self.path), "the daemon listens")

    def close(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)

    def say(
        self, event: dict[str, Any], agent: str = "A", *, wait_s: float = 10, pid: int = 0
    ) -> Any:
        """Give an event of Claude Code; return the answer's document, or None."""
        given = {"session_id": f"of {agent}", "cwd": str(self.project), **event}
        head = {"op": "hook", "harness": "claude", "cwd": str(self.project), **self.variables}
        head |= {"FABRIC_AGENT": agent, "wait_s": str(wait_s), "ppid": str(os.getpid())}
        head |= {"CLAUDE_PID": str(pid)} if pid else {}
        words = [word.encode() for pair in head.items() for word in pair]
        frame = hook.request(words, json.dumps(given).encode())
        code, out, err = hook.ask(self.path, frame, 60)
        assert (code, err) == (0, b"")
        return json.loads(out) if out else None

    def write(self, path: str, agent: str = "A", **how: Any) -> str:
        """Say that an agent is about to write a file; return the refusal, or ""."""
        event = tool("PreToolUse", "Write", path=str(self.project / path), id=f"{agent} {path}")
        answer = self.say(event, agent, **how) or {}
        found: str = answer.get("hookSpecificOutput", {}).get("permissionDecisionReason", "")
        return found

    def wrote(self, path: str, agent: str = "A", **how: Any) -> Any:
        """Say that an agent has written a file."""
        event = tool("PostToolUse", "Write", path=str(self.project / path), id=f"{agent} {path}")
        return self.say(event, agent, **how)

    def in_background(self, work: Callable[[], Any]) -> "Background":
        return Background(work)


class Background(threading.Thread):
    """Something that waits, in a thread of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._found: Any = None
        self.start()

    def run(self) -> None:
        self._found = self._work()

    def result(self) -> Any:
        self.join(60)
        assert not self.is_alive()
        return self._found


def tool(name: str, kind: str, *, path: str = "", id: str = "", **given: Any) -> dict[str, Any]:  # noqa: A002 - the client's word
    """Return an event before or after a tool."""
    field = {"file_path": path} if path else {}
    event = {"hook_event_name": name, "tool_name": kind, "tool_use_id": id}
    return {**event, "tool_input": {**field, **given}}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    return folder


@pytest.fixture
def agentd(server: RunningServer, daemon: Callable[..., Daemon], project: Path) -> Iterator[Agentd]:
    made = Agentd(server.url, project)
    made.orchestrator = daemon(server.url)
    made.start()
    yield made
    made.close()


@pytest.fixture
def fabric(server: RunningServer) -> Iterator[SyncFabric]:
    """The fabric, to look at what became of it."""
    with SyncFabric.connect(server.url, namespace="fabric", session="demo") as connected:
        yield connected
