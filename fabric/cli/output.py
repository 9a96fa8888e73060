"""Printing: data to stdout, notes to stderr. Nothing that is printed can move a terminal."""

from __future__ import annotations

import array
import asyncio
import fcntl
import json
import re
import select
import stat
import sys
import termios
from collections.abc import Iterable
from os import fstat
from typing import Any

import click
import msgspec

from fabric.view.text import plain

_encode = msgspec.json.Encoder().encode

#: Longest wait for the reader of a pipe to take a line, s: some read only when we have ended.
HAND_OVER_S = 0.2
#: Pause between two looks whether it was taken, s.
_LOOK_S = 0.000_5

#: Characters that JSON allows and that a terminal obeys, or that hide or turn the text beside
#: them: DEL and C1, direction marks, line separators, tags.
_MOVING = re.compile(
    "[\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
)


def json_line(value: Any) -> str:
    """Return a value as one line of JSON."""
    return _escaped(_encode(value))


def print_json(value: Any) -> None:
    """Print a value as an indented JSON document."""
    click.echo(_escaped(msgspec.json.format(_encode(value), indent=2)))


def print_either(as_json: bool, document: Any, lines: Iterable[str]) -> None:
    """Print a document for a program, or else the lines that tell the same to a person."""
    if as_json:
        print_json(document)
    else:
        print_lines(lines)


def _escaped(document: bytes) -> str:
    """Return JSON with the moving characters escaped; every reader decodes the same value."""
    return _MOVING.sub(lambda found: json.dumps(found[0])[1:-1], document.decode())


def print_lines(lines: Iterable[str]) -> None:
    """Print lines in one write; print nothing if there are none."""
    text = "\n".join(lines)
    if text:
        click.echo(text)


async def hand_over(line: str) -> None:
    """Print a line, and return when its reader has it. Raises BrokenPipeError if the reader goes.

    A pipe keeps what its reader has not taken, and loses it with the reader. So on a pipe we wait
    until the line is taken; but not for a reader that takes nothing for `HAND_OVER_S`.
    """
    click.echo(line)
    try:
        output = sys.stdout.fileno()
        is_pipe = stat.S_ISFIFO(fstat(output).st_mode)
    except (AttributeError, OSError, ValueError):  # closed from the start, or none of the system's
        return
    left, loop = array.array("i", [0]), asyncio.get_running_loop()
    deadline = loop.time() + HAND_OVER_S
    while True:
        is_gone = is_reader_gone()
        if is_pipe:
            fcntl.ioctl(output, termios.FIONREAD, left)
        if is_gone and (left[0] or not is_pipe):
            raise BrokenPipeError
        if not left[0] or loop.time() > deadline:
            return
        await asyncio.sleep(_LOOK_S)


def is_reader_gone() -> bool:
    """Whether nobody can read what we print any more."""
    try:
        output = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # closed from the start, or none of the system's
        return False
    poll = select.poll()
    poll.register(output, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def note(text: str) -> None:
    """Print a line for the person at the terminal, to stderr."""
    click.echo(f"fabric: {plain(text)}", err=True)
