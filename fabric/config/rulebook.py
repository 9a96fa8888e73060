"""The rule file: `fabric.toml` → the core's rules, or what is wrong in it and how to put it right.

The file may hold settings too, at its top (`fabric/config/settings.py`); the rules are in tables.
`fabric.example.toml` shows every table.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fabric.config import defaults
from fabric.config.fault import Fault, described, of_pydantic, stray
from fabric.config.place import UnreadableError, line_of, places
from fabric.config.tables import Book
from fabric.config.text import document, rules_of, written
from fabric.core.rules import Rules
from fabric.errors import ConfigError

__all__ = [
    "FILE_BYTES_MAX",
    "SETTINGS",
    "Fault",
    "check",
    "check_file",
    "document",
    "find",
    "load",
    "written",
]

#: Bytes of a rule file: priorities and routes of the largest fleets take some 300 KB; what is
#: longer is no rule file, and would only be read to find that out.
FILE_BYTES_MAX = 1_048_576

#: Top-level keys that are settings. Written down because importing `fabric.config.settings` would
#: import pydantic with it; a test holds the two together.
SETTINGS = frozenset(
    {"redis_url", "namespace", "session", "agent", "stream", "partitions", "lease_ms"}
    | {"batch_signals_max", "batch_bytes_max", "block_ms", "sessions_cached_max", "ingress_max"}
    | {"emit_limit_ms", "heartbeat_ms", "wait_replicas"}
)

#: Faults that are told of one file: who has more has one reason for them all.
FAULTS_MAX = 100


def check(text: str) -> tuple[Rules | None, list[Fault]]:
    """Return the rules that a file's text holds, or None and all its faults, by line.

    Without tables of rules in it, the rules are the defaults. At most FAULTS_MAX faults are told.
    """
    rules, faults, _ = _judge(text)
    return rules, faults


def check_file(path: Path) -> tuple[Rules | None, list[Fault]]:
    """Check the file at a path, as `check` does. Raises OSError when it cannot be read."""
    rules, faults, _ = _judge_file(path)
    return rules, faults


def load(path: Path | None = None) -> Rules:
    """Return the rules of a file; of the first configuration file that has any; or the defaults.

    Raises ConfigError, with the first fault and how many more there are.
    """
    if path is None:
        return find()[0]
    return _sound(path)[0]


def find() -> tuple[Rules, Path | None]:
    """Return the rules in force and the file they are from; None where there are only defaults.

    The project's file counts before the user's, and counts whole: rules are not mixed. Raises
    ConfigError as `load` does.
    """
    for path in defaults.config_files():
        rules, has_rules = _sound(path)
        if has_rules:
            return rules, path
    return Rules(), None


def _sound(path: Path) -> tuple[Rules, bool]:
    try:
        rules, faults, has_rules = _judge_file(path)
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(f"the rule file {path} cannot be read: {why}") from None
    if rules is None:
        more = len(faults) - 1
        others = f" ({more} more: `fabric rules check` shows all)" if more else ""
        raise ConfigError(f"{path}:{faults[0].line}: {faults[0]}{others}")
    return rules, has_rules


def _judge_file(path: Path) -> tuple[Rules | None, list[Fault], bool]:
    with path.open("rb") as file:
        # One more than allowed tells that there is more; devices and pipes have no size to ask for.
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        return None, [_too_long()], False
    try:
        return _judge(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{data[error.start]:02x}, which is no UTF-8"
        return None, [Fault(line, "", found, "the file in UTF-8")], False


def _judge(text: str) -> tuple[Rules | None, list[Fault], bool]:
    """Return rules, faults, and whether there are tables of rules at all."""
    if len(text) > FILE_BYTES_MAX:
        return None, [_too_long()], False
    try:
        lines = places(text)
        found = tomllib.loads(text)
    except UnreadableError as error:
        return None, [Fault(error.line, "", error.found, error.fix)], False
    except (ValueError, RecursionError) as error:  # the parser's own, and what the scan let pass
        return None, [_no_toml(text, str(error))], False
    tables, faults = _sorted_out(found, lines)
    try:
        book = Book.model_validate(tables)
    except ValidationError as error:
        details = error.errors(include_url=False)[:FAULTS_MAX]
        faults += [of_pydantic(detail, lines) for detail in details]
        return None, sorted(faults)[:FAULTS_MAX], True
    return (None if faults else rules_of(book)), sorted(faults), bool(tables)


def _sorted_out(
    found: dict[str, Any], lines: dict[tuple[str | int, ...], int]
) -> tuple[dict[str, Any], list[Fault]]:
    """Part the tables of rules from what else is at the top, and find what is neither."""
    tables = {name: value for name, value in found.items() if name in Book.model_fields}
    strays = [name for name in found if name not in tables and name not in SETTINGS]
    known = sorted(SETTINGS)
    return tables, [
        stray(name, found[name], known, line_of((name,), lines)) for name in strays[:FAULTS_MAX]
    ]


def _too_long() -> Fault:
    found = f"more than {FILE_BYTES_MAX} bytes"
    return Fault(1, "", found, "the rules alone: `fabric rules show` prints what is in force")


def _no_toml(text: str, message: str) -> Fault:
    """Return the parser's complaint, with the line that it names."""
    match = re.fullmatch(r"(?s)(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    if match is None:
        return Fault(1, "", described(message), "TOML")
    # Of TOML's lines: Python's end at more characters than these.
    line = int(match[2]) if match[2] else text.removesuffix("\n").count("\n") + 1
    where = f" at column {match[3]}" if match[3] else " at the end"
    found = f"no TOML: {match[1]}{where}"
    return Fault(line, "", found, 'lines of the form `key = value`, texts in "double quotes"')
