"""`fabric init`: configurations of every kind are changed, and restored to the byte."""

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fabric.agents.install.change import Change, Journal
from fabric.agents.install.jsonc import parse
from fabric.errors import NotAllowedError
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


#: What clients and people do with a configuration that has our hooks.
EDITS = {
    "another hook behind ours": lambda found: found["hooks"]["PreToolUse"].append(THEIRS),
    "another hook in our group": lambda found: found["hooks"]["PreToolUse"][-1]["hooks"].append(
        THEIRS["hooks"][0]
    ),
    "another event": lambda found: found["hooks"].update(Notification=[THEIRS]),
    "another member behind ours": lambda found: found.update(permissions={"allow": ["Read"]}),
}
THEIRS: dict[str, Any] = {"hooks": [{"type": "command", "command": "theirs"}]}


@pytest.mark.parametrize("text", [b'{\n  "a": 1\n}\n', OTHER_HOOKS.encode()])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_what_came_after_ours_stays_when_ours_goes(home: Shell, text: bytes, edit: Any) -> None:
    """Clients write the whole file anew, with an indentation of their own."""
    path = write(home, ".claude/settings.local.json", text)
    home.run("init", "claude", "--yes")
    found = parse(path.read_text()).value
    edit(found)
    path.write_text(json.dumps(found, indent=4))
    done = home.run("init", "--undo", "--yes")
    assert (done.code, done.err) == (0, "")
    expected = parse(text.decode()).value
    expected.setdefault("hooks", {}).setdefault("PreToolUse", [{"hooks": []}])
    edit(expected)
    expected["hooks"]["PreToolUse"] = [
        one for one in expected["hooks"]["PreToolUse"] if one["hooks"]
    ]
    kept = {name: value for name, value in expected["hooks"].items() if value or name == "Zed"}
    expected = {**expected, "hooks": kept} if kept else {"a": 1, "permissions": {"allow": ["Read"]}}
    restored = json.loads(path.read_text())
    if edit is EDITS["another hook in our group"]:
        # It stands where it was put: in a group that has the matcher of ours.
        group = restored["hooks"]["PreToolUse"][-1]
        assert group["hooks"][-1] == THEIRS["hooks"][0]
        assert "hook.py" not in path.read_text()
        return
    assert restored == expected


def test_a_file_that_its_client_has_only_indented_anew_is_restored(home: Shell) -> None:
    path = write(home, ".claude/settings.local.json", b'{"a": [1, {"b": "c,}"}],}')
    home.run("init", "claude", "--yes")
    path.write_text(json.dumps(parse(path.read_text()).value, indent=1))
    assert home.run("init", "--undo", "--yes").code == 0
    assert path.read_bytes() == b'{"a": [1, {"b": "c,}"}],}'


def test_a_flag_that_was_added_to_a_hook_stays_and_goes_with_it(home: Shell) -> None:
    path = write(home, ".gemini/settings.json", b"{}")
    home.run("init", "gemini", "--yes")
    text = path.read_text().replace("hook.py gemini", "hook.py gemini --fail-closed")
    path.write_text(text)
    assert "nothing to change" in home.run("init", "gemini", "--yes").err
    assert path.read_text() == text
    assert home.run("init", "--undo", "--yes").code == 0
    assert path.read_bytes() == b"{}"


def test_what_somebody_has_deleted_is_not_brought_back(home: Shell) -> None:
    path = write(home, ".gemini/settings.json", b'{"secret": 1}')
    home.run("init", "gemini", "--yes")
    path.unlink()
    home.run("init", "gemini", "--yes")
    assert "secret" not in path.read_text()
    home.run("init", "--undo", "--yes")
    assert not path.exists()


def test_no_file_but_a_regular_one_is_touched(home: Shell, tmp_path: Path) -> None:
    """A device, say: root would replace the one that a configuration is linked to."""
    os.mkfifo(tmp_path / "pipe")
    for target in (tmp_path / "pipe", tmp_path):
        path = home.home / ".gemini" / "settings.json"
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(target)
        done = home.run("init", "gemini", "--yes")
        assert done.code == 4
        assert f"{path} is no regular file" in done.err
        path.unlink()


@pytest.mark.parametrize("name", [".gemini/settings.json", ".claude/settings.local.json"])
def test_a_read_only_folder_is_left_alone(home: Shell, name: str) -> None:
    path = write(home, name, b"{}")
    path.parent.chmod(0o555)
    done = home.run("init", "claude", "gemini", "--yes")
    path.parent.chmod(0o755)
    assert (done.code, path.read_bytes()) == (4, b"{}")
    assert f"{path}: {path.parent} cannot be written to" in done.err
    assert home.run("init", "--undo", "--yes").code == 0
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_folder_that_is_a_link_to_nothing_is_refused(home: Shell) -> None:
    (home.home / ".gemini").symlink_to("nowhere")
    done = home.run("init", "gemini", "--yes")
    assert (done.code, ".gemini is a link to nothing" in done.err) == (4, True)
    assert "nothing to undo" in home.run("init", "--undo", "--yes").err


