"""The command line that goes into a client's configuration."""

import json
import shlex
import sys

import pytest

from fabric.agents.command import SCRIPT, hook_command, opencode_plugin
from fabric.errors import CallerError


def test_it_names_this_python_and_the_script_of_the_package() -> None:
    words = shlex.split(hook_command("claude"))
    assert words == [sys.executable, "-S", "-E", str(SCRIPT), "claude"]
    assert SCRIPT.is_file()
    assert hook_command("codex", fail_closed=True).endswith(" codex --fail-closed")


def test_the_plugin_of_opencode_runs_the_same() -> None:
    line = next(one for one in opencode_plugin().splitlines() if one.startswith("const COMMAND"))
    words = json.loads(line.partition("=")[2])
    assert words == shlex.split(hook_command("opencode"))


def test_an_unknown_client_is_refused() -> None:
    with pytest.raises(CallerError, match="claude, codex"):
        hook_command("emacs")
