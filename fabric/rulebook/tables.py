"""The tables of the rule file as pydantic checks them: fields, bounds with their reasons, advice.

Each field's description is what a person is told to write there; defaults are those of `Rules`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from fabric.core.limits import LIST_ITEMS_MAX, NAME_CHARS_MAX
from fabric.core.rules import BarrierPolicy, CheckpointMode, FailFast, Rules
from fabric.core.signal import SignalType

#: Longest time, ms: a year. More is a slip of the unit, and sums stay far below what Lua counts.
TIME_MS_MAX = 365 * 86_400_000
#: Most of what a session may hold of one kind. Its state is one thing in memory, read and written
#: whole when it moves: above this, several sessions do better.
SESSION_MAX = 1_000_000
#: Priorities are within what STARTED may give.
PRIORITY_MAX = 1_000_000
#: Longest chain of answers: each hop is a signal, so this many is a loop, whatever it is for.
HOPS_MAX = 10_000
#: More signals a second than one partition takes in: beyond it a limit limits nothing.
SIGNALS_PER_SECOND_MAX = 1_000_000
#: An agent is late every so often; a multiple of its rhythm beyond this is no rhythm.
FACTOR_MAX = 1_000
#: More deaths in a row than this are no reason to wait for still more.
DEATHS_MAX = 1_000
#: Characters of one argument of the hook; a program takes more from a file.
ARGUMENT_CHARS_MAX = 4_096
#: Arguments of the hook.
ARGUMENTS_MAX = 64

DEFAULT = Rules()


def _name(value: str) -> str:
    """Names are those an agent may have: they stand in keys, tables and terminals."""
    if not 1 <= len(value) <= NAME_CHARS_MAX or not value.isprintable() or value != value.strip():
        raise PydanticCustomError(
            "name", "1 to {most} printable characters, no outer spaces", {"most": NAME_CHARS_MAX}
        )
    return value


def _agent(value: str) -> str:
    """`*` means everyone where agents are told things, and is nobody's name."""
    if value == "*":
        raise PydanticCustomError("name", "* is no agent", {})
    return _name(value)


def _optional_agent(value: str) -> str:
    return value and _agent(value)


def _argument(value: str) -> str:
    """The operating system takes no NUL in an argument."""
    if "\0" in value or len(value) > ARGUMENT_CHARS_MAX or not value.isprintable():
        raise PydanticCustomError("argument", "printable text", {})
    return value


def _command(value: list[str]) -> list[str]:
    if value and not value[0].strip():
        raise PydanticCustomError("program", "names no program", {"found": "no program's name"})
    return value


def _unique(value: list[str]) -> list[str]:
    for index, item in enumerate(value):
        if item in value[:index]:
            raise PydanticCustomError("twice", "twice", {"found": f'"{item}" twice'})
    return value


def _no_twins(key: str) -> Any:
    def check(value: list[Any]) -> list[Any]:
        seen: set[str] = set()
        for index, item in enumerate(value):
            text = getattr(item, key)
            if text in seen:
                what = {"found": f'"{text}" once more', "index": index, "key": key}
                raise PydanticCustomError("twin", "twice", what)
            seen.add(text)
        return value

    return AfterValidator(check)


Name = Annotated[str, AfterValidator(_name)]
AgentName = Annotated[str, AfterValidator(_agent)]
Names = Annotated[list[Name], Field(max_length=LIST_ITEMS_MAX), AfterValidator(_unique)]
Checkpoints = Annotated[
    list[Name], Field(min_length=1, max_length=LIST_ITEMS_MAX), AfterValidator(_unique)
]
Agents = Annotated[
    list[AgentName], Field(min_length=1, max_length=LIST_ITEMS_MAX), AfterValidator(_unique)
]
Argument = Annotated[str, AfterValidator(_argument)]
Priority = Annotated[int, Field(ge=-PRIORITY_MAX, le=PRIORITY_MAX)]
Time = Annotated[int, Field(ge=1, le=TIME_MS_MAX)]
TimeOrNone = Annotated[int, Field(ge=0, le=TIME_MS_MAX)]
Amount = Annotated[int, Field(ge=1, le=SESSION_MAX)]
#: TOML has no enumerations: words stand for them. Strictness would take the members only.
Mode = Annotated[CheckpointMode, Field(strict=False)]
Policy = Annotated[BarrierPolicy, Field(strict=False)]
Failing = Annotated[FailFast, Field(strict=False)]
Kind = Annotated[SignalType, Field(strict=False)]

