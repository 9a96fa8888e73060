"""`fabric init`: configurations of every kind are changed, and restored to the byte."""

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fabric.agents.install.jsonc import parse
from tests.support.git import repository
from tests.support.shell import Shell

OTHER_HOOKS = """{
  // Mine.
  "permissions": {"allow": ["Bash(ls)"]},
  "hooks": {
    "PreToolUse": [
      {"matcher": "Bash", "hooks": [{"type": "command", "command": "mine"}]},
    ],
    "Zed": []
  }, /* the end */
}"""

#: Configurations as people have them; None for no file.
TEXTS = {
    "none": None,
    "empty": b"",
    "blank": b"\n\n",
    "object": b"{}",
    "flat": b'{"theme": "dark"}',
    "no final newline": b'{\n  "theme": "dark"\n}',
    "windows": b'{\r\n\t"z": 1,\r\n\t"a": 2\r\n}\r\n',
    "byte order mark": b'\xef\xbb\xbf{\n "a": 1\n}\n',
    "other hooks": OTHER_HOOKS.encode(),
    "not UTF-8 in a comment": b'{\n  // caf\xe9\n  "a": 1\n}\n',
}

#: Client → its file in a repository, and for the user, from the home.
FILES = {
    "claude": (".claude/settings.local.json", ".claude/settings.json"),
    "codex": (".codex/hooks.json", None),
    "gemini": (".gemini/settings.json", ".gemini/settings.json"),
    "cursor": (".cursor/hooks.json", ".cursor/hooks.json"),
}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Shell]:
    """A shell in a repository of its own, which is also its home, with a state of its own."""
    shell = Shell(repository(tmp_path / "home"))
    # Commands that stand for installed clients: only that they are there counts.
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("claude", "gemini", "opencode"):
        (programs / name).symlink_to("/bin/true")
    shell.variables |= {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PATH": f"{programs}:/usr/bin:/bin",
    }
    yield shell
    shell.close()


def tree(shell: Shell) -> dict[str, tuple[bytes, int]]:
    """Return all files of the home with what is in them, and their modes."""
    return {
        str(path.relative_to(shell.home)): (path.read_bytes(), path.stat().st_mode)
        for path in sorted(shell.home.rglob("*"))
        if path.is_file() and ".git/objects" not in str(path)
    }


def write(shell: Shell, name: str, text: bytes | None) -> Path:
    path = shell.home / name
    if text is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return path


def _cases() -> Iterator[Any]:
    """Each client with each text; all but a few are for the rest of the suite."""
    for client, files in FILES.items():
        for name, text in TEXTS.items():
            for scope, file in enumerate(files):
                is_quick = client == "claude" and name in ("other hooks", "none")
                marks = () if is_quick else (pytest.mark.slow,)
                case = f"{client}-{name}-{('repository', 'user')[scope]}"
                if file is not None:
                    yield pytest.param(client, text, scope, id=case, marks=marks)


@pytest.mark.parametrize(("client", "text", "scope"), [*_cases()])
def test_it_is_put_in_once_and_taken_out_to_the_byte(
    home: Shell, client: str, text: bytes | None, scope: int
) -> None:
    name = FILES[client][scope]
    assert name is not None
    path, flags = write(home, name, text), ("--user",) * scope
    before = tree(home)
    done = home.run("init", client, "--yes", *flags)
    assert done.code == 0, done
    assert f"+++ {path}" in done.out
    assert path.read_bytes() != text
    assert "fabric" in path.read_text(errors="replace")
    first = tree(home)
    again = home.run("init", client, "--yes", *flags)
    assert (again.code, again.out) == (0, ""), again
    assert "nothing to change" in again.err
    assert tree(home) == first
    undone = home.run("init", "--undo", "--yes", *flags)
    assert undone.code == 0, undone
    assert tree(home) == before
    assert not [one for one in home.home.rglob("*") if one.is_dir() and not any(one.iterdir())
                and ".git" not in one.parts]  # fmt: skip


def test_what_others_have_there_stays_and_goes_on_to_count(home: Shell) -> None:
    path = write(home, ".claude/settings.local.json", OTHER_HOOKS.encode())
    home.run("init", "claude", "--yes")
    found = parse(path.read_text()).value
    assert found["hooks"]["PreToolUse"][0]["hooks"][0]["command"] == "mine"
    assert "hook.py claude" in found["hooks"]["PreToolUse"][1]["hooks"][0]["command"]
    assert found["permissions"] == {"allow": ["Bash(ls)"]}


