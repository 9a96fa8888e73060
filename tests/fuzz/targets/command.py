"""Command lines: executed, or refused with an error that a person can read.

No command reaches a server: the work that it would do there is dropped.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import AbstractContextManager, ExitStack, redirect_stderr, redirect_stdout, suppress
from typing import Any
from unittest import mock

from fabric.cli import connect, main
from tests.fuzz.entry_bytes import FIELD
from tests.fuzz.tokens import FIELDS, HOSTILE, TYPES
from tests.support.immediate import run_now

ANSWERS: tuple[type[Exception], ...] = ()

#: Commands that only read from a server, or send something to it.
COMMANDS = ("emit", "tail", "inbox", "why", "synthesis", "decide", "dead", "replay", "wait", "keys")

WORDS = [
    *(FIELD, b"=", b"--session", b"-s", b"s", b"--agent", b"-a", b"A", b"--stream", b"--json"),
    *(b"--percent", b"--payload", b"--field", b"--seq", b"--at", b"--when-full", b"--quiet", b"-"),
    *(b"--since", b"--until", b"--count", b"--redis-url", b"redis://h", b"--namespace", b"--help"),
    *(
        b"--revision",
        b"--timeout",
        b"list",
        b"retry",
        b"--all",
        b"--code",
        *FIELDS,
        *TYPES,
        *HOSTILE,
    ),
]

#: Arguments of one command line: click's parser is quadratic in their number.
ARGUMENTS_MAX = 200

_WHO = [b"-s", b"s", b"-a", b"A"]


def seeds() -> list[bytes]:
    """Return good command lines; the first byte selects the command."""
    lines = [
        [b"", b"PROGRESS(25%)", *_WHO, b"--checkpoint", b"files_read"],
        [b"", b"BLOCKED", b"on=x", *_WHO, b"--field", b"reason=why not", b"--seq", b"3"],
        [b"", b'{"type":"STARTED","session":"s","emitter":"A"}', b"--json"],
        [b"", b"-", *_WHO, b"--strict"],
        [b"\x01", b"s", b"--since", b"7-1", b"--all"],
        [b"\x02", b"-s", b"s", b"-a", b"A", b"--count", b"5"],
        [b"\x03", b"A", b"-s", b"s", b"--until", b"1:05"],
        [b"\x04", b"s", b"--revision", b"3", b"--patches"],
        [b"\x05", b"-s", b"s", b"q", b"yes"],
        [b"\x06", b"--code", b"LIMIT"],
    ]
    return [bytes([*line[0], *([] if line[0] else [0])]) + FIELD.join(line[1:]) for line in lines]


def run(data: bytes) -> None:
    """Run a command line."""
    name = COMMANDS[data[0] % len(COMMANDS)] if data else COMMANDS[0]
    given = data[1:].split(FIELD)[:ARGUMENTS_MAX]
    # The operating system passes no NUL in an argument.
    arguments = [os.fsdecode(part.replace(b"\0", b"")) for part in given]
    written, told = io.StringIO(), io.StringIO()
    environment = {"FABRIC_CONFIG": os.devnull, "COLUMNS": "80"}
    patches: list[AbstractContextManager[Any]] = [
        mock.patch.object(connect, "run", run_now),
        mock.patch.object(connect, "open_store", side_effect=_NotSentError),
        mock.patch.object(sys, "argv", ["fabric", name, *arguments]),
        mock.patch.dict(os.environ, environment),
        redirect_stdout(written),
        redirect_stderr(told),
    ]
    with ExitStack() as stack, suppress(_NotSentError):
        for patch in patches:
            stack.enter_context(patch)
        code = main()
        assert code == 0 or told.getvalue(), "it says why"
    for line in (written.getvalue() + told.getvalue()).split("\n"):
        assert line.isprintable(), line


class _NotSentError(Exception):
    """The command would connect to a server now."""