_TIME = f"milliseconds, a whole number from 1 to {TIME_MS_MAX} (a year)"
_TIME_OR_NONE = f"milliseconds, a whole number from 0 ({{}}) to {TIME_MS_MAX} (a year)"
_AMOUNT = f"a whole number from 1 to {SESSION_MAX}"
_SWITCH = "true or false, without quotes"
_NAME = f"of 1 to {NAME_CHARS_MAX} printable characters, in double quotes"
_GLOBS = "a list of globs, none twice: [{}]"
_FAIL_FAST = '"off", "cancel" or "escalate"'


class Table(BaseModel):
    """A table of rules: only the fields it names, only the types they have."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class CheckpointsTable(Table):
    """What becomes of a checkpoint out of order."""

    mode: Mode = Field(DEFAULT.checkpoints, description='"observe" or "enforce"')


class LimitsTable(Table):
    """What a session may hold."""

    agents_max: Amount = Field(DEFAULT.agents_max, description=_AMOUNT)
    dependencies_max: Amount = Field(DEFAULT.dependencies_max, description=_AMOUNT)
    tasks_max: Amount = Field(DEFAULT.tasks_max, description=_AMOUNT)
    undeclared_grace_ms: Time = Field(DEFAULT.undeclared_grace_ms, description=_TIME)


class LocksTable(Table):
    """How conflicts are settled."""

    ageing_ms: Time = Field(DEFAULT.ageing_ms, description=_TIME)
    serialize_reads: bool = Field(DEFAULT.serialize_reads, description=_SWITCH)
    preemption: bool = Field(DEFAULT.preemption, description=_SWITCH)
    hold_ms_max: TimeOrNone = Field(
        DEFAULT.hold_ms_max, description=_TIME_OR_NONE.format("as long as the holder lives")
    )


class DomainTable(Table):
    """Paths that belong together."""

    pattern: Name = Field(description='a glob of paths: "alembic/**"')
    coordinator: Annotated[str, AfterValidator(_optional_agent)] = Field(
        "", description=f"an agent's name {_NAME}"
    )
    exclusive: bool = Field(default=False, description=_SWITCH)


class BarriersTable(Table):
    """What holds for barriers that say nothing else."""

    deadline_ms: TimeOrNone = Field(
        DEFAULT.barrier_deadline_ms, description=_TIME_OR_NONE.format("no deadline")
    )
    policy: Policy = Field(DEFAULT.barrier_policy, description='"wait", "release" or "fail"')


class TriggerTable(Table):
    """A Level 3 integration point."""

    name: Name = Field(description=f"the barrier's name {_NAME}")
    tags: Names = Field([], description=_GLOBS.format('"schema-*"'))
    paths: Names = Field([], description=_GLOBS.format('"alembic/versions/**"'))
    deadline_ms: TimeOrNone | None = Field(None, description=_TIME_OR_NONE.format("no deadline"))
    leader: Annotated[str, AfterValidator(_optional_agent)] = Field(
        "", description=f"an agent's name {_NAME}"
    )


class LivenessTable(Table):
    """When a silent agent is given up for dead."""

    # Agents are not that regular: with a factor of 1, every second silence would be a death.
    silence_factor: int = Field(
        DEFAULT.silence_factor,
        ge=2,
        le=FACTOR_MAX,
        description=f"a whole number from 2 to {FACTOR_MAX}",
    )
    silence_ms_min: Time = Field(DEFAULT.silence_ms_min, description=_TIME)
    silence_ms_max: Time = Field(
        DEFAULT.silence_ms_max,
        validate_default=True,  # a minimum above the default is as wrong as one above a given value
        description=f"{_TIME}, not below silence_ms_min",
    )
    silent_deaths_max: int = Field(
        DEFAULT.silent_deaths_max,
        ge=1,
        le=DEATHS_MAX,
        description=f"a whole number from 1 to {DEATHS_MAX}",
    )

    @field_validator("silence_ms_max")
    @classmethod
    def _in_order(cls, value: int, info: ValidationInfo) -> int:
        least = info.data.get("silence_ms_min")
        if least is not None and value < least:
            found = f"{value}, below silence_ms_min ({least})"
            raise PydanticCustomError("order", "below the minimum", {"found": found})
        return value


class FailFastTable(Table):
    """What one agent's failure means for the rest of its group."""

    policy: Failing = Field(DEFAULT.fail_fast, description=_FAIL_FAST)
    groups: dict[Name, Failing] = Field(
        {}, description=f"in [fail_fast.groups], a group's name = {_FAIL_FAST}"
    )


