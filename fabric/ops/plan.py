"""The plan of a file of tasks under the rules in force."""

from __future__ import annotations

from fabric.core.event import RefusedError
from fabric.core.plan import Plan, plan
from fabric.core.resource import CostlyError
from fabric.core.rules import Rules
from fabric.errors import TaskFileError
from fabric.wire.task_file import parse


def plan_file(data: bytes, name: str, rules: Rules, agents: int | None = None) -> Plan:
    """Return the plan of a file of tasks; without `agents`, on as many as can ever help.

    Raises TaskFileError when the file is faulty, or its globs are too much work to compare.
    """
    tasks = parse(data, name)
    try:
        return plan(tasks, rules, agents)
    except RefusedError as error:
        raise TaskFileError(f"{name}: {error}") from None
    except CostlyError:
        raise TaskFileError(
            f"{name}: its resources are too many globs to compare: write plain paths"
        ) from None