def test_a_file_that_was_edited_since_keeps_what_was_edited(home: Shell) -> None:
    path = write(home, ".claude/settings.local.json", b'{\n  "a": 1\n}\n')
    home.run("init", "claude", "--yes")
    path.write_text(path.read_text().replace("{\n", '{\n  "b": 2,\n', 1))
    assert home.run("init", "--undo", "--yes").code == 0
    assert path.read_text() == '{\n  "b": 2,\n  "a": 1\n}\n'


def test_what_cannot_be_taken_out_is_named(home: Shell) -> None:
    path = write(home, ".gemini/settings.json", b"{}")
    home.run("init", "gemini", "--yes")
    path.write_text(path.read_text().replace("hook.py gemini", "mine", 1))
    done = home.run("init", "--undo", "--yes")
    assert done.code == 4
    assert path.read_text().count("mine") == 1
    assert "hook.py" not in path.read_text()
    assert "was edited since" in done.err


def test_without_consent_nothing_is_changed(home: Shell) -> None:
    before = tree(home)
    done = home.run("init", "claude")
    assert (done.code, tree(home)) == (0, before)
    assert "+++" in done.out
    assert "--yes" in done.err


def test_a_link_stays_and_its_target_is_changed(home: Shell, tmp_path: Path) -> None:
    target = tmp_path / "dotfiles.json"
    target.write_text('{"a": 1}')
    path = home.home / ".gemini" / "settings.json"
    path.parent.mkdir()
    path.symlink_to(target)
    home.run("init", "gemini", "--yes")
    assert path.is_symlink()
    assert "hooks" in json.loads(target.read_text())
    home.run("init", "--undo", "--yes")
    assert (path.is_symlink(), target.read_text()) == (True, '{"a": 1}')


def test_hard_links_are_not_parted(home: Shell, tmp_path: Path) -> None:
    path = write(home, ".gemini/settings.json", b"{}")
    os.link(path, tmp_path / "other")
    home.run("init", "gemini", "--yes")
    assert (tmp_path / "other").samefile(path)
    home.run("init", "--undo", "--yes")
    assert (tmp_path / "other").read_bytes() == b"{}"


def test_a_read_only_file_is_left_alone_and_all_others_are_done(home: Shell) -> None:
    path = write(home, ".claude/settings.local.json", b"{}")
    path.chmod(0o444)
    done = home.run("init", "claude", "gemini", "--yes")
    assert done.code == 4
    assert "read-only" in done.err
    assert path.read_bytes() == b"{}"
    assert (home.home / ".gemini/settings.json").exists()
    assert home.run("init", "--undo", "--yes").code == 0
    assert tree(home)[".claude/settings.local.json"] == (b"{}", 0o100444)
    assert not (home.home / ".gemini").exists()


def test_permissions_are_kept(home: Shell) -> None:
    path = write(home, ".gemini/settings.json", b"{}")
    path.chmod(0o600)
    home.run("init", "gemini", "--yes")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"hooks": 5}', b"\xff\xfe{}"])
def test_what_is_no_configuration_is_refused_and_named(home: Shell, text: bytes) -> None:
    path = write(home, ".claude/settings.local.json", text)
    done = home.run("init", "claude", "--yes")
    assert done.code == 2
    assert str(path) in done.err
    assert path.read_bytes() == text


def test_a_link_to_nothing_is_refused(home: Shell) -> None:
    (home.home / ".cursor").mkdir()
    (home.home / ".cursor" / "hooks.json").symlink_to("nowhere")
    done = home.run("init", "cursor", "--yes")
    assert (done.code, "link to nothing" in done.err) == (4, True)


def test_codex_gets_its_plugin_for_the_user(home: Shell) -> None:
    text = b'model = "x"\n[a]\nb = 1'
    path = write(home, ".codex/config.toml", text)
    before = tree(home)
    home.run("init", "codex", "--user", "--yes")
    found = tomllib.loads(path.read_text())
    assert (found["model"], found["a"]) == ("x", {"b": 1})
    assert found["plugins"]["fabric-codex@signal-fabric"] == {"enabled": True}
    source = Path(found["marketplaces"]["signal-fabric"]["source"])
    listed = json.loads((source / ".claude-plugin/marketplace.json").read_text())
    assert [one["name"] for one in listed["plugins"]] == ["fabric", "fabric-codex"]
    cache = home.home / ".codex/plugins/cache/signal-fabric/fabric-codex/0.1.0"
    hooks = json.loads((cache / "hooks/hooks.json").read_text())["hooks"]
    assert "hook.py codex" in hooks["PreToolUse"][0]["hooks"][0]["command"]
    assert home.run("init", "--undo", "--user", "--yes").code == 0
    assert tree(home) == before
    assert not source.exists()


