"""Rules and settings as people read them: a rule file, the example file, tables for the docs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

import msgspec

from fabric.config.fault import key
from fabric.config.rulebook import Found
from fabric.config.settings import TEXTS, Secret, Settings, Source, flag, variable
from fabric.core.declaration import Field, Number, fields
from fabric.core.rules import Rules

#: Characters of a line of the example file.
_LINE_CHARS_MAX = 100

_EXAMPLE_HEAD = """\
# Every setting and rule with its default, made by `fabric rules show --example`. Copy what you want
# to change to fabric.toml in your project's folder, or to ~/.config/fabric/fabric.toml. Lines that
# begin with #~ are examples. `fabric rules check` names what is wrong in a file, with the line and
# the fix; `fabric rules show` prints the rules in force. Orchestrators read the file when they
# start. docs/rules.md explains more.

# Settings stand above the first table. Flags and environment variables override them.

"""


def document(rules: Rules) -> dict[str, Any]:
    """Return rules as the tables of a file; what a file cannot say, None, is left out."""
    tables: dict[str, Any] = {}
    for field in fields(Rules):
        inner, (*outer, last) = tables, field.key.split(".")
        for part in outer:
            inner = inner.setdefault(part, {})
        value = _plain(getattr(rules, field.name))
        # An empty list of tables written out would have to go before the first table can be added.
        if value or not (outer and field.hint.is_tables):
            inner[last] = value
    return tables


def written(rules: Rules) -> str:
    """Return rules as the text of a rule file, which reads as the same rules again."""
    return "\n".join(_lines(document(rules), {}))


def explained(found: Found) -> list[str]:
    """Return the lines of `written`; behind each its unit, its source, and its default."""
    default = Rules()
    remarks = {}
    for field in fields(Rules):
        source = place(found, field)
        value = _plain(getattr(default, field.name))
        # Tables take lines of their own; their defaults are in the example file.
        other = "" if source == "default" or value in ([], {}) or isinstance(value, dict) else value
        said = f"; default {value_text(other)}" if other != "" else ""
        remarks[field.key] = f"  # {field.hint.unit}; {source}{said}"
    return [*_lines(document(found.rules), remarks)][:-1]


def rule_records(found: Found) -> list[dict[str, Any]]:
    """Return a record for each rule: value, default, unit, bounds, and where it comes from."""
    default = Rules()
    return [
        _record(
            field,
            _plain(getattr(found.rules, field.name)),
            _plain(getattr(default, field.name)),
            place(found, field),
        )
        for field in fields(Rules)
    ]


def place(found: Found, field: Field) -> str:
    """Return where a rule comes from: a file and its line, or "default"."""
    line = found.lines.get(tuple(field.key.split(".")))
    return "default" if line is None else f"{found.path}:{line}"


def setting_records(settings: Settings, sources: list[Source]) -> list[dict[str, Any]]:
    """Return a record for each setting. The server's URL may hold a password and is not shown."""
    default = Settings()
    found = []
    for field in fields(Settings):
        value = getattr(settings, field.name)
        homes = [source for source in sources if field.name in source.values]
        record = _record(
            field,
            "(not shown)" if isinstance(value, Secret) else value,
            getattr(default, field.name),
            homes[0].place(field.name) if homes else "default",
        )
        found.append({**record, "variable": variable(field.name)})
    return found


def example() -> str:
    """Return the example file: every setting and rule, with its default and its sentence."""
    lines = [*_EXAMPLE_HEAD.splitlines()]
    default = Settings()
    for field in fields(Settings):
        value = getattr(default, field.name)
        shown = field.declared.example if value is None else value
        lines += [*_comment(field), f"#~ {field.key} = {value_text(shown)}"]
    tables: dict[str, list[Field]] = {}
    for field in fields(Rules):
        tables.setdefault(field.key.partition(".")[0], []).append(field)
    for name, table in tables.items():
        if any(field.key != name for field in table):
            lines += ["", f"[{name}]"]
        for field in sorted(table, key=_is_table):  # a table's own fields come before inner tables
            lines += _example(field)
    return "\n".join(lines) + "\n"


