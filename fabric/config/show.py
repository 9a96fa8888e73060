"""Rules and settings as people read them: a rule file, the example file, records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

import msgspec

from fabric.config.fault import key
from fabric.config.rulebook import Found
from fabric.config.settings import Secret, Settings, Source, variable
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


def explained(found: Found) -> list[str]:
    """Return the lines of a rule file that reads as the same rules again.

    Behind each rule stand its unit, its source, and its default.
    """
    remarks = {}
    for record in rule_records(found):
        remark, default = f"  # {record['unit']}; {record['from']}", record["default"]
        # Tables take lines of their own; their defaults are in the example file.
        if record["from"] != "default" and default != [] and not isinstance(default, dict):
            remark += f"; default {value_text(default)}"
        remarks[record["name"]] = remark
    return [*_lines(document(found.rules), remarks)][:-1]


def rule_records(found: Found) -> list[dict[str, Any]]:
    """Return a record for each rule: value, default, unit, bounds, and where it comes from.

    That is a file and its line, or "default".
    """
    records = []
    for field in fields(Rules):
        line = found.lines.get(tuple(field.key.split(".")))
        place = "default" if line is None else f"{found.path}:{line}"
        records.append(_record(field, getattr(found.rules, field.name), Rules(), place))
    return records


def setting_records(settings: Settings, sources: list[Source]) -> list[dict[str, Any]]:
    """Return a record for each setting. The server's URL may hold a password and is not shown."""
    records = []
    for field in fields(Settings):
        value = getattr(settings, field.name)
        shown = "(not shown)" if isinstance(value, Secret) else value
        places = (one.place(field.name) for one in sources if field.name in one.values)
        record = _record(field, shown, Settings(), next(places, "default"))
        records.append({**record, "variable": variable(field.name)})
    return records


def _record(field: Field, value: Any, defaults: object, source: str) -> dict[str, Any]:
    return {
        "name": field.key,
        "value": _plain(value),
        "default": _plain(getattr(defaults, field.name)),
        "unit": field.hint.unit,
        "bounds": field.hint.bounds,
        "from": source,
        "meaning": field.sentence,
    }


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
        yield from (*_comment(field), f"{field.key.rpartition('.')[2]} = {value_text(value)}")
        return
    yield from ("", *_comment(field))
    if field.hint.is_tables:
        for n, table in enumerate(examples):
            given = {name: item for name, item in table.items() if item not in ("", [], {})}
            yield from ["#~"] * (n > 0)
            yield from (f"#~ {line}" for line in (f"[[{field.key}]]", *_pairs(given)))
    else:
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


def _lines(tables: Mapping[str, Any], remarks: Mapping[str, str], outer: str = "") -> Iterator[str]:
    """Yield the lines of a rule file, with a remark behind each rule."""
    for name, value in tables.items():
        path = f"{outer}{name}"
        remark = remarks.get(path, "")
        if isinstance(value, list):
            for element in value:
                yield from (f"[[{path}]]{remark}", *_pairs(element), "")
            continue
        inner = {field: deep for field, deep in value.items() if _has_tables(deep)}
        yield f"[{path}]{remark}"
        for field, flat in value.items():
            if field not in inner:
                yield f"{key(field)} = {value_text(flat)}{remarks.get(f'{path}.{field}', '')}"
        yield ""
        yield from _lines(inner, remarks, f"{path}.")


def _has_tables(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(item, dict) for item in value)
    )


def _pairs(table: Mapping[str, Any]) -> Iterator[str]:
    return (f"{key(name)} = {value_text(value)}" for name, value in table.items())


def value_text(value: Any) -> str:
    """Return a value as TOML has it."""
    if isinstance(value, dict):
        return f"{{ {', '.join(_pairs(value))} }}" if value else "{}"
    # JSON's texts, numbers, booleans and lists of them are TOML's too.
    return json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, without the fields of tables that are None."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    return [*map(_plain, value)] if isinstance(value, tuple) else value
