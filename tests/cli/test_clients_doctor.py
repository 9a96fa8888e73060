"""What `fabric doctor` says of each coding agent, and what to do."""

import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.git import repository
from tests.support.shell import Shell


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Shell]:
    """A shell in a repository which is also its home; `claude` and `gemini` are on its PATH."""
    shell = Shell(repository(tmp_path / "home"))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("claude", "gemini"):
        (programs / name).symlink_to("/bin/true")
    shell.variables |= {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PATH": f"{programs}:/usr/bin:/bin",
    }
    yield shell
    shell.close()


def said(shell: Shell, client: str) -> tuple[str, str, str]:
    checks = shell.run("doctor", "--json").json["checks"]
    (found,) = [one for one in checks if one["check"] == client]
    return found["level"], found["found"], found.get("advice", "")


def test_each_step_names_the_next_one(home: Shell) -> None:
    level, found, advice = said(home, "claude")
    assert (level, "no hooks here" in found, advice) == ("ok", True, "fabric init claude")
    home.run("init", "claude", "--yes")
    level, found, advice = said(home, "claude")
    assert (level, "none has run yet" in found, "start claude" in advice) == ("ok", True, True)
    folder = Path(home.variables["XDG_STATE_HOME"], "fabric", "agentd")
    folder.mkdir(parents=True)
    seen = {"event": "PreToolUse", "ms": (time.time() - 125) * 1000, "folder": "/x", "session": "s"}
    (folder / "seen.json").write_text(json.dumps({"claude": seen}))
    level, found, advice = said(home, "claude")
    assert (level, advice) == ("ok", "")
    assert "the last one was PreToolUse, 2 min ago in /x (session s)" in found


def test_hooks_of_a_python_that_is_gone_are_named(home: Shell) -> None:
    home.run("init", "claude", "--yes", "--user")
    path = Path(
        home.variables["XDG_STATE_HOME"], "fabric/marketplace/plugins/fabric/hooks/hooks.json"
    )
    path.write_text(path.read_text().replace("/bin/python", "/bin/gone"))
    level, found, advice = said(home, "claude")
    assert (level, "/bin/gone" in found, "fabric init claude" in advice) == ("warn", True, True)


def test_a_folder_that_gemini_does_not_trust_is_named(home: Shell) -> None:
    home.run("init", "gemini", "--yes")
    level, _, advice = said(home, "gemini")
    assert (level, "trust" in advice) == ("warn", True)
    trusted = home.home / ".gemini/trustedFolders.json"
    trusted.write_text(json.dumps({str(home.home): "TRUST_FOLDER"}))
    assert said(home, "gemini")[0] == "ok"


@pytest.mark.parametrize("name", ["settings.json", "settings.local.json"])
def test_hooks_that_claude_code_is_told_not_to_run_are_named(home: Shell, name: str) -> None:
    home.run("init", "claude", "--yes")
    path = home.home / ".claude" / name
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, "disableAllHooks": True}))
    level, _, advice = said(home, "claude")
    assert (level, f"take `disableAllHooks` out of {path}" in advice) == ("warn", True)
    path.write_text(json.dumps({**known, "disableAllHooks": False}))
    assert said(home, "claude")[0] == "ok"
    path.write_text("[1]")  # no settings, whatever it is
    assert said(home, "claude")[0] == "ok"


def test_a_plugin_that_is_switched_off_is_named(home: Shell) -> None:
    home.run("init", "claude", "--yes", "--user")
    assert said(home, "claude")[0] == "ok"
    path = home.home / ".claude" / "settings.local.json"
    path.write_text(json.dumps({"enabledPlugins": {"fabric@signal-fabric": False}}))
    level, _, advice = said(home, "claude")
    assert (level, "switch fabric@signal-fabric on" in advice) == ("warn", True)
    path.unlink()
    home.run("init", "claude", "--yes")
    path.write_text(
        path.read_text().replace("{", '{"enabledPlugins": {"fabric@signal-fabric": false},', 1)
    )
    assert said(home, "claude")[0] == "ok", "the project has the hooks themselves"


def test_hooks_without_their_client_are_named(home: Shell) -> None:
    home.run("init", "opencode", "cursor", "--yes")
    for client in ("opencode", "cursor"):
        level, found, advice = said(home, client)
        assert (level, "on PATH" in found, "--undo" in advice) == ("warn", True, True)


def test_what_is_not_on_this_machine_is_not_mentioned(home: Shell) -> None:
    checks = home.run("doctor", "--json").json["checks"]
    assert {"codex", "opencode", "cursor"}.isdisjoint(one["check"] for one in checks)


def test_a_python_with_quotes_in_its_path_is_found(home: Shell) -> None:
    """The hooks of another environment, in a folder that a person has named."""
    home.run("init", "claude", "--yes")
    path = home.home / ".claude" / "settings.local.json"
    odd = home.home / 'it\'s a "venv"' / "python"
    odd.parent.mkdir()
    odd.symlink_to(sys.executable)
    found = json.loads(path.read_text())
    for entries in found["hooks"].values():
        for one in entries[0]["hooks"]:
            one["command"] = shlex.join([str(odd), *shlex.split(one["command"])[1:]])
    path.write_text(json.dumps(found))
    level, words, _ = said(home, "claude")
    assert (level, "none has run yet" in words) == ("ok", True)
    odd.unlink()
    level, words, _ = said(home, "claude")
    assert (level, f"call {odd}, which is not there" in words) == ("warn", True)
