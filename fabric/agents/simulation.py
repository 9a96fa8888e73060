"""Two scripted agents of different vendors want one file: what `fabric simulate-agents` shows.

No model and no client is needed: the script gives the hooks what Claude Code and Codex would give
them, each in a process of its own, and obeys their answers. Server, orchestrator and agent daemon
are real, and live in a scratch folder only.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabric.agents.command import hook_command
from fabric.agents.hook import socket_path
from fabric.config.settings import NAMESPACE
from fabric.errors import ServerError
from fabric.ops.overview import partition
from fabric.store.keys import ORCHESTRATORS
from fabric.store.redis import RedisStore

#: Seconds that the second agent's first try waits for the file.
WAIT_S = 1.0
#: Seconds for server and workers to start.
START_S = 60.0
#: Seconds between two looks whether they have.
LOOK_S = 0.05

FILE = "config.py"
SESSION = "simulation"
_LINES = {"claude": "TIMEOUT = 30", "codex": "RETRIES = 5"}

#: Gets who acts, and what happens.
Tell = Callable[[str, str], None]


@dataclass
class Outcome:
    """What has become of the two edits, without and with the fabric."""

    kept_without: int
    kept_with: int
    refusal: str
    seconds: float


class Client:
    """A scripted agent: gives its hook the events of a client, and obeys the answers."""

    def __init__(self, harness: str, repository: Path, environment: dict[str, str]) -> None:
        self.harness, self._repository, self._environment = harness, repository, environment
        self._calls = 0

    def hook(self, event: str, *flags: str, **more: Any) -> dict[str, Any]:
        """Run the hook for an event; return its answer."""
        document = {
            "session_id": f"simulated-{self.harness}",
            "cwd": str(self._repository),
            "hook_event_name": event,
            **more,
        }
        done = subprocess.run(  # noqa: S603 - the hook's own command line
            [*shlex.split(hook_command(self.harness)), *flags],
            cwd=self._repository,
            env=self._environment,
            input=json.dumps(document).encode(),
            capture_output=True,
            check=False,
        )
        found = json.loads(done.stdout) if done.stdout.strip() else {}
        return found if isinstance(found, dict) else {}

    def may_write(self, *flags: str) -> str:
        """Ask before a write, as the client does; return why not, "" if it may."""
        answer = self.hook("PreToolUse", *flags, **self._tool())
        said = answer.get("hookSpecificOutput", {})
        is_denied = said.get("permissionDecision") == "deny"
        return str(said.get("permissionDecisionReason")) if is_denied else ""

    def wrote(self) -> None:
        """Tell the hook that the write is done, and the turn."""
        self.hook("PostToolUse", **self._tool(), tool_response={})
        self.hook("Stop", stop_hook_active=False)

    def _tool(self) -> dict[str, Any]:
        path = str(self._repository / FILE)
        given: dict[str, Any] = {"file_path": path, "old_string": "", "new_string": ""}
        if self.harness == "codex":
            patch = f"*** Begin Patch\n*** Update File: {FILE}\n@@\n+x\n*** End Patch\n"
            given = {"command": patch}
        tool = "apply_patch" if self.harness == "codex" else "Edit"
        return {"tool_name": tool, "tool_input": given, "tool_use_id": f"call-{self._calls}"}

    def edited(self, text: str) -> str:
        """Return the text of the file with this agent's line."""
        return f"{text}{_LINES[self.harness]}\n"


def simulate(tell: Tell) -> Outcome:
    """Run it; return what was kept. Raises ServerError if the server does not start."""
    began_at = time.monotonic()
    with ExitStack() as ending:
        scratch = Path(tempfile.mkdtemp(prefix="fabric-"))
        ending.callback(shutil.rmtree, scratch, ignore_errors=True)
        repository = scratch / "repository"
        repository.mkdir()
        file = repository / FILE
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("FABRIC_")
        }
        environment |= {
            "XDG_STATE_HOME": str(scratch / "s"),
            "FABRIC_SESSION": SESSION,
            "FABRIC_CONFIG": os.devnull,
        }
        claude, codex = (Client(one, repository, environment) for one in ("claude", "codex"))

        file.write_text("")
        base = file.read_text()
        for client in (claude, codex):  # both have read the file before either writes
            file.write_text(client.edited(base))
        kept_without = _kept(file)
        tell("without", f"both read {FILE}, then both write it: {kept_without} of 2 edits is left")

        tell("with", "a server, an orchestrator and an agent daemon start in a scratch folder")
        ending.enter_context(_fabric(repository, environment))
        file.write_text("")
        for client in (claude, codex):
            client.hook("SessionStart", source="startup")
        base = file.read_text()
        claude.may_write()
        tell("claude", f"wants to edit {FILE}: the hook has claimed it, the edit goes through")
        refusal = codex.may_write("--wait", f"{WAIT_S:g}")
        tell("codex", f"wants to edit {FILE} too. Its hook waits {WAIT_S:g} s, then refuses:")
        tell("", refusal or "(it was not refused)")
        file.write_text(claude.edited(base))
        claude.wrote()
        tell("claude", "has written, and ends its turn: the file is released")
        if not codex.may_write():
            file.write_text(codex.edited(file.read_text()))
            codex.wrote()
            tell("codex", "tries again, gets the file, and edits what is there now")
        kept = _kept(file)
        tell("with", f"{kept} of 2 edits are left")
        for client in (claude, codex):
            client.hook("SessionEnd", reason="other")
    return Outcome(kept_without, kept, refusal, time.monotonic() - began_at)


def _kept(file: Path) -> int:
    return sum(line in file.read_text().splitlines() for line in _LINES.values())


@contextmanager
def _fabric(repository: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run `fabric up` and the agent daemon for as long as the block runs."""
    socket = os.fsdecode(
        socket_path({os.fsencode(k): os.fsencode(v) for k, v in environment.items()})
    )
    processes = []
    with tempfile.TemporaryFile() as said:
        try:
            for words in (["fabric.cli", "up", "--json"], ["fabric.agents", socket]):
                processes.append(
                    subprocess.Popen(  # noqa: S603 - this Python, and modules of ours
                        [sys.executable, "-m", *words],
                        cwd=repository,
                        env={**environment, "PYTHONPATH": _path()},
                        stdin=subprocess.DEVNULL,
                        stdout=said,
                        stderr=said,
                        start_new_session=True,
                    )
                )
            deadline = time.monotonic() + START_S
            while not (Path(socket).exists() and _is_up(said.fileno())):
                if time.monotonic() > deadline or any(one.poll() is not None for one in processes):
                    text = os.pread(said.fileno(), 65_536, 0).decode(errors="replace").strip()
                    raise ServerError(f"the fabric did not start: {text or 'no reason given'}")
                time.sleep(LOOK_S)
            yield
        finally:
            for one in reversed(processes):
                one.terminate()
                one.wait()


def _is_up(output: int) -> bool:
    """Whether `fabric up` has said where its server is, and an orchestrator serves it."""
    for line in os.pread(output, 65_536, 0).splitlines():
        with suppress(ValueError, TypeError, KeyError):
            return asyncio.run(_is_served(str(json.loads(line)["url"])))
    return False


async def _is_served(url: str) -> bool:
    store = RedisStore(url, NAMESPACE, name="fabric-simulation")
    try:
        found = await partition(store, 0)
        return any(one.held and one.group == ORCHESTRATORS for one in found.holders)
    except ServerError:
        return False
    finally:
        await store.close()


def _path() -> str:
    """Return where the modules of this process come from."""
    known = os.environ.get("PYTHONPATH")
    return os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), known]))
