"""How long a hook takes, beside a Python that does nothing: `python -m tests.clients.latency`.

Each event is run as a client runs it, a process of its own, in turn with the empty program, so that
both meet the same load. The table goes to stdout as Markdown, ms.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fabric.agents.command import SCRIPT
from tests.clients.bench import end
from tests.support.daemon import Daemon
from tests.support.servers import FLAVOUR_DEFAULT, ROOT, short_directory, start_server

SAMPLES = ROOT / "tests" / "agents" / "samples"

#: Runs of each event.
RUNS = 40

#: Harness → a write that is allowed, the same after it, and a read.
EVENTS = {
    "claude": ("PreToolUse.Write", "PostToolUse.Write", "PreToolUse.Read"),
    "codex": ("PreToolUse.apply_patch", "PostToolUse.apply_patch", "UserPromptSubmit"),
    "gemini": ("BeforeTool.write_file", "AfterTool.write_file", "BeforeAgent"),
    "opencode": (
        "tool.execute.before.write",
        "tool.execute.after.write",
        "tool.execute.before.read",
    ),
}

PYTHON = (sys.executable, "-S", "-E")


def timed(words: list[str], given: bytes, environment: dict[str, str], cwd: Path) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        [*PYTHON, *words], input=given, env=environment, cwd=cwd, capture_output=True, check=True
    )
    assert b"deny" not in done.stdout
    return (time.perf_counter() - began) * 1000


def body(harness: str, name: str, project: Path) -> bytes:
    given = json.loads((SAMPLES / harness / f"{name}.json").read_text())
    if harness == "opencode":
        hook = ".".join(name.split(".")[:3])
        given = {"hook": hook, "directory": str(project), **given}
    return json.dumps(given).replace("/home/dev/project", str(project)).encode()


def main() -> int:
    """Measure, and print the table."""
    server = start_server(FLAVOUR_DEFAULT)
    orchestrator = Daemon(server.url, lease_ms=5_000)
    state = short_directory()
    variables = {"XDG_STATE_HOME": str(state), "FABRIC_REDIS_URL": server.url}
    variables |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "FABRIC_CONFIG": os.devnull}
    rows = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            project = Path(folder, "project")
            (project / ".git").mkdir(parents=True)
            nothing = Path(folder, "nothing.py")
            nothing.write_text("pass\n")
            for harness, names in EVENTS.items():
                for name in names:
                    given = body(harness, name, project)
                    words = [str(SCRIPT), harness]
                    timed(words, given, variables, project)
                    pairs = [
                        (
                            timed([str(nothing)], given, variables, project),
                            timed(words, given, variables, project),
                        )
                        for _ in range(RUNS)
                    ]
                    base, ours = (sorted(column) for column in zip(*pairs, strict=True))
                    rows.append((harness, name, base, ours))
    finally:
        end(state / "fabric" / "agentd")
        orchestrator.close()
        server.remove()
    sys.stdout.write("| client | event | Python alone p50 | hook p50 | p99 | over Python p50 |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")
    for harness, name, base, ours in rows:
        middle, alone = statistics.median(ours), statistics.median(base)
        late = ours[int(len(ours) * 0.99) - 1]
        cells = f"{alone:.1f} | {middle:.1f} | {late:.1f} | {middle - alone:.1f}"
        sys.stdout.write(f"| {harness} | {name} | {cells} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
