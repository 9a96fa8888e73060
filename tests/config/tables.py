"""The tables of docs/rules.md, made from the declarations."""

from typing import Any

import msgspec

from fabric.config.rulebook import Found
from fabric.config.settings import TEXTS, Settings, flag, variable
from fabric.config.show import rule_records, setting_records, value_text
from fabric.core.declaration import Field, fields
from fabric.core.rules import Rules


def rules_table(rules: type[Rules] = Rules) -> list[str]:
    """Return the rules as the lines of a Markdown table, the fields of their tables below them."""
    rows = ["| rule | default | unit | bounds | meaning |", "|---|---|---|---|---|"]
    for field, record in zip(fields(rules), rule_records(Found(rules())), strict=True):
        rows.append(row(field.key, *cells(field, record["default"])))
        if field.hint.is_tables:
            kind = field.hint.inner[0].kind
            for one, info in zip(fields(kind), msgspec.structs.fields(kind), strict=True):
                is_made = info.default_factory is not msgspec.NODEFAULT
                default = info.default_factory() if is_made else info.default
                rows.append(row(f"{field.key}[].{one.key}", *cells(one, default)))
    return rows


def settings_table() -> list[str]:
    """Return the settings as the lines of a Markdown table."""
    heads = ("setting", "variable, flag", "default", "unit", "bounds", "meaning")
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for field, record in zip(fields(Settings), setting_records(Settings(), []), strict=True):
        places = f"`{variable(field.name)}`"
        if field.name in TEXTS or field.declared.worker_flag:
            places += f", `{flag(field.name)}`"
        rows.append(row(field.key, places, *cells(field, record["default"])))
    return rows


def cells(field: Field, default: Any) -> tuple[str, ...]:
    """Return what a row says of a field: default, unit, bounds, meaning."""
    if default is msgspec.NODEFAULT:
        shown = "required"
    else:
        shown = "" if default is None else f"`{value_text(default)}`"
    return shown, field.hint.unit, field.hint.bounds, field.sentence


def row(name: str, *cells: str) -> str:
    """Return a row of a Markdown table."""
    escaped = (cell.replace("|", "&#124;") for cell in (f"`{name}`", *cells))
    return f"| {' | '.join(escaped)} |"
