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

#: OpenCode's plugin, with `__COMMAND__` where the command line belongs.
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
    return PLUGIN.read_text().replace("__COMMAND__", json.dumps(words))


def _words(harness: str, *, fail_closed: bool) -> list[str]:
    if harness not in HARNESSES:
        raise CallerError(f"{harness!r} is no client with hooks: {', '.join(HARNESSES)}")
    words = [sys.executable, "-S", "-E", str(SCRIPT), harness]
    return [*words, "--fail-closed"] if fail_closed else words
