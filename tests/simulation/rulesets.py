"""The rules of a run: the defaults, or with everything turned on."""

from __future__ import annotations

from fabric.core.policy import BarrierPolicy, CheckpointMode, FailFast, WorktreePolicy
from fabric.core.rule_table import Domain, Trigger
from fabric.core.rules import Rules

#: By the plan's setting `rules`. Permitted silence is longer than the pauses of a plan's agents.
RULESETS: tuple[Rules, ...] = (
    Rules(),
    Rules(
        preemption=True,
        hold_ms_max=60_000,
        serialize_reads=True,
        ageing_ms=2_000,
        barrier_deadline_ms=90_000,
        barrier_policy=BarrierPolicy.RELEASE,
        silence_ms_min=120_000,
        silence_ms_max=300_000,
    ),
    Rules(
        checkpoints=CheckpointMode.ENFORCE,
        domains=(Domain("src/**", "A", exclusive=True),),
        triggers=(Trigger("migration", tags=("d1",), leader="A"), Trigger("contract", ("d2",))),
        barrier_deadline_ms=60_000,
        barrier_policy=BarrierPolicy.FAIL,
        fail_fast=FailFast.ESCALATE,
        undeclared_grace_ms=10_000,
        wedged_ms_max=20_000,
        routes={"PROGRESS": ("B",)},
    ),
    Rules(
        fail_fast=FailFast.CANCEL,
        silence_factor=3,
        silence_ms_min=30_000,
        silence_ms_max=90_000,
        silent_deaths_max=2,
        hops_max=4,
        signals_per_second_max=20,
        hold_ms_max=20_000,
    ),
    # Of scenes alone: see RANDOM.
    Rules(
        domains=(Domain("src/**", "A"), Domain("db/**", exclusive=True)),
        triggers=(Trigger("release", tags=("release*",)),),
        coordinator_tasks_max={"A": 1},
        parallel_max=3,
        attempts_max=0,
        offer_ms=20_000,
    ),
    # What has ended, and what was read, goes at once.
    Rules(ended_ms=20_000, read_events=0, look_ms=1_000),
    Rules(worktrees=WorktreePolicy.SEPARATE),
    Rules(fail_fast=FailFast.CANCEL, unread_ms_max=20_000),
    Rules(grace_ms=20_000),
)

#: A random plan has one of so many; the rest are for scenes.
RANDOM = 4
