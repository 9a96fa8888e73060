"""Printing: data to stdout, notes to stderr. Nothing that is printed can move a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import click
import msgspec

from fabric.view.text import plain

_encode = msgspec.json.Encoder().encode

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


def note(text: str) -> None:
    """Print a line for the person at the terminal, to stderr."""
    click.echo(f"fabric: {plain(text)}", err=True)
