"""What is wrong in a file or a setting, in words: what was found, and what to write instead."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

from fabric.config.settings import Settings
from fabric.config.toml_file import FOUND_CHARS_MAX, Fault, Keys, cut, described, line_of
from fabric.core.declaration import Field, Number, Text, fields
from fabric.core.rules import Rules
from fabric.core.synthesis import merge

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


@cache
def advice() -> dict[tuple[str, ...], str]:
    """Return what to write for each setting, table and field: names from the outside in → words."""
    known: dict[tuple[str, ...], str] = {(field.key,): _meant(field) for field in fields(Settings)}
    for field in fields(Rules):
        *tables, _ = path = tuple(field.key.split("."))
        if tables:
            known.setdefault(tuple(tables), f"[{'.'.join(tables)}]")
        if field.hint.is_tables:
            known[path] = f"[[{field.key}]], in two brackets, once for each"
            inner = fields(field.hint.inner[0].kind)
            known |= {(*path, one.name): _meant(one) for one in inner}
        else:
            known[path] = _meant(field)
    return known


def of_pydantic(error: ErrorDetails, lines: Mapping[Keys, int]) -> Fault:
    """Return a fault that pydantic has found."""
    path = tuple(part for part in error["loc"] if part != "[key]")
    context: dict[str, Any] = error.get("ctx", {})
    if "index" in context:
        path = (*path, context["index"], context["key"])
    found = context.get("found") or _found(path, error)
    return Fault(line_of(path, lines), dotted(path), found, _fix(path, error))


def stray(name: str, value: object, line: int) -> Fault:
    """Return the fault of a top-level key that is neither a table of rules nor a setting."""
    homes = [path for path in advice() if path[-1] == name and len(path) > 1]
    if homes and not isinstance(value, dict | list):
        home = ".".join(homes[0][:-1])
        return Fault(line, dotted((name,)), "it outside its table", f"it below [{home}]")
    kind, known = "setting", sorted(field.key for field in fields(Settings))
    if isinstance(value, dict):
        kind, settings = "table", known
        known = [path[0] for path in advice() if len(path) == 1 and path[0] not in settings]
    return Fault(line, dotted((name,)), f"a {kind} that is not known", near(name, known))


def near(name: str, known: list[str]) -> str:
    """Return the nearest known name, or all of them."""
    close = get_close_matches(name[:FOUND_CHARS_MAX], known, n=1)
    return f"{close[0]} (did you mean that?)" if close else f"one of {', '.join(known)}"


def dotted(path: Keys) -> str:
    """Return a path as TOML has it, list elements left out: the line tells which one."""
    quoted = (key(part) for part in path if isinstance(part, str))
    return ".".join(cut(name) if name.startswith('"') else name for name in quoted)


def key(name: str) -> str:
    """Return a key as TOML has it, in quotes where it needs them."""
    is_bare = re.fullmatch(r"[A-Za-z0-9_-]+", name)
    return name if is_bare else json.dumps(name, ensure_ascii=False)


def _found(path: Keys, error: ErrorDetails) -> str:
    if path == ("redis_url",):
        return "something else than a text"  # never shown: it may hold a password
    if error["type"] == "too_long":
        return f"{error['ctx']['actual_length']} of them"
    known = {"missing": "nothing", "extra_forbidden": "a field that is not known"}
    return known.get(error["type"]) or described(error["input"])


def _fix(path: Keys, error: ErrorDetails) -> str:
    known, names = advice(), tuple(part for part in path if isinstance(part, str))
    if error["type"] == "extra_forbidden":
        return near(names[-1], [one[-1] for one in known if one[:-1] == names[:-1]])
    context: dict[str, Any] = error.get("ctx", {})
    if "fix" in context:
        return str(context["fix"])
    written = next((known[names[:n]] for n in range(len(names), 0, -1) if names[:n] in known), "")
    if error["type"] == "too_long":
        return f"at most {context['max_length']}: {written}"
    if names == ("escalations", "hook") and isinstance(error["input"], str):
        return f"{written}; here: {_arguments(error['input'])}"
    if written.startswith("[") and isinstance(error["input"], list):
        return f"{written} in single brackets, once"
    if len(path) == 1 and written.startswith("[") and not written.startswith("[["):
        return f"{written} in a line of its own, its fields below it"
    return written


def _arguments(line: str) -> str:
    """Return a shell's line as a list of arguments, as far as it can be one."""
    try:
        words = shlex.split(line[:FOUND_CHARS_MAX])
    except ValueError:  # a quote that is not closed
        words = line[:FOUND_CHARS_MAX].split()
    return json.dumps(words, ensure_ascii=False)


def _meant(field: Field) -> str:
    """Return what a person should write for a field."""
    hint, declared = field.hint, field.declared
    text, number = hint.note(Text), hint.note(Number)
    if declared.write:
        return declared.write
    if number is not None:
        unit = "milliseconds, " if number.unit == "ms" else ""
        least = "" if number.le is None else "from "
        order = f", not below {declared.not_below}" if declared.not_below else ""
        return f"{unit}a whole number {least}{number}{order}"
    if text is Text.REDUCER:
        names = ", ".join(f'"{name}"' for name in sorted(merge.KNOWN))
        return f"one of {names}, or one that a package has in fabric.reducers"
    if text is Text.AGENT_OR_NONE:
        return f"an agent's name of {Text.FREE.value}, in double quotes"
    if text is not None:
        return f"a text of {text.value}, in double quotes"
    return hint.bounds + (", without quotes" if hint.kind is bool else "")
