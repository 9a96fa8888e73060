"""A bench for real clients: a scripted model, an empty HOME, a git project, and the fabric's hooks.

Each harness is started without a person, with its own endpoint, key and configuration, and with
nothing that asks the network. `scripts/clients` installs the clients.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabric.agents.command import hook_command, opencode_plugin
from tests.clients.scripted_model import Model
from tests.support.project_member import is_gone, until
from tests.support.servers import ROOT

#: Where `scripts/clients` puts the clients.
CACHE = Path(os.environ.get("FABRIC_TEST_CLIENTS") or Path.home() / ".cache" / "fabric-clients")

PROGRAMS = {
    "claude": CACHE / "claude/node_modules/@anthropic-ai/claude-code-linux-x64/claude",
    "codex": CACHE
    / "codex/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex",
    "gemini": CACHE / "gemini/node_modules/@google/gemini-cli/bundle/gemini.js",
    "opencode": CACHE / "opencode/node_modules/opencode-linux-x64/bin/opencode",
}

#: Seconds for a run of a client; OpenCode takes 5 on a quiet machine.
RUN_S = 150.0

_EVENTS = {
    "claude": "SessionStart UserPromptSubmit PreToolUse PostToolUse PostToolUseFailure Stop "
    "StopFailure SubagentStart SubagentStop SessionEnd",
    "codex": "SessionStart UserPromptSubmit PreToolUse PostToolUse Stop PostModelRequest "
    "SessionEnd",
    "gemini": "SessionStart BeforeAgent BeforeTool AfterTool AfterAgent SessionEnd",
}

_CODEX = """model = "gpt-5.5"
model_provider = "fake"
check_for_update_on_startup = false
features.plugins = false
[model_providers.fake]
name = "fake"
base_url = "{url}/v1"
env_key = "FAKE_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
supports_websockets = false
[analytics]
enabled = false
[otel]
exporter = "none"
metrics_exporter = "none"
trace_exporter = "none"
"""

_QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "GEMINI_CLI_TRUST_WORKSPACE": "true",
    "GEMINI_CLI_NO_RELAUNCH": "true",
    "NO_BROWSER": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_SHARE": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "npm_config_offline": "true",
    "npm_config_fetch_retries": "0",
}


@dataclass
class Bench:
    """One project, and the clients that work in it."""

    root: Path
    model: Model
    #: The server; without one no hook is installed.
    redis_url: str | None
    session: str = "demo"
    hook_flags: str = ""
    #: Words before each client's: it runs on another host, say.
    through: tuple[str, ...] = ()
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.project = self.root / "project"
        self.project.mkdir(parents=True)
        self.state = self.root / "state"
        self.git("init", "-q")
        (self.project / ".gitignore").write_text("opencode.json\n.opencode\n.claude\n")
        self.git("add", "-A")
        self.git("commit", "-qm", "start")

    def git(self, *words: str) -> None:
        """Run git in the project."""
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", *who, *words], cwd=self.project, check=True)  # noqa: S607 - git from PATH

    @property
    def agentd(self) -> Path:
        """The folder of the agent daemon."""
        return self.state / "fabric" / "agentd"

    def environment(self, harness: str, agent: str) -> dict[str, str]:
        """Return a client's environment: nothing of the person that runs the tests."""
        home = self.root / f"home-{harness}"
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        found = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "TMPDIR": str(home / "tmp"),
            "CLAUDE_CODE_TMPDIR": str(home / "tmp"),
            "XDG_STATE_HOME": str(self.state),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "CODEX_HOME": str(home / ".codex"),
            "PYTHONPATH": str(ROOT),
            "ANTHROPIC_API_KEY": "test",
            "ANTHROPIC_BASE_URL": self.model.url,
            "FAKE_API_KEY": "test",
            "GEMINI_API_KEY": "test",
            "GOOGLE_GEMINI_BASE_URL": self.model.url,
            "FABRIC_AGENT": agent,
            "FABRIC_SESSION": self.session,
            "FABRIC_CONFIG": os.devnull,
            **_QUIET,
        }
        return found | ({"FABRIC_REDIS_URL": self.redis_url} if self.redis_url else {})

    def start(
        self, harness: str, script: str, agent: str = "DEV", *, through: tuple[str, ...] = ()
    ) -> subprocess.Popen[str]:
        """Start a client on a script, in a process group of its own; `through` another command."""
        environment = self.environment(harness, agent)
        home = Path(environment["HOME"])
        argv = [
            *(through or self.through),
            *getattr(self, f"_{harness}")(home, self.hook(harness), f"script={script}"),
        ]
        with (home / "out").open("w") as out, (home / "err").open("w") as err:
            process = subprocess.Popen(
                [str(word) for word in argv],
                cwd=self.project,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                text=True,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def hook(self, harness: str) -> str:
        """Return the command line of a client's hook."""
        return f"{hook_command(harness)} {self.hook_flags}".strip()

    def run(self, harness: str, script: str, agent: str = "DEV") -> None:
        """Run a client on a script to its end; its exit code must be 0."""
        process = self.start(harness, script, agent)
        code = process.wait(RUN_S)
        err = (self.root / f"home-{harness}" / "err").read_text()[-2000:]
        assert code == 0, err

    def close(self) -> None:
        """End what still runs, the daemon too."""
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        end(self.agentd)

    def _hooks(self, harness: str, hook: str, seconds: int) -> dict[str, Any]:
        if not self.redis_url:
            return {}
        entry = {"type": "command", "command": hook, "timeout": seconds, "name": "fabric"}
        return {event: [{"hooks": [entry]}] for event in _EVENTS[harness].split()}

    def _claude(self, home: Path, hook: str, prompt: str) -> list[Any]:
        settings = home / "settings.json"
        settings.write_text(json.dumps({"hooks": self._hooks("claude", hook, 60)}))
        mode = ("--permission-mode", "acceptEdits", "--allowedTools", "Bash", "Edit", "Write")
        program = [PROGRAMS["claude"], "-p", prompt, "--settings", settings]
        return [*program, "--output-format", "json", *mode]

    def _codex(self, home: Path, hook: str, prompt: str) -> list[Any]:
        folder = home / ".codex"
        folder.mkdir(exist_ok=True)
        (folder / "config.toml").write_text(_CODEX.format(url=self.model.url))
        (folder / "hooks.json").write_text(json.dumps({"hooks": self._hooks("codex", hook, 60)}))
        flags = ("--dangerously-bypass-hook-trust", "-s", "danger-full-access", "-a", "never")
        return [PROGRAMS["codex"], *flags, "exec", "--json", prompt]

    def _gemini(self, home: Path, hook: str, prompt: str) -> list[Any]:
        value = {
            "hooks": self._hooks("gemini", hook, 60_000),
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "privacy": {"usageStatisticsEnabled": False},
            "telemetry": {"enabled": False},
            "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
            # Else it asks the model after 30 turns whether they are a loop, and tries for minutes.
            "model": {"name": "gemini-2.5-flash", "disableLoopDetection": True},
        }
        (home / ".gemini").mkdir(exist_ok=True)
        (home / ".gemini" / "settings.json").write_text(json.dumps(value))
        return ["node", PROGRAMS["gemini"], "-p", prompt, "--approval-mode", "yolo", "-o", "json"]

    def _opencode(self, home: Path, hook: str, prompt: str) -> list[Any]:
        limits = {"context": 100_000, "output": 10_000}
        provider: dict[str, Any] = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "fake",
            "options": {"baseURL": f"{self.model.url}/v1", "apiKey": "test"},
            "models": {"fake": {"name": "fake", "tool_call": True, "limit": limits}},
        }
        value: dict[str, Any] = {"model": "fake/fake", "small_model": "fake/fake"}
        value |= {"provider": {"fake": provider}, "autoupdate": False, "share": "disabled"}
        # Else it runs git at each step, to be able to take it back: half of its time.
        value |= {"snapshot": False, "lsp": False, "formatter": False}
        (self.project / "opencode.json").write_text(json.dumps(value))
        plugins = self.project / ".opencode" / "plugin"
        plugins.mkdir(parents=True, exist_ok=True)
        if self.redis_url:
            flags = "".join(f', "{word}"' for word in self.hook_flags.split())
            text = opencode_plugin().replace('"opencode"]', f'"opencode"{flags}]')
            (plugins / "fabric.js").write_text(text)
        return [PROGRAMS["opencode"], "run", "--auto", "--format", "json", prompt]


