"""What goes into a client's configuration: the command line of its hook; OpenCode's plugin."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from fabric.agents.hook import HARNESSES
from fabric.errors import CallerError

#: The script beside this file.
SCRIPT = Path(__file__).with_name("hook.py")

#: The script that wakes an idle client.
FOLLOW = SCRIPT.with_name("follow.py")

#: OpenCode's plugin, with `__COMMAND__` and `__FOLLOW__` where the command lines belong.
PLUGIN = Path(__file__).with_name("opencode.js")


def hook_command(harness: str, *, fail_closed: bool = False) -> str:
    """Return the command line of a client's hook, for a shell. Raises CallerError.

    `-S -E` keep Python from looking for packages and from reading PYTHON… variables: both would
    cost more time than the hook takes.
    """
    return shlex.join(_words(harness, fail_closed=fail_closed))


def opencode_plugin(*, fail_closed: bool = False) -> str:
    """Return the text of `.opencode/plugin/fabric.js`: OpenCode runs plugins, not hooks."""
    words = _words("opencode", fail_closed=fail_closed)
    follow = json.dumps(_follow_words("opencode"))
    text = PLUGIN.read_text().replace("__FOLLOW__", follow)
    return text.replace("__COMMAND__", json.dumps(words))


def follow_command(harness: str) -> str:
    """Return the command line that prints what wakes a client, for a shell."""
    return shlex.join(_follow_words(harness))


def _follow_words(harness: str) -> list[str]:
    return [sys.executable, "-S", "-E", str(FOLLOW), harness]


def _words(harness: str, *, fail_closed: bool) -> list[str]:
    if harness not in HARNESSES:
        raise CallerError(f"{harness!r} is no client with hooks: {', '.join(HARNESSES)}")
    words = [sys.executable, "-S", "-E", str(SCRIPT), harness]
    return [*words, "--fail-closed"] if fail_closed else words