def _example(field: Field) -> Iterator[str]:
    """Yield a rule as the example file has it."""
    value = _plain(getattr(Rules(), field.name))
    examples = _plain(field.declared.example)
    if not _is_table(field):
        yield from _comment(field)
        yield f"{field.key.rpartition('.')[2]} = {value_text(value)}"
        return
    yield from ("", *_comment(field))
    if field.hint.is_tables:
        for n, table in enumerate(examples):
            yield from ["#~"] * (n > 0)
            yield from (f"#~ {line}" for line in (f"[[{field.key}]]", *_pairs(_filled(table))))
        return
    yield from (f"[{field.key}]", *_pairs(value))
    yield from (f"#~ {line}" for line in _pairs(examples))


def _is_table(field: Field) -> bool:
    return field.hint.is_tables or field.hint.unit == "table"


def _comment(field: Field) -> list[str]:
    """Return what the example file says about a field."""
    hint, declared, said = field.hint, field.declared, field.sentence
    number = hint.note(Number)
    if number is not None:
        said += f" Unit: {number.unit}; {number}."
    elif hint.unit == "list" and declared.example:
        said += f" For example: {value_text(_plain(declared.example))}."
    return wrap(said, _LINE_CHARS_MAX, initial_indent="# ", subsequent_indent="# ")


def _lines(tables: Mapping[str, Any], remarks: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a rule file, with a remark behind each rule."""
    for name, value in tables.items():
        yield from _table_lines(name, value, remarks)


def _table_lines(name: str, value: Any, remarks: Mapping[str, str]) -> Iterator[str]:
    remark = remarks.get(name, "")
    if isinstance(value, list):
        for element in value:
            yield from (f"[[{name}]]{remark}", *_pairs(element), "")
        return
    inner = {field: deep for field, deep in value.items() if _has_tables(deep)}
    yield f"[{name}]{remark}"
    for field, flat in value.items():
        if field not in inner:
            yield f"{key(field)} = {value_text(flat)}{remarks.get(f'{name}.{field}', '')}"
    yield ""
    for field, deep in inner.items():
        yield from _table_lines(f"{name}.{field}", deep, remarks)


def _has_tables(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(item, dict) for item in value)
    )


def _pairs(table: Mapping[str, Any]) -> Iterator[str]:
    return (f"{key(name)} = {value_text(value)}" for name, value in table.items())


def value_text(value: Any) -> str:
    """Return a value as TOML has it."""
    # JSON's texts, numbers, booleans and lists of them are TOML's too.
    return json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, without the fields of tables that are None."""
    plain = msgspec.json.decode(msgspec.json.encode(value))
    if isinstance(plain, list):
        return [_given(item) for item in plain]
    return _given(plain)


def _filled(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if value not in ("", [])}


def _given(table: Any) -> Any:
    if not isinstance(table, dict):
        return table
    return {name: value for name, value in table.items() if value is not None}


def rules_table() -> list[str]:
    """Return the rules as the lines of a Markdown table, the fields of their tables below them."""
    default = Rules()
    rows = ["| rule | default | unit | bounds | meaning |", "|---|---|---|---|---|"]
    for field in fields(Rules):
        rows.append(_row(field.key, field, value_text(_plain(getattr(default, field.name)))))
        if field.hint.is_tables:
            kind = field.hint.inner[0].kind
            for one, info in zip(fields(kind), msgspec.structs.fields(kind), strict=True):
                required = info.default is msgspec.NODEFAULT
                value = "required" if required else value_text(_plain(info.default))
                rows.append(_row(f"{field.key}[].{one.key}", one, value))
    return rows


def settings_table() -> list[str]:
    """Return the settings as the lines of a Markdown table."""
    default = Settings()
    rows = [
        "| setting | variable, flag | default | unit | bounds | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for field in fields(Settings):
        row = _row(field.key, field, value_text(getattr(default, field.name)))
        name, rest = row.removeprefix("| ").split(" | ", 1)
        places = f"`{variable(field.name)}`"
        if field.name in TEXTS or field.declared.worker_flag:
            places += f", `{flag(field.name)}`"
        rows.append(f"| {name} | {places} | {rest}")
    return rows


def _row(name: str, field: Field, default: str) -> str:
    shown = "" if default == "null" else f"`{default}`" if default != "required" else default
    cells = (f"`{name}`", shown, field.hint.unit, field.hint.bounds, field.sentence)
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _record(field: Field, value: Any, default: Any, source: str) -> dict[str, Any]:
    return {
        "name": field.key,
        "value": value,
        "default": default,
        "unit": field.hint.unit,
        "bounds": field.hint.bounds,
        "from": source,
        "meaning": field.sentence,
    }
