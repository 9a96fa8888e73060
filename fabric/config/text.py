"""Rules as a rule file has them: which field is where, and the file written out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from fabric.config.fault import key
from fabric.config.tables import Book
from fabric.core.rules import TASK_TYPES, Domain, Merge, Rules, Trigger

#: Field of `Rules` → where the file has it, in the file's order.
PLACES: dict[str, tuple[str, ...]] = {
    "task_types": ("task_types",),
    "checkpoints": ("checkpoints", "mode"),
    "priorities": ("priorities",),
    "agents_max": ("limits", "agents_max"),
    "dependencies_max": ("limits", "dependencies_max"),
    "tasks_max": ("limits", "tasks_max"),
    "undeclared_grace_ms": ("limits", "undeclared_grace_ms"),
    "ageing_ms": ("locks", "ageing_ms"),
    "serialize_reads": ("locks", "serialize_reads"),
    "preemption": ("locks", "preemption"),
    "hold_ms_max": ("locks", "hold_ms_max"),
    "domains": ("domains",),
    "barrier_deadline_ms": ("barriers", "deadline_ms"),
    "barrier_policy": ("barriers", "policy"),
    "triggers": ("triggers",),
    "silence_factor": ("liveness", "silence_factor"),
    "silence_ms_min": ("liveness", "silence_ms_min"),
    "silence_ms_max": ("liveness", "silence_ms_max"),
    "silent_deaths_max": ("liveness", "silent_deaths_max"),
    "fail_fast": ("fail_fast", "policy"),
    "fail_fast_groups": ("fail_fast", "groups"),
    "hops_max": ("storms", "hops_max"),
    "signals_per_second_max": ("storms", "signals_per_second_max"),
    "routes": ("routes",),
    "restart_policy": ("synthesis", "restarts"),
    "refiners": ("synthesis", "refiners"),
    "refine_pause_ms": ("synthesis", "refine_pause_ms"),
    "refine_ms_max": ("synthesis", "refine_ms_max"),
    "merges": ("synthesis", "merges"),
    "hook": ("escalations", "hook"),
}


def rules_of(book: Book) -> Rules:
    """Return what the tables say, as the core takes it.

    Task types are added to the seeds' (design, section 6); one of the same name replaces it.
    """
    values: dict[str, Any] = {}
    for field, path in PLACES.items():
        value: Any = book
        for part in path:
            value = getattr(value, part)
        values[field] = value
    values["task_types"] = TASK_TYPES | {name: tuple(c) for name, c in book.task_types.items()}
    values["routes"] = {kind.value: tuple(agents) for kind, agents in book.routes.items()}
    values["hook"] = tuple(book.escalations.hook)
    values["refiners"] = tuple(book.synthesis.refiners)
    values["merges"] = tuple(Merge(**merge.model_dump()) for merge in book.synthesis.merges)
    values["domains"] = tuple(Domain(**domain.model_dump()) for domain in book.domains)
    values["triggers"] = tuple(
        Trigger(
            **trigger.model_dump(exclude={"tags", "paths"}),
            tags=tuple(trigger.tags),
            paths=tuple(trigger.paths),
        )
        for trigger in book.triggers
    )
    return Rules(**values)


def document(rules: Rules) -> dict[str, Any]:
    """Return rules as the tables of a file; what a file cannot say, None, is left out."""
    tables: dict[str, Any] = {}
    for field, path in PLACES.items():
        inner = tables
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = msgspec.json.decode(msgspec.json.encode(getattr(rules, field)))
    for trigger in tables["triggers"]:
        if trigger["deadline_ms"] is None:
            del trigger["deadline_ms"]
    if not tables["synthesis"]["merges"]:
        # An empty list written out would have to go before the first table can be added.
        del tables["synthesis"]["merges"]
    return tables


def written(rules: Rules) -> str:
    """Return rules as the text of a rule file, which reads as the same rules again."""
    return "\n".join(
        line for name, value in document(rules).items() for line in _table(name, value)
    )


def _table(name: str, value: dict[str, Any] | list[dict[str, Any]]) -> Iterator[str]:
    if isinstance(value, list):
        for element in value:
            yield from (f"[[{name}]]", *_pairs(element), "")
        return
    inner = {field: deep for field, deep in value.items() if _has_tables(deep)}
    plain = {field: flat for field, flat in value.items() if field not in inner}
    yield from (f"[{name}]", *_pairs(plain), "")
    for field, deep in inner.items():
        yield from _table(f"{name}.{field}", deep)


def _has_tables(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(item, dict) for item in value)
    )


def _pairs(table: Mapping[str, Any]) -> Iterator[str]:
    # JSON's texts, numbers, booleans and lists of them are TOML's too.
    for field, value in table.items():
        yield f"{key(field)} = {json.dumps(value, ensure_ascii=False)}"
