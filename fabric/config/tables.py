"""The tables of the rule file as pydantic checks them: their fields, with bounds and advice.

Each field's description is what a person is told to write there; defaults are those of `Rules`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from fabric.config.field import (
    AMOUNT_ADVICE,
    ARGUMENTS_MAX,
    DEATHS_MAX,
    FACTOR_MAX,
    FAIL_FAST_ADVICE,
    GLOBS_ADVICE,
    HOPS_MAX,
    NAME_ADVICE,
    PRIORITY_MAX,
    REDUCERS_ADVICE,
    SIGNALS_PER_SECOND_MAX,
    SWITCH_ADVICE,
    TIME_ADVICE,
    TIME_OR_NONE_ADVICE,
    AgentName,
    Agents,
    Amount,
    Argument,
    Checkpoints,
    Failing,
    Kind,
    Mode,
    Name,
    Names,
    Pointer,
    Policy,
    Priority,
    ReducerName,
    Refiners,
    Restarting,
    Time,
    TimeOrNone,
    command,
    no_twins,
    optional_agent,
)
from fabric.core.limits import LIST_ITEMS_MAX
from fabric.core.rules import Rules

DEFAULT = Rules()


class Table(BaseModel):
    """A table of rules: only the fields it names, only the types they have."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class CheckpointsTable(Table):
    """What becomes of a checkpoint out of order."""

    mode: Mode = Field(DEFAULT.checkpoints, description='"observe" or "enforce"')


class LimitsTable(Table):
    """What a session may hold."""

    agents_max: Amount = Field(DEFAULT.agents_max, description=AMOUNT_ADVICE)
    dependencies_max: Amount = Field(DEFAULT.dependencies_max, description=AMOUNT_ADVICE)
    tasks_max: Amount = Field(DEFAULT.tasks_max, description=AMOUNT_ADVICE)
    undeclared_grace_ms: Time = Field(DEFAULT.undeclared_grace_ms, description=TIME_ADVICE)


class LocksTable(Table):
    """How conflicts are settled."""

    ageing_ms: Time = Field(DEFAULT.ageing_ms, description=TIME_ADVICE)
    serialize_reads: bool = Field(DEFAULT.serialize_reads, description=SWITCH_ADVICE)
    preemption: bool = Field(DEFAULT.preemption, description=SWITCH_ADVICE)
    hold_ms_max: TimeOrNone = Field(
        DEFAULT.hold_ms_max, description=TIME_OR_NONE_ADVICE.format("as long as the holder lives")
    )


class DomainTable(Table):
    """Paths that belong together."""

    pattern: Name = Field(description='a glob of paths: "alembic/**"')
    coordinator: Annotated[str, AfterValidator(optional_agent)] = Field(
        "", description=f"an agent's name {NAME_ADVICE}"
    )
    exclusive: bool = Field(default=False, description=SWITCH_ADVICE)


class BarriersTable(Table):
    """What holds for barriers that say nothing else."""

    deadline_ms: TimeOrNone = Field(
        DEFAULT.barrier_deadline_ms, description=TIME_OR_NONE_ADVICE.format("no deadline")
    )
    policy: Policy = Field(DEFAULT.barrier_policy, description='"wait", "release" or "fail"')


class TriggerTable(Table):
    """A Level 3 integration point."""

    name: Name = Field(description=f"the barrier's name {NAME_ADVICE}")
    tags: Names = Field([], description=GLOBS_ADVICE.format('"schema-*"'))
    paths: Names = Field([], description=GLOBS_ADVICE.format('"alembic/versions/**"'))
    deadline_ms: TimeOrNone | None = Field(
        None, description=TIME_OR_NONE_ADVICE.format("no deadline")
    )
    leader: Annotated[str, AfterValidator(optional_agent)] = Field(
        "", description=f"an agent's name {NAME_ADVICE}"
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
    silence_ms_min: Time = Field(DEFAULT.silence_ms_min, description=TIME_ADVICE)
    silence_ms_max: Time = Field(
        DEFAULT.silence_ms_max,
        validate_default=True,  # a minimum above the default is as wrong as one above a given value
        description=f"{TIME_ADVICE}, not below silence_ms_min",
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

    policy: Failing = Field(DEFAULT.fail_fast, description=FAIL_FAST_ADVICE)
    groups: dict[Name, Failing] = Field(
        {}, description=f"in [fail_fast.groups], a group's name = {FAIL_FAST_ADVICE}"
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


class MergeTable(Table):
    """How values at places of a synthesis's document are merged."""

    path: Pointer = Field(
        description="a JSON Pointer, which begins with /, or a glob of several: "
        '"/metrics/*/latency"; in it ~0 is ~ and ~1 is /'
    )
    reducer: ReducerName = Field(
        description=f"one of {REDUCERS_ADVICE}, or one that a package has in fabric.reducers"
    )


class SynthesisTable(Table):
    """How results become one document."""

    restarts: Restarting = Field(DEFAULT.restart_policy, description='"replace" or "keep"')
    refiners: Refiners = Field(
        [],
        description="a list of names that packages have in fabric.refiners, none twice: "
        '["summary"]',
    )
    refine_pause_ms: Time = Field(DEFAULT.refine_pause_ms, description=TIME_ADVICE)
    refine_ms_max: Time = Field(DEFAULT.refine_ms_max, description=TIME_ADVICE)
    merges: Annotated[list[MergeTable], Field(max_length=LIST_ITEMS_MAX), no_twins("path")] = Field(
        [], description="[[synthesis.merges]], in two brackets, once for each"
    )


class EscalationsTable(Table):
    """Who is told of escalations."""

    hook: Annotated[list[Argument], Field(max_length=ARGUMENTS_MAX), AfterValidator(command)] = (
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
    domains: Annotated[list[DomainTable], Field(max_length=LIST_ITEMS_MAX), no_twins("pattern")] = (
        Field([], description="[[domains]], in two brackets, once for each")
    )
    barriers: BarriersTable = Field(BarriersTable(), description="[barriers]")
    triggers: Annotated[list[TriggerTable], Field(max_length=LIST_ITEMS_MAX), no_twins("name")] = (
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
    synthesis: SynthesisTable = Field(SynthesisTable(), description="[synthesis]")
    escalations: EscalationsTable = Field(EscalationsTable(), description="[escalations]")
