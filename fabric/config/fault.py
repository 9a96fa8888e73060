"""What is wrong in a rule file, in words: what was found, and what to write instead."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from fabric.config.place import Path, line_of
from fabric.config.tables import (
    BarriersTable,
    Book,
    CheckpointsTable,
    DomainTable,
    EscalationsTable,
    FailFastTable,
    LimitsTable,
    LivenessTable,
    LocksTable,
    MergeTable,
    StormsTable,
    SynthesisTable,
    TriggerTable,
)

#: Characters of a wrong value that a message repeats.
FOUND_CHARS_MAX = 60

#: Table → its fields. Those that are not here have names of the user's as keys.
TABLES: dict[str, type[BaseModel]] = {
    "checkpoints": CheckpointsTable,
    "limits": LimitsTable,
    "locks": LocksTable,
    "domains": DomainTable,
    "barriers": BarriersTable,
    "triggers": TriggerTable,
    "liveness": LivenessTable,
    "fail_fast": FailFastTable,
    "storms": StormsTable,
    "synthesis": SynthesisTable,
    "merges": MergeTable,
    "escalations": EscalationsTable,
}

#: Tables that lie in another one → their headers' names.
WITHIN = {"merges": "synthesis.merges"}


class Fault(NamedTuple):
    """One thing wrong in the file: where, the dotted field (may be ""), and how to put it right."""

    line: int
    field: str
    found: str
    fix: str

    def __str__(self) -> str:
        """Return it in a sentence, without the line."""
        field = f"{self.field}: " if self.field else ""
        return f"{field}found {self.found}; write {self.fix}"


def of_pydantic(error: ErrorDetails, lines: dict[Path, int]) -> Fault:
    """Return a fault that pydantic has found in `Book`."""
    path = tuple(part for part in error["loc"] if part != "[key]")
    context: dict[str, Any] = error.get("ctx", {})
    if "index" in context:
        path = (*path, context["index"], context["key"])
    found = context.get("found") or _found(error)
    return Fault(line_of(path, lines), dotted(path), found, _fix(path, error))


def stray(name: str, value: object, settings: Iterable[str], line: int) -> Fault:
    """Return the fault of a top-level key that is neither a table of rules nor a setting."""
    homes = [table for table, fields in TABLES.items() if name in fields.model_fields]
    if homes and not isinstance(value, dict | list):
        return Fault(
            line,
            dotted((name,)),
            "it outside its table",
            f"it below [{WITHIN.get(homes[0], homes[0])}]",
        )
    tables = [*Book.model_fields]
    is_table = isinstance(value, dict)
    what = "a table that is not known" if is_table else "a setting that is not known"
    return Fault(line, dotted((name,)), what, near(name, tables if is_table else [*settings]))


def near(name: str, known: list[str]) -> str:
    """Return the nearest known name, or all of them."""
    close = get_close_matches(name[:FOUND_CHARS_MAX], known, n=1)
    return f"{close[0]} (did you mean that?)" if close else f"one of {', '.join(known)}"


def dotted(path: Path) -> str:
    """Return a path as TOML has it, list elements left out: the line tells which one."""
    return ".".join(_shown(part) for part in path if isinstance(part, str))


def _shown(name: str) -> str:
    quoted = key(name)
    return quoted if quoted == name else _cut(quoted)


def key(name: str) -> str:
    """Return a key as TOML has it, in quotes where it needs them."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return name
    return json.dumps(name, ensure_ascii=False)


def described(value: object) -> str:
    """Say what a value is, in a few words."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _cut(json.dumps(value, ensure_ascii=False))
    return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= FOUND_CHARS_MAX else f"{text[:FOUND_CHARS_MAX]}…"


def _found(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "nothing"
    if error["type"] == "extra_forbidden":
        return "a field that is not known"
    if error["type"] == "too_long":
        return f"{error['ctx']['actual_length']} of them"
    return described(error["input"])


def _fix(path: Path, error: ErrorDetails) -> str:
    tables = [TABLES[str(part)] for part in path[:-1] if part in TABLES]
    table = tables[-1] if tables else None
    if error["type"] == "extra_forbidden" and table is not None:
        return near(str(path[-1]), [*table.model_fields])
    if error["type"] == "enum" and error["loc"][-1] == "[key]":
        words = re.findall(r"'([^']+)'", error["ctx"]["expected"])
        return near(str(error["input"]), words)
    if error["type"] == "reducer":
        return f'"{error["ctx"]["meant"]}" (did you mean that?)'
    advice = _advice(path)
    if error["type"] == "too_long":
        return f"at most {error['ctx']['max_length']}: {advice}"
    if path == ("escalations", "hook") and isinstance(error["input"], str):
        return f"{advice}; here: {_arguments(error['input'])}"
    if advice.startswith("[") and isinstance(error["input"], list):
        return f"{advice} in single brackets, once"
    if len(path) == 1 and advice.startswith("[") and not advice.startswith("[["):
        return f"{advice} in a line of its own, its fields below it"
    return advice


def _arguments(line: str) -> str:
    """Return a shell's line as a list of arguments, as far as it can be one."""
    try:
        words = shlex.split(line[:FOUND_CHARS_MAX])
    except ValueError:  # a quote that is not closed
        words = line[:FOUND_CHARS_MAX].split()
    return json.dumps(words, ensure_ascii=False)


def _advice(path: Path) -> str:
    """Return the description of the innermost field on a path that has one."""
    fields, advice = Book.model_fields, ""
    for part in path:
        if isinstance(part, str) and part in fields:
            advice = fields[part].description or advice
            table = TABLES.get(part)
            fields = table.model_fields if table is not None else {}
    return advice