def test_a_folder_goes_with_the_last_file_that_was_put_there(home: Shell) -> None:
    before = tree(home)
    home.run("init", "codex", "mcp", "--yes")
    home.run("init", "codex", "--undo", "--yes")
    assert (home.home / ".codex").exists()
    home.run("init", "--undo", "--yes")
    assert tree(home) == before
    assert not (home.home / ".codex").exists()


def test_two_at_once_lose_nothing_of_what_was_there(home: Shell, tmp_path: Path) -> None:
    """One looks at its diff while the other one writes: the journal has both, no file is mixed."""
    journal = Path(home.variables["XDG_STATE_HOME"], "fabric", "init.json")
    one, other = (Journal(name, journal) for name in ("one", "other"))
    for number, kept in enumerate((one, other)):
        path = tmp_path / f"{number}.json"
        path.write_text("{}")
        kept.apply(Change(path, b"{}", b'{"a": 1}'), ["claude"])
    for name in ("one", "other"):
        (path,) = Journal(name, journal).paths()
        assert Journal(name, journal).undo(path) == []
        assert path.read_text() == "{}"
    path.write_text('{"theirs": 1}')
    with pytest.raises(NotAllowedError, match="changed meanwhile"):
        one.apply(Change(path, b"{}", b'{"a": 1}'), ["claude"])
    assert path.read_text() == '{"theirs": 1}'


def test_a_crash_before_the_file_was_written_leaves_nothing_to_undo(
    home: Shell, tmp_path: Path
) -> None:
    path, journal = tmp_path / "a.json", tmp_path / "journal.json"
    path.write_text('{"mine": 1}')
    Journal("x", journal).note(path, b'{"mine": 1}', b'{"mine": 1, "hooks": []}', ["claude"])
    assert Journal("x", journal).undo(path) == []
    assert path.read_text() == '{"mine": 1}'


def test_a_journal_that_cannot_be_read_is_not_written_over(home: Shell) -> None:
    path = Path(home.variables["XDG_STATE_HOME"], "fabric", "init.json")
    path.parent.mkdir(parents=True)
    path.write_text('{"changes": {')
    for words in (("claude",), ("--undo",)):
        done = home.run("init", *words, "--yes")
        assert (done.code, f"{path} cannot be read" in done.err) == (4, True)
    assert path.read_text() == '{"changes": {'


@pytest.mark.parametrize(
    "text", ["mcp_servers = {}", "[mcp_servers]\nfabric.x = 1", "[a", "\ufeff"]
)
def test_a_table_that_cannot_be_added_to_is_refused(home: Shell, text: str) -> None:
    path = write(home, ".codex/config.toml", text.encode())
    done = home.run("init", "mcp", "codex", "--yes")
    found = tomllib.loads(path.read_text().lstrip("\ufeff")) if done.code == 0 else {}
    assert path.read_text() == text or "fabric" in found["mcp_servers"]
    assert done.code == 0 or str(path) in done.err
    home.run("init", "--undo", "--yes")
    assert path.read_text() == text


def test_names_of_all_kinds_are_quoted(tmp_path: Path) -> None:
    """A repository, and a home, with spaces, both quotes, a backslash, an accent and an emoji."""
    odd = tmp_path / 'it\'s a "home" \\ caf\u00e9 \U0001f600'
    shell = Shell(repository(odd), {"XDG_STATE_HOME": str(odd / "state")})
    text = write(shell, ".codex/config.toml", b"a = 1\n")
    before = {name: one for name, one in tree(shell).items() if not name.startswith("state/")}
    for scope in ((), ("--user",)):
        done = shell.run("init", "claude", "codex", "gemini", "mcp", "--yes", *scope)
        assert done.code == 0, done
        found = tomllib.loads(text.read_text())
        assert "fabric" in found["mcp_servers"]
        if scope:
            source = found["marketplaces"]["signal-fabric"]["source"]
            assert source == str(odd / "state/fabric/marketplace")
        assert "hooks in" in shell.run("doctor").out
        assert shell.run("init", "--undo", "--yes", *scope).code == 0
    after = {name: one for name, one in tree(shell).items() if not name.startswith("state/")}
    assert after == before


def test_a_plugin_of_the_users_own_is_not_written_over(home: Shell) -> None:
    path = write(home, ".opencode/plugin/fabric.js", b"export const Mine = 1\n")
    done = home.run("init", "opencode", "--yes")
    assert (done.code, str(path) in done.err) == (4, True)
    assert path.read_bytes() == b"export const Mine = 1\n"


def test_the_diff_shows_what_a_terminal_would_obey(home: Shell) -> None:
    write(home, ".gemini/settings.json", b'{ // \x1b]0;title\x07\n\t"a": 1\n}\n')
    done = home.run("init", "gemini")
    assert "\\x1b]0;title\\x07" in done.out
    assert "\x1b" not in done.out
