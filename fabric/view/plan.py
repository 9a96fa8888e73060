"""A plan for people (lines), for programs (a document), and as a Mermaid diagram."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import msgspec

from fabric.core.conflicts import READ_WRITE, WRITE_WRITE
from fabric.core.limits import listed
from fabric.core.plan import DOMAIN, INTEGRATION, ORDER, Pair, Plan
from fabric.view.text import cell, counted, joined, table

#: Rows of one table for people; the document has all of them.
ROWS_MAX = 40


def document(plan: Plan) -> dict[str, Any]:
    """Return a plan as a document: its fields, and the reason of each pair in words."""
    found: dict[str, Any] = msgspec.to_builtins(plan)
    for pair, shown in zip(plan.pairs, found["pairs"], strict=True):
        shown["reason"] = reason(pair)
    return found


def reason(pair: Pair) -> str:
    """Say why two tasks do not run at the same time."""
    shared = listed(pair.resources)
    return {
        ORDER: f"{pair.second} waits for {pair.first}",
        INTEGRATION: f"{pair.first} is the integration {shared}: all streams meet there",
        DOMAIN: f"both are in {shared}, an exclusive domain",
        WRITE_WRITE: f"both write {shared}",
        READ_WRITE: f"{pair.first} writes {shared}, which {pair.second} reads",
    }[pair.kind]


def duration(ms: int) -> str:
    """Return a length of time in ms as `12 s`, `75 min` or `2 h 10 min`."""
    minutes = round(ms / 60_000)
    if minutes < 2:
        return f"{ms / 1000:.3g} s"
    hours, minutes = divmod(minutes, 60) if minutes >= 120 else (0, minutes)
    shown = [f"{hours} h"] if hours else []
    return " ".join([*shown, f"{minutes} min"] if minutes else shown)


def lines(plan: Plan) -> Iterator[str]:
    """Yield a plan for people."""
    tasks = counted(len(plan.schedule), "task")
    done = f" ({len(plan.completed)} more completed)" if plan.completed else ""
    yield f"{tasks}{done}, {counted(len(plan.waves), 'wave')}, {counted(plan.agents, 'agent')}"
    yield (
        f"expected {duration(plan.expected_ms)}, at least {duration(plan.bound_ms)}: "
        f"critical path {duration(plan.critical_ms)}, work {duration(plan.work_ms)}"
    )
    if plan.assumed:
        each = duration(plan.assumed_ms)
        yield f"without an estimate, taken for {each} each: {cell(listed(plan.assumed))}"
    if plan.critical_path:
        yield f"critical path: {joined(plan.critical_path, ' → ')}"
    waves = [(str(at), joined(wave)) for at, wave in enumerate(plan.waves, start=1)]
    yield from _section("", ("wave", "tasks that run together"), waves)
    yield from _section("", ("agent", "tasks in order"), _work_of_agents(plan))
    if any(one.tasks_max for one in plan.capacities):
        rows = [
            (
                one.coordinator or "all",
                str(one.tasks_max or "no limit"),
                str(one.tasks),
                duration(one.work_ms),
            )
            for one in plan.capacities
        ]
        yield from _section("", ("coordinator", "at a time", "tasks", "work"), rows)
    calm = [pair for pair in plan.pairs if not pair.is_conflict]
    header = ("level", "tasks", "reason")
    yield from _section("Not at the same time:", header, map(_row, calm))
    title = "Conflicts to come, unless can_merge_after orders them:"
    yield from _section(title, header, map(_row, plan.conflicts))
    if plan.has_more_pairs:
        yield f"There are more than {len(plan.pairs)} such pairs: these are the first."
    for group, pairs in plan.broken_groups.items():
        shown = listed([f"{first} and {second}" for first, second in pairs])
        yield f"Group {cell(group)} is to run at once, and cannot: {cell(shown)}"


def mermaid(plan: Plan) -> Iterator[str]:
    """Yield a plan as a Mermaid flowchart: waves, orders, and conflicts as dotted lines.

    The critical path is thick. Viewers draw 500 lines by default (`maxEdges`).
    """
    numbers = {slot.task: f"t{number}" for number, slot in enumerate(plan.schedule)}
    integrations = {pair.first for pair in plan.pairs if pair.kind == INTEGRATION}
    critical = set(pairwise(plan.critical_path))
    yield "flowchart LR"
    for at, wave in enumerate(plan.waves, start=1):
        yield f'  subgraph wave{at} ["wave {at}"]'
        for name in wave:
            shape = '{{"%s"}}' if name in integrations else '["%s"]'
            yield f"    {numbers[name]}{shape % _escaped(name)}"
        yield "  end"
    for pair in plan.pairs:
        first, second = numbers[pair.first], numbers.get(pair.second)
        if pair.is_conflict:
            yield f'  {first} -. "{_escaped(reason(pair))}" .- {second}'
        elif pair.kind == ORDER:
            arrow = "==>" if (pair.first, pair.second) in critical else "-->"
            yield f"  {first} {arrow} {second}"


def _row(pair: Pair) -> tuple[str, str, str]:
    between = " → " if pair.kind == ORDER else ", "
    second = "all others" if pair.kind == INTEGRATION else pair.second
    return str(pair.level), cell(f"{pair.first}{between}{second}"), cell(reason(pair))


def _work_of_agents(plan: Plan) -> list[tuple[str, str]]:
    work: dict[int, list[str]] = {}
    for slot in plan.schedule:
        work.setdefault(slot.agent, []).append(slot.task)
    return [(str(agent), joined(work[agent])) for agent in sorted(work)]


def _section(title: str, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield a table with a blank line before it, cut to ROWS_MAX; nothing without rows."""
    every = list(rows)
    if not every:
        return
    yield ""
    if title:
        yield title
    yield from table(header, every[:ROWS_MAX])
    if len(every) > ROWS_MAX:
        yield f"… and {len(every) - ROWS_MAX} more: --json has them all"


def _escaped(text: str) -> str:
    """Return a label that Mermaid reads as text, whatever is in it."""
    return "".join(
        char if char.isalnum() or char in " ._-/:,→*" else f"#{ord(char)};" for char in cell(text)
    )