class StormsTable(Table):
    """What stops agents that never stop."""

    hops_max: int = Field(
        DEFAULT.hops_max, ge=1, le=HOPS_MAX, description=f"a whole number from 1 to {HOPS_MAX}"
    )
    signals_per_second_max: int = Field(
        DEFAULT.signals_per_second_max,
        ge=0,
        le=SIGNALS_PER_SECOND_MAX,
        description=f"a whole number from 0 (no limit) to {SIGNALS_PER_SECOND_MAX}",
    )


class EscalationsTable(Table):
    """Who is told of escalations."""

    hook: Annotated[list[Argument], Field(max_length=ARGUMENTS_MAX), AfterValidator(_command)] = (
        Field(
            [],
            description="a program and its arguments as a list, one string each, since no shell "
            'reads it: ["notify", "--urgent"]',
        )
    )


class Book(Table):
    """All tables."""

    task_types: dict[Name, Checkpoints] = Field(
        {},
        description="in [task_types], a task type = its checkpoints in order, at least one and "
        'none twice: "Code Review" = ["files_read", "issues_found"]',
    )
    checkpoints: CheckpointsTable = Field(CheckpointsTable(), description="[checkpoints]")
    priorities: dict[AgentName, Priority] = Field(
        {},
        description=f"in [priorities], an agent's name = a whole number from -{PRIORITY_MAX} to "
        f"{PRIORITY_MAX}",
    )
    limits: LimitsTable = Field(LimitsTable(), description="[limits]")
    locks: LocksTable = Field(LocksTable(), description="[locks]")
    domains: Annotated[
        list[DomainTable], Field(max_length=LIST_ITEMS_MAX), _no_twins("pattern")
    ] = Field([], description="[[domains]], in two brackets, once for each")
    barriers: BarriersTable = Field(BarriersTable(), description="[barriers]")
    triggers: Annotated[list[TriggerTable], Field(max_length=LIST_ITEMS_MAX), _no_twins("name")] = (
        Field([], description="[[triggers]], in two brackets, once for each")
    )
    liveness: LivenessTable = Field(LivenessTable(), description="[liveness]")
    fail_fast: FailFastTable = Field(FailFastTable(), description="[fail_fast]")
    storms: StormsTable = Field(StormsTable(), description="[storms]")
    routes: dict[Kind, Agents] = Field(
        {},
        description="in [routes], a signal type = names of agents, at least one and none twice: "
        'COMPLETED = ["AUDITOR"]',
    )
    escalations: EscalationsTable = Field(EscalationsTable(), description="[escalations]")
