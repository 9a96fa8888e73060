"""How long from an empty machine to the first prevented overwrite: what the README says, done.

`python -m tests.clients.first_overwrite` makes an environment, installs this checkout into it, and
runs the README's commands in a new repository with Claude Code. Then two Claude Codes want one
file. Each step is printed with the seconds since the beginning; exit code 1 if nothing was refused.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.clients.bench import PROGRAMS, RUN_S, Bench, call, end
from tests.clients.scripted_model import Model
from tests.support.servers import ROOT

#: What the model reads when a write was refused.
REFUSED = "Signal Fabric refused this write"


def main() -> int:
    """Do it; return the exit code."""
    began_at = time.monotonic()

    def say(words: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began_at:6.1f} s  {words}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="fabric-") as folder, Model(Path(folder, "m")) as model:
        bench = Bench(Path(folder, "b"), model, None)
        programs, home = Path(folder, "v", "bin"), Path(folder, "bin")
        home.mkdir()
        (home / "claude").symlink_to(PROGRAMS["claude"])
        environment = bench.environment("claude", "")
        for name in ("FABRIC_AGENT", "FABRIC_SESSION", "FABRIC_CONFIG", "PYTHONPATH"):
            del environment[name]
        environment["PATH"] = f"{programs}:{home}:{environment['PATH']}"
        environment |= {name: one for name, one in os.environ.items() if name.startswith("PIP_")}

        def run(*words: str) -> None:
            out = subprocess.DEVNULL
            subprocess.run(words, cwd=bench.project, env=environment, stdout=out, check=True)

        run(sys.executable, "-m", "venv", str(programs.parent))
        say("an environment")
        run(str(programs / "pip"), "install", "-q", f"{ROOT}[embedded]")
        say("1: pip install")
        run(str(programs / "fabric"), "init", "--yes")
        say("2: fabric init")
        with subprocess.Popen(
            [programs / "fabric", "up", "--json"],
            cwd=bench.project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as up:
            try:
                assert up.stdout is not None
                up.stdout.readline()
                say("3: fabric up")
                is_refused = _overwrite(bench, environment)
                say("4: two clients; the second write was " + ("refused" * is_refused or "made"))
            finally:
                end(bench.agentd)
                up.terminate()
        return 0 if is_refused else 1


def _overwrite(bench: Bench, environment: dict[str, str]) -> bool:
    """Have two clients write one file; return whether the second was refused."""
    path = bench.project / "config.py"
    # The first one holds the file as long as its turn lasts: its shell command waits for us.
    until_over = f"until test -e {path}.over; do sleep 0.2; done"
    held: list[dict[str, Any]] = [
        {"tools": [call("claude", "write", str(path), "first\n")]},
        {"tools": [call("claude", "shell", until_over)]},
        {"text": "."},
    ]
    wanted: list[dict[str, Any]] = [
        {"tools": [call("claude", "shell", f"until test -s {path}; do sleep 0.1; done")]},
        {"tools": [call("claude", "write", str(path), "second\n")]},
        {"text": "."},
    ]
    for name, turns in (("first", held), ("second", wanted)):
        bench.model.script(name, turns)
    mode = ("--permission-mode", "acceptEdits", "--allowedTools", "Bash", "Write")
    clients = [
        subprocess.Popen(
            [PROGRAMS["claude"], "-p", f"script={name}", *mode],
            cwd=bench.project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in ("first", "second")
    ]
    try:
        clients[1].wait(RUN_S)
        return REFUSED in bench.model.told("second") and path.read_text() == "first\n"
    finally:
        path.with_name(f"{path.name}.over").touch()  # its shell is in a session of its own
        for client in clients:
            client.wait(RUN_S)


if __name__ == "__main__":
    sys.exit(main())
