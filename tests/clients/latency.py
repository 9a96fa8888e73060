"""How long a hook takes, beside a Python that does nothing: `python -m tests.clients.latency`.

    python -m tests.clients.latency --peers BIN    beside the peers, installed from PyPI into BIN

Each event is run as a client runs it, a process of its own, in turn with the empty program, so that
both meet the same load. The table goes to stdout as Markdown, ms. The last column is the least
processor time of the hook's process over that of the empty program: it needs no quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
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

#: The peers' hooks before a write, as their documentation has them.
PEERS = (("agent-file-claim", "hook"), ("agent-lease-guard",))

PYTHON = (sys.executable, "-S", "-E")


def timed(
    words: list[str], given: bytes, environment: dict[str, str], cwd: Path
) -> tuple[float, float]:
    """Run a program; return how long that took, and its processor time, ms."""
    began, spent = time.perf_counter(), _spent()
    done = subprocess.run(
        words, input=given, env=environment, cwd=cwd, capture_output=True, check=True
    )
    assert b"deny" not in done.stdout
    return (time.perf_counter() - began) * 1000, (_spent() - spent) * 1000


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def body(harness: str, name: str, project: Path) -> bytes:
    given = json.loads((SAMPLES / harness / f"{name}.json").read_text())
    if harness == "opencode":
        hook = ".".join(name.split(".")[:3])
        given = {"hook": hook, "directory": str(project), **given}
    return json.dumps(given).replace("/home/dev/project", str(project)).encode()


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="How long does a hook take?")
    parser.add_argument("--peers", metavar="BIN", help="folder with the peers' programs")
    chosen = parser.parse_args()
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
            variables |= {"HOME": folder, "AGENT_NAME": "claude-code"}  # a peer asks for its name
            programs = [
                (harness, name, [*PYTHON, str(SCRIPT), harness], body(harness, name, project))
                for harness, names in EVENTS.items()
                for name in names
            ]
            write = body("claude", "PreToolUse.Write", project)
            for peer in PEERS if chosen.peers else ():
                words = [str(Path(chosen.peers, peer[0])), *peer[1:]]
                programs.append((peer[0], "PreToolUse.Write", words, write))
            for label, name, words, given in programs:
                timed(words, given, variables, project)
                pairs = [
                    (
                        timed([*PYTHON, str(nothing)], given, variables, project),
                        timed(words, given, variables, project),
                    )
                    for _ in range(RUNS)
                ]
                base, ours = (sorted(column) for column in zip(*pairs, strict=True))
                spent = min(one[1] for one in ours) - min(one[1] for one in base)
                times = ([one[0] for one in column] for column in (base, ours))
                rows.append((label, name, *times, spent))
    finally:
        end(state / "fabric" / "agentd")
        orchestrator.close()
        server.remove()
    sys.stdout.write("| client | event | Python p50 | hook p50 | p99 | over p50 | processor |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|\n")
    for harness, name, base, ours, spent in rows:
        middle, alone = statistics.median(ours), statistics.median(base)
        late = ours[int(len(ours) * 0.99) - 1]
        cells = f"{alone:.1f} | {middle:.1f} | {late:.1f} | {middle - alone:.1f} | {spent:.1f}"
        sys.stdout.write(f"| {harness} | {name} | {cells} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
