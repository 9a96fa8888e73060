"""`fabric init` beside others: who edits a file after it, and what it must not touch."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fabric.agents.install.change import Change, Journal
from fabric.agents.install.jsonc import parse
from fabric.errors import NotAllowedError
from tests.cli.test_init import OTHER_HOOKS, home, tree, write
from tests.support.git import repository
from tests.support.shell import Shell

__all__ = ["home"]

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