def test_the_server_of_tools_goes_to_each_client_that_is_there(home: Shell) -> None:
    before = tree(home)
    home.run("init", "gemini", "--yes")
    with_hooks = tree(home)
    home.run("init", "mcp", "--yes")
    settings = json.loads((home.home / ".gemini/settings.json").read_text())
    assert set(settings) == {"hooks", "mcpServers"}
    assert settings["mcpServers"]["fabric"]["args"] == ["-m", "fabric.cli", "mcp"]
    assert "fabric" in json.loads((home.home / ".mcp.json").read_text())["mcpServers"]
    assert json.loads((home.home / "opencode.json").read_text())["mcp"]["fabric"]["enabled"]
    assert not (home.home / ".codex").exists()
    home.run("init", "mcp", "--undo", "--yes")
    assert tree(home) == with_hooks
    home.run("init", "--undo", "--yes")
    assert tree(home) == before


def test_git_gets_its_hook_unless_it_has_another(home: Shell) -> None:
    before = tree(home)
    assert home.run("init", "git", "--yes").code == 0
    hook = home.home / ".git/hooks/pre-commit"
    assert os.access(hook, os.X_OK)
    assert "nothing to change" in home.run("init", "git", "--yes").err
    home.run("init", "--undo", "--yes")
    assert tree(home) == before
    write(home, ".git/hooks/pre-commit", b"#!/bin/sh\n")
    done = home.run("init", "git", "--yes")
    assert (done.code, "guard --staged" in done.err) == (4, True)


def test_without_names_the_clients_that_are_there_are_meant(home: Shell) -> None:
    home.run("init", "--yes")
    assert (home.home / ".claude/settings.local.json").exists()
    assert (home.home / ".opencode/plugin/fabric.js").exists()
    assert not (home.home / ".codex").exists()
    assert not (home.home / ".mcp.json").exists()


def test_without_a_client_it_names_how_to_install_anyway(home: Shell) -> None:
    bare = {"PATH": "/usr/bin:/bin"}
    done = home.run("init", "--yes", **bare)
    assert (done.code, "no coding agent on PATH" in done.err) == (2, True)
    assert "name it: fabric init claude" in done.err
    done = home.run("init", "mcp", "--yes", **bare)
    assert (done.code, "fabric init mcp claude" in done.err) == (2, True)
    done = home.run("init", "all", "--yes", **bare)
    assert (done.code, "no coding agent on PATH" in done.err) == (0, True)
    assert "1 file changed" in done.err
    assert (home.home / ".git/hooks/pre-commit").exists()
    before = tree(home)
    done = home.run("init", "mcp", "claude", "--yes", **bare)
    assert done.code == 0
    assert "fabric" in json.loads((home.home / ".mcp.json").read_text())["mcpServers"]
    home.run("init", "mcp", "claude", "--undo", "--yes", **bare)
    assert tree(home) == before


def test_codex_that_is_not_there_is_named(home: Shell) -> None:
    done = home.run("init", "codex", "--yes", PATH="/usr/bin:/bin")
    assert "codex is not on PATH" in done.err


def test_another_python_replaces_the_hooks_of_the_first(home: Shell) -> None:
    path = write(home, ".claude/settings.local.json", b"{}")
    home.run("init", "claude", "--yes")
    good = path.read_text()
    stale = good.replace("python", "oldpython")
    path.write_text(stale)
    journal = Path(home.variables["XDG_STATE_HOME"], "fabric", "init.json")
    _replace_after(journal, stale.encode())
    home.run("init", "claude", "--yes")
    assert path.read_text() == good


def _replace_after(journal: Path, after: bytes) -> None:
    """Have the journal say that this is what was written."""
    import base64

    said = json.loads(journal.read_text())
    (entries,) = said["changes"].values()
    (entry,) = entries.values()
    entry["after"] = base64.b64encode(after).decode()
    journal.write_text(json.dumps(said))
