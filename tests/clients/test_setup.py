"""`fabric init`, `fabric mcp` and `fabric run` with the real clients: what is set up is used."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fabric import SyncFabric
from fabric.core.record import AgentStatus
from tests.clients.bench import PROGRAMS, RUN_S, Bench, call
from tests.clients.conftest import MakeBench, installed
from tests.clients.test_clients import events, status
from tests.support.node import free_port
from tests.support.waiting import until

pytestmark = pytest.mark.slow


def environment(bench: Bench, harness: str) -> dict[str, str]:
    """Return a client's environment, with the client on PATH."""
    programs = bench.root / "bin"
    programs.mkdir(exist_ok=True)
    if not (programs / harness).exists():
        (programs / harness).symlink_to(PROGRAMS[harness])
    found = bench.environment(harness, "DEV")
    return {**found, "PATH": f"{programs}:{found['PATH']}"}


def run(bench: Bench, harness: str, *words: object) -> str:
    """Run a program to its end in the project; return what it prints."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=bench.project,
        env=environment(bench, harness),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout + done.stderr


def fabric_command(bench: Bench, harness: str, *words: str) -> str:
    return run(bench, harness, sys.executable, "-m", "fabric.cli", *words)


def claude(bench: Bench, script: str, *allowed: str) -> list[object]:
    mode = ("--permission-mode", "acceptEdits", "--allowedTools", ",".join(["Write", *allowed]))
    format_ = ("--output-format", "stream-json", "--verbose")
    return [PROGRAMS["claude"], "-p", f"script={script}", *format_, *mode]


@pytest.mark.parametrize("flags", [(), ("--user",)], ids=["repository", "user"])
def test_claude_code_runs_the_hooks_that_init_puts_in(
    make_bench: MakeBench, fabric: SyncFabric, flags: tuple[str, ...]
) -> None:
    bench = make_bench()
    installed("claude")
    fabric_command(bench, "claude", "init", "claude", "--yes", *flags)
    path = str(bench.project / "a.py")
    bench.model.script("s", [{"tools": [call("claude", "write", path, "x\n")]}, {"text": "."}])
    run(bench, "claude", *claude(bench, "s"))
    until(lambda: status(fabric, "DEV") is AgentStatus.COMPLETED)
    assert ("INTENT", "DEV", {"writes": ["a.py"]}) in events(fabric)
    fabric_command(bench, "claude", "init", "--undo", "--yes", *flags)
    assert not (bench.project / ".claude" / "settings.local.json").exists()
    assert not [*Path(bench.environment("claude", "DEV")["HOME"]).glob(".claude/settings.json")]


def test_claude_code_finds_the_marketplace_in_order(make_bench: MakeBench) -> None:
    bench = make_bench()
    installed("claude")
    fabric_command(bench, "claude", "init", "claude", "--yes", "--user")
    marketplace = bench.state / "fabric" / "marketplace"
    for folder in (marketplace, marketplace / "plugins" / "fabric"):
        said = run(bench, "claude", PROGRAMS["claude"], "plugin", "validate", folder)
        assert "Validation passed" in said


def test_codex_runs_the_hooks_of_the_plugin_once_they_are_trusted(
    make_bench: MakeBench, fabric: SyncFabric
) -> None:
    bench = make_bench()
    installed("codex")
    home = Path(bench.environment("codex", "DEV")["HOME"])
    bench._codex(home, "true", "")
    (home / ".codex" / "hooks.json").unlink()
    config = home / ".codex" / "config.toml"
    before = config.read_text().replace("features.plugins = false", "features.plugins = true")
    config.write_text(before)
    words = ("init", "codex", "--user", "--yes")
    assert "only when you trust them" in fabric_command(bench, "codex", *words)
    fabric_command(bench, "codex", *words, "--trust-hooks")
    assert "nothing to change" in fabric_command(bench, "codex", *words)
    bench.model.script("s", [{"tools": [call("codex", "write", "a.py", "x\n")]}, {"text": "."}])
    mode = ("-s", "danger-full-access", "-a", "never", "exec", "--json", "script=s")
    run(bench, "codex", PROGRAMS["codex"], *mode)
    assert ("INTENT", "DEV", {"writes": ["a.py"]}) in events(fabric)
    fabric_command(bench, "codex", "init", "--undo", "--user", "--yes")
    assert config.read_text() == before


def test_with_hooks_and_tools_nothing_is_claimed_twice(
    make_bench: MakeBench, fabric: SyncFabric
) -> None:
    pytest.importorskip("mcp", reason="the extra mcp is not installed")
    bench = make_bench()
    installed("claude")
    fabric_command(bench, "claude", "init", "claude", "mcp", "--yes")
    path = str(bench.project / "a.py")
    tools: list[dict[str, Any]] = [
        {"name": "mcp__fabric__claim", "input": {"paths": ["a.py"]}},
        call("claude", "write", path, "x\n"),
        {"name": "mcp__fabric__status", "input": {}},
    ]
    bench.model.script("s", [*({"tools": [one]} for one in tools), {"text": "."}])
    allowed = ("mcp__fabric__claim", "mcp__fabric__status")
    run(bench, "claude", *claude(bench, "s", *allowed))
    said = events(fabric)
    tokens = {given["token"] for kind, who, given in said if (kind, who) == ("PROCEED", "DEV")}
    assert len(tokens) == 1
    assert {who for _, who, _ in said} <= {"DEV", "orchestrator", "synthesizer", ""}


def test_fabric_run_speaks_for_a_client_with_hooks(
    make_bench: MakeBench, fabric: SyncFabric
) -> None:
    bench = make_bench()
    installed("claude")
    fabric_command(bench, "claude", "init", "claude", "--yes")
    path = str(bench.project / "a.py")
    turns: list[dict[str, Any]] = [
        {"tools": [call("claude", "write", path, "x\n")]},
        {"text": "so:\nPROGRESS(40%)"},
    ]
    bench.model.script("s", turns)
    words = [str(word) for word in claude(bench, "s")]
    fabric_command(bench, "claude", "run", "--agent", "CL", "-q", "--", *words)
    until(lambda: status(fabric, "CL") is AgentStatus.COMPLETED)
    said = [(kind, given) for kind, who, given in events(fabric) if who == "CL"]
    assert ("INTENT", {"writes": ["a.py"]}) in said
    assert any(kind == "PROGRESS" and given == {"percent": 40} for kind, given in said)
    (result,) = [given for kind, given in said if kind == "COMPLETED"]
    assert json.dumps(result).count("PROGRESS(40%)") == 1


@pytest.mark.parametrize("harness", ["codex", "gemini", "opencode"])
def test_each_client_finds_the_tools_that_init_puts_in(
    make_bench: MakeBench, fabric: SyncFabric, harness: str
) -> None:
    pytest.importorskip("mcp", reason="the extra mcp is not installed")
    bench = make_bench()
    words = getattr(bench, f"_{installed(harness)}")
    home = Path(bench.environment(harness, "DEV")["HOME"])
    argv = words(home, bench.hook(harness), "script=s")
    scope = () if harness == "opencode" else ("--user",)
    fabric_command(bench, harness, "init", "mcp", "--yes", *scope)
    given = {"input": {"paths": ["a.py"]}}
    tool = {
        "codex": {"name": "claim", "namespace": "mcp__fabric", **given},
        "gemini": {"name": "mcp_fabric_claim", **given},
        "opencode": {"name": "fabric_claim", **given},
    }[harness]
    if harness == "codex":  # else it begins while its servers still start
        with (home / ".codex" / "config.toml").open("a") as file:
            file.write("required = true\nstartup_timeout_sec = 60\n")
    bench.model.script("s", [{"tools": [tool]}, {"text": "."}])
    run(bench, harness, *argv)
    said = [(kind, given) for kind, who, given in events(fabric) if who == "DEV"]
    intents = [given["writes"] for kind, given in said if kind == "INTENT"]
    assert intents == [["a.py"]]
    assert "granted" in bench.model.told("s")
    until(lambda: status(fabric, "DEV") is AgentStatus.COMPLETED)


def test_claude_code_uses_the_tools_over_http(make_bench: MakeBench, fabric: SyncFabric) -> None:
    pytest.importorskip("mcp", reason="the extra mcp is not installed")
    bench = make_bench()
    installed("claude")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "fabric.cli", "mcp", "--http", f"127.0.0.1:{port}"],
        cwd=bench.project, env=environment(bench, "claude"), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    bench.running.append(server)

    def listens() -> bool:
        with socket.socket() as found:
            return found.connect_ex(("127.0.0.1", port)) == 0

    until(listens, "the server of tools listens", RUN_S)
    entry = {"type": "http", "url": f"http://127.0.0.1:{port}/mcp", "alwaysLoad": True}
    (bench.root / "mcp.json").write_text(
        json.dumps({"mcpServers": {"fabric": {**entry, "headers": {"Fabric-Agent": "WEB"}}}})
    )
    name = "mcp__fabric__claim"
    tool = {"name": name, "input": {"paths": ["a.py"]}}
    bench.model.script("s", [{"tools": [tool]}, {"text": "."}])
    argv = [*claude(bench, "s", name), "--mcp-config", bench.root / "mcp.json"]
    run(bench, "claude", *argv)
    said = [(kind, given) for kind, who, given in events(fabric) if who == "WEB"]
    assert [given["writes"] for kind, given in said if kind == "INTENT"] == [["a.py"]]