def call(harness: str, kind: str, path: str, text: str = "") -> dict[str, Any]:
    """Return a harness's call that reads a file, writes one anew, or runs a command (`path`)."""
    calls: dict[tuple[str, str], dict[str, Any]] = {
        ("claude", "read"): {"name": "Read", "input": {"file_path": path}},
        ("claude", "write"): {"name": "Write", "input": {"file_path": path, "content": text}},
        ("claude", "shell"): {"name": "Bash", "input": {"command": path, "description": "x"}},
        ("codex", "read"): {"name": "exec_command", "input": {"cmd": f"cat {path}"}},
        ("codex", "write"): {
            "name": "apply_patch",
            "raw": f"*** Begin Patch\n*** Add File: {path}\n+{text.strip()}\n*** End Patch",
        },
        ("codex", "shell"): {"name": "exec_command", "input": {"cmd": path}},
        ("gemini", "read"): {"name": "read_file", "input": {"file_path": path}},
        ("gemini", "write"): {"name": "write_file", "input": {"file_path": path, "content": text}},
        ("gemini", "shell"): {
            "name": "run_shell_command",
            "input": {"command": path, "description": "x"},
        },
        ("opencode", "read"): {"name": "read", "input": {"filePath": path}},
        ("opencode", "write"): {"name": "write", "input": {"filePath": path, "content": text}},
        ("opencode", "shell"): {"name": "bash", "input": {"command": path, "description": "x"}},
    }
    return calls[harness, kind]


def end(folder: Path) -> None:
    """End the agent daemon whose files are in a folder, and wait until it is gone."""
    lock = folder / "daemon.lock"
    if not lock.exists() or not (known := lock.read_text().strip()):
        return
    with suppress(ProcessLookupError):
        os.kill(int(known), signal.SIGTERM)
    until(lambda: is_gone(int(known)))
