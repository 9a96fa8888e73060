"""Putting things on paper: tables, JSON lines, ages. Nothing that agents say moves a terminal."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from typing import Any

import click
import msgspec

_encode = msgspec.json.Encoder().encode

#: Characters that a terminal obeys, or that turn or hide what stands beside them, of those that
#: JSON lets stand: DEL and C1, marks of direction, separators of lines, tags.
_MOVING = re.compile(
    "[\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
)


def json_line(value: Any) -> str:
    """Return a value as one line of JSON."""
    return _escaped(_encode(value))


def print_json(value: Any) -> None:
    """Print a value as a JSON document that a person can read too."""
    click.echo(_escaped(msgspec.json.format(_encode(value), indent=2)))


def _escaped(document: bytes) -> str:
    """Return JSON with what moves a terminal escaped: it means the same to every reader."""
    return _MOVING.sub(lambda found: json.dumps(found[0])[1:-1], document.decode())


def print_lines(lines: Iterable[str]) -> None:
    """Print lines at once."""
    text = "\n".join(lines)
    if text:
        click.echo(text)


def ago(ms: int) -> str:
    """Say how long ago a time was: `12 s`, `5 min`, `3 h`, `2 d`."""
    seconds = max(0, time.time() - ms / 1000)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
