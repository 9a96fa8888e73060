"""What a task needs to itself while it runs, by the rules: for the plan and for the run.

Its claims are those that an agent would make for what the task writes and reads; a task that writes
in a coordinator's domain takes a place of the coordinator's; one that pulls a trigger of the rule
file, by its id or by what it writes, is an integration and runs alone.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from fabric.core.barriers import is_met
from fabric.core.claims import Ask, ask_of, coordinators, named
from fabric.core.limits import SIGNAL_STEPS_MAX
from fabric.core.resource import Index, Meter
from fabric.core.resource_name import normalise
from fabric.core.rules import Rules


class Need(NamedTuple):
    """The claims of a task, the coordinators of its domains, and the trigger that it pulls."""

    ask: Ask
    coordinators: list[str]
    trigger: str


class Needs:
    """The rules with those domains alone that can matter to a task: a fleet may have hundreds.

    Finding those for all tasks takes at most so many steps, unless `measure` begins to count anew.
    """

    def __init__(self, rules: Rules, steps_max: int) -> None:
        self._rules = rules
        self._index = Index()
        self._index.measure(steps_max)
        self._known: dict[frozenset[str], Rules] = {}
        self._exclusive = {normalise(one.pattern) for one in rules.domains if one.exclusive}
        for one in rules.domains:
            self._index.add(normalise(one.pattern))

    def measure(self, steps_max: int) -> None:
        """Count the steps anew."""
        self._index.measure(steps_max)

    def of(self, name: str, writes: list[str], reads: list[str]) -> Need:
        """Return a task's needs. Raises RefusedError or CostlyError when that is too much work."""
        near = self._near(writes)
        ask = ask_of(writes, reads, near)
        leading = coordinators(ask.writes, near) if near.domains else []
        return Need(ask, leading, _trigger(name, writes, self._rules))

    def _near(self, writes: list[str]) -> Rules:
        """Return the rules for what a task writes; one exclusive domain may bring in another."""
        found: set[str] = set()
        todo = named(writes) if len(self._index) else []
        while todo:
            new = set(self._index.overlapping(todo.pop())) - found
            found |= new
            todo += new & self._exclusive
        key = frozenset(found)
        if key not in self._known:
            domains = (one for one in self._rules.domains if normalise(one.pattern) in found)
            self._known[key] = replace(self._rules, domains=tuple(domains))
        return self._known[key]


def _trigger(name: str, writes: list[str], rules: Rules) -> str:
    """Name the trigger that a task pulls by its id, or by what it writes; "" if none."""
    meter = Meter()
    meter.steps_max = SIGNAL_STEPS_MAX
    for one in rules.triggers:
        if any(is_met(one, [name], place, meter) for place in (None, *writes)):
            return one.name
    return ""
