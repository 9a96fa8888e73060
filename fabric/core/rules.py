"""The rules that a session follows, one declaration each, with the defaults.

Pure values. `fabric/config/` reads them from `fabric.toml` and names what is wrong there; the
file's tables and fields, docs/rules.md and `fabric rules show` follow from the declarations below.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct, field

from fabric.core import limits, policy, rule_table
from fabric.core.declaration import TIME_MS_MAX, Declared, Items, Number, Text
from fabric.core.rule_table import (
    TASK_TYPES,
    AgentName,
    Announced,
    Bytes,
    Checkpoints,
    Deadline,
    Domain,
    Merges,
    Name,
    Priority,
    Recipients,
    Sames,
    Time,
    Triggers,
    Unread,
)


class Rules(Struct, frozen=True):
    """What `step` gets besides the session and the signal.

    The order of the fields is part of the digest that names the rules of a session: new ones go to
    the end.
    """

    task_types: Annotated[
        dict[Name, Checkpoints],
        Declared(
            added=True,
            write="in [task_types], a task type = its checkpoints in order, at least one and none "
            'twice: "Code Review" = ["files_read", "issues_found"]',
            example={"Migration": ("schema_read", "migration_written", "migration_tested")},
        ),
        "Checkpoints of each type of task, in order. A file's types are added to the three default "
        "ones; one of the same name replaces its default.",
    ] = field(default_factory=TASK_TYPES.copy)
    checkpoints: Annotated[
        policy.CheckpointMode,
        Declared("checkpoints.mode"),
        'What happens when a checkpoint comes out of order: "observe" logs it, "enforce" refuses '
        "it.",
    ] = policy.CheckpointMode.OBSERVE
    agents_max: Annotated[
        int,
        Number("agents", 1, rule_table.SESSION_MAX),
        Declared("limits.agents_max"),
        "Agents in one session. Further agents are refused.",
    ] = limits.SESSION_AGENTS_MAX
    dependencies_max: Annotated[
        int,
        Number("dependencies", 1, rule_table.SESSION_MAX),
        Declared("limits.dependencies_max"),
        "Dependencies in one session: declared, awaited or resolved.",
    ] = limits.SESSION_DEPENDENCIES_MAX
    tasks_max: Annotated[
        int,
        Number("tasks", 1, rule_table.SESSION_MAX),
        Declared("limits.tasks_max"),
        "Tasks in one session, completed or not.",
    ] = limits.SESSION_TASKS_MAX
    undeclared_grace_ms: Annotated[
        Time,
        Declared("limits.undeclared_grace_ms"),
        "How long agents may wait for something that no agent has declared to produce, before a "
        "question is raised.",
    ] = 30_000

    priorities: Annotated[
        dict[AgentName, Priority],
        Declared(
            write="in [priorities], an agent's name = a whole number from "
            f"-{rule_table.PRIORITY_MAX} to {rule_table.PRIORITY_MAX}",
            example={"ARCHITECT": 10},
        ),
        "An agent's priority, where its STARTED gives none. Higher goes first; 0 is the default.",
    ] = {}
    ageing_ms: Annotated[
        Time,
        Declared("locks.ageing_ms"),
        "Waiting this long is worth one point of priority, so that no agent starves.",
    ] = 10_000
    serialize_reads: Annotated[
        bool,
        Declared("locks.serialize_reads"),
        "Whether a read waits for another agent's overlapping write (true), or the overlap is only "
        "reported (false).",
    ] = False
    preemption: Annotated[
        bool,
        Declared("locks.preemption"),
        "Whether a more urgent agent gets a resource at its holder's next checkpoint.",
    ] = False
    hold_ms_max: Annotated[
        int,
        Number("ms", 0, TIME_MS_MAX, "as long as the holder lives"),
        Declared("locks.hold_ms_max"),
        "Longest time that an agent may hold a resource.",
    ] = 0
    domains: Annotated[
        tuple[Domain, ...],
        Items(0, limits.LIST_ITEMS_MAX, distinct="pattern"),
        Declared(example=(Domain("alembic/**", "ARCHITECT", exclusive=True),)),
        "Paths that belong together: one table for each domain.",
    ] = ()

    barrier_deadline_ms: Annotated[
        Deadline,
        Declared("barriers.deadline_ms"),
        "Time until a barrier's deadline, where INTEGRATION_REQUIRED gives none.",
    ] = 300_000
    barrier_policy: Annotated[
        policy.BarrierPolicy,
        Declared("barriers.policy"),
        'What happens at the deadline, once the missing agents are named: "wait" for them, '
        '"release" the others without them, or "fail" the integration.',
    ] = policy.BarrierPolicy.WAIT
    triggers: Triggers = ()

    # Agents are not that regular: with a factor of 1, every second silence would be a death.
    silence_factor: Annotated[
        int,
        Number("intervals", 2, rule_table.FACTOR_MAX),
        Declared("liveness.silence_factor"),
        "A silent agent counts as dead after this many times its own median interval, but never "
        "before silence_ms_min and always after silence_ms_max.",
    ] = 5
    silence_ms_min: Annotated[
        Time,
        Declared("liveness.silence_ms_min"),
        "Shortest silence after which an agent counts as dead.",
    ] = 60_000
    silence_ms_max: Annotated[
        Time,
        Declared("liveness.silence_ms_max", not_below="silence_ms_min"),
        "Silence after which an agent always counts as dead. It also holds for agents that wait, "
        "and for those that have said too little to have a rhythm.",
    ] = 600_000
    silent_deaths_max: Annotated[
        int,
        Number("deaths", 1, rule_table.DEATHS_MAX),
        Declared("liveness.silent_deaths_max"),
        "After this many deaths by silence in a row, a person decides whether the agent may start "
        "again.",
    ] = 3

    fail_fast: Annotated[
        policy.FailFast,
        Declared("fail_fast.policy"),
        'What an agent\'s failure means for the rest of its parallel group: nothing ("off"), the '
        'end ("cancel"), or a question to a person ("escalate").',
    ] = policy.FailFast.OFF
    fail_fast_groups: Annotated[
        dict[Name, policy.FailFast],
        Declared(
            "fail_fast.groups",
            write='in [fail_fast.groups], a group\'s name = "off", "cancel" or "escalate"',
            example={"reviewers": policy.FailFast.CANCEL},
        ),
        "Parallel groups that have another policy.",
    ] = {}

    hops_max: Annotated[
        int,
        Number("hops", 1, limits.HOPS_MAX),
        Declared("storms.hops_max"),
        "Longest chain of messages that reply to messages. It stops message loops.",
    ] = 32
    signals_per_second_max: Annotated[
        int,
        Number("signals a second", 0, rule_table.SIGNALS_PER_SECOND_MAX, "no limit"),
        Declared("storms.signals_per_second_max"),
        "Signals a second that one agent may send; its first thousand do not count, unless fewer "
        "than that are allowed.",
    ] = 1_000
    hook: Annotated[
        tuple[Annotated[str, Text.ARGUMENT], ...],
        Items(0, rule_table.ARGUMENTS_MAX, program=True),
        Declared(
            "escalations.hook",
            write="a program and its arguments as a list, one string each, since no shell reads "
            'it: ["notify", "--urgent"]',
            example=("notify", "--urgent"),
        ),
        "Program that runs for each new escalation, with its arguments. No shell reads them: each "
        "argument is a text of its own. With an empty list, only `fabric escalations` shows them.",
    ] = ()
    routes: Annotated[
        dict[Annotated[str, Text.SIGNAL_TYPE], Recipients],
        Declared(
            write="in [routes], a signal type = names of agents, at least one and none twice: "
            'COMPLETED = ["AUDITOR"]',
            example={"COMPLETED": ("AUDITOR",), "FAILED": ("AUDITOR", "ON_CALL")},
        ),
        "Agents that get a copy of every signal of a type, besides those that the protocol names.",
    ] = {}

    restart_policy: Annotated[
        policy.RestartPolicy,
        Declared("synthesis.restarts"),
        "What happens to the results of a dead agent when it starts again: it sends them again or "
        'they are dropped ("replace"), or they stay until it replaces them ("keep").',
    ] = policy.RestartPolicy.REPLACE
    merges: Merges = ()
    refiners: Annotated[
        tuple[Name, ...],
        Items(0, rule_table.REFINERS_MAX, unique=True),
        Declared(
            "synthesis.refiners",
            write='a list of names that packages have in fabric.refiners, none twice: ["summary"]',
            example=("summary",),
        ),
        "Programs of yours that turn the growing document into something, such as a summary: names "
        "that installed packages have in fabric.refiners (docs/refiners.md).",
    ] = ()
    markdown: Annotated[
        bool,
        Declared("synthesis.markdown"),
        "Whether reports show what refiners write as Markdown, because you trust them (true), or "
        "as code (false).",
    ] = False
    refine_pause_ms: Annotated[
        Time,
        Declared("synthesis.refine_pause_ms"),
        "Time from a change of the document until a refiner runs on it; so also the shortest time "
        "between two runs on a session.",
    ] = 10_000
    refine_ms_max: Annotated[
        Time,
        Declared("synthesis.refine_ms_max"),
        "Longest time that one run of a refiner may take before it is killed.",
    ] = 120_000

    expect_ms_max: Annotated[
        Announced,
        Declared("liveness.expect_ms_max"),
        "Longest silence that an agent may announce (expect_ms of HEARTBEAT and PROGRESS). A "
        "longer one counts as this, and the agent is told.",
    ] = 3_600_000

    mass_silence_percent: Annotated[
        int,
        Number("percent", 0, 100, "off"),
        Declared("liveness.mass_silence_percent"),
        "When at least this share of the agents of a session or of its partition, and at least "
        "three, fall silent together, the network or their host is the likely cause: a person is "
        "asked instead, and they are given up one at a time, only those that others wait for.",
    ] = 50
    wedged_ms_max: Annotated[
        int,
        Number("ms", 0, TIME_MS_MAX, "as long as it lives"),
        Declared("liveness.wedged_ms_max"),
        "How long an agent may send nothing but HEARTBEAT while others wait for it. Then it gets a "
        "NUDGE; after as long again a person is asked.",
    ] = 600_000

    parallel_max: Annotated[
        int,
        Number("tasks", 0, rule_table.SESSION_MAX, "no limit"),
        Declared("tasks.parallel_max"),
        "Tasks that may run at the same time, in the plan and in the run.",
    ] = 0
    coordinator_tasks_max: Annotated[
        dict[AgentName, Annotated[int, Number("tasks", 1, rule_table.SESSION_MAX)]],
        Declared(
            "tasks.coordinators",
            write="in [tasks.coordinators], a coordinator's name = how many tasks, at least 1",
            example={"ARCHITECT": 2},
        ),
        "Tasks that may run at the same time in all domains of one coordinator. A task runs in the "
        "domains that it writes in.",
    ] = {}
    task_mode: Annotated[
        policy.TaskMode,
        Declared("tasks.mode"),
        "What happens when an agent starts a task that cannot begin now, because others come "
        "before it, or are at work in what it needs, or as many run as may: "
        '"observe" tells it, "enforce" refuses it.',
    ] = policy.TaskMode.ENFORCE
    attempts_max: Annotated[
        int,
        Number("starts", 0, rule_table.ATTEMPTS_MAX, "no limit"),
        Declared("tasks.attempts_max"),
        "How often a task is started. If it is not done then, a person decides whether it is tried "
        "again.",
    ] = 3
    offer_ms: Annotated[
        int,
        Number("ms", 0, TIME_MS_MAX, "as long as the agent lives"),
        Declared("tasks.offer_ms"),
        "How long an agent may take to start a task that it was offered, before the next is asked.",
    ] = 60_000
    progress_factor: Annotated[
        int,
        Number("intervals", 2, rule_table.FACTOR_MAX),
        Declared("tasks.progress_factor"),
        "A task is taken from its agent when it has made no progress for this many times its own "
        "median interval between two steps, or its estimate while it has no pace of its own; never "
        "before progress_ms_min. Signs of life are no progress.",
    ] = 5
    progress_ms_min: Annotated[
        Time,
        Declared("tasks.progress_ms_min"),
        "Shortest time without progress after which a task is taken from its agent.",
    ] = 600_000
    progress_ms_max: Annotated[
        int,
        Number("ms", 0, TIME_MS_MAX, "no limit"),
        Declared("tasks.progress_ms_max"),
        "Time without progress after which a task is always taken from its agent, also one with "
        "neither a pace nor an estimate.",
    ] = 0

    balance: Annotated[
        policy.BalanceMode,
        Declared("tasks.balance"),
        'Which tasks an agent with room is offered: "all", those of its own stream first and then '
        'those of the stream that has most to go; or "stream", those of its own stream or of none.',
    ] = policy.BalanceMode.ALL
    straggler: Annotated[
        policy.StragglerPolicy,
        Declared("tasks.straggler"),
        "What happens when a task of a list is far slower, beside its estimate, than at least two "
        'others of its group or stream: nothing ("off"), its agent is told ("nudge"), another '
        'agent that has room gets it ("second"), or a person is asked ("escalate").',
    ] = policy.StragglerPolicy.NUDGE
    straggler_factor: Annotated[
        int,
        Number("times", 2, rule_table.FACTOR_MAX),
        Declared("tasks.straggler_factor"),
        "A task is far slower when it is more than this many times as slow as the others are on "
        "average.",
    ] = 3
    straggler_ms_min: Annotated[
        Time,
        Declared("tasks.straggler_ms_min"),
        "A task that has less than this time to go at its pace is never far slower.",
    ] = 60_000

    worktrees: Annotated[
        policy.WorktreePolicy,
        Declared("locks.worktrees"),
        "Whether agents in different worktrees or copies of the project exclude each other: one "
        'writes after the other ("same"), or all write at once, and are told which files will have '
        'to be merged ("separate"). Agents in the same copy always exclude each other.',
    ] = policy.WorktreePolicy.SAME
    name_taken: Annotated[
        policy.NamePolicy,
        Declared("agents.name_taken"),
        "What happens when a second process starts under the name of an agent at work: it is "
        'refused ("refuse"), or refused and told a free name, W#2, under which the library goes on '
        '("suffix").',
    ] = policy.NamePolicy.REFUSE
    children: Annotated[
        policy.ChildPolicy,
        Declared("agents.children"),
        "What happens to the sub-agents of an agent that has ended (W/reviewer is one of W): they "
        'go on ("keep"), or are told to stop ("cancel").',
    ] = policy.ChildPolicy.KEEP
    # No decision depends on these: what is at work is never cut, nor is any log.
    ended_ms: Annotated[
        int,
        Number("ms", 0, TIME_MS_MAX, "for ever"),
        Declared("retention.ended_ms"),
        "How long a session is kept in which no agent is at work, or expected by a deadline, and "
        "nothing has happened since. Then it is deleted, as by `fabric purge`.",
    ] = 604_800_000
    sessions_max: Annotated[
        int,
        Number("sessions", 0, rule_table.SESSION_MAX, "no limit"),
        Declared("retention.sessions_max"),
        "Sessions kept in a partition. Of more than these, the least recent go that were closed, "
        "or in which all agents and tasks are done and nobody is expected; none that was active "
        "within recent_ms.",
    ] = 100
    recent_ms: Annotated[
        Time,
        Declared("retention.recent_ms"),
        "How long a session that has ended is kept, however many there are.",
    ] = 3_600_000
    read_events: Annotated[
        int,
        Number("events", 0, rule_table.SESSION_MAX),
        Declared("retention.read_events"),
        "Messages that an agent has read are kept for so many events of the session; the one read "
        "last always is.",
    ] = 1_000
    inbox_max: Annotated[
        int,
        Number("messages", 1_000, rule_table.SESSION_MAX),
        Declared("retention.inbox_max"),
        "Messages kept in one inbox, and in the broadcast of a session, read or not. The oldest "
        "go; the log has them.",
    ] = 100_000
    inbox_bytes: Annotated[
        Bytes,
        Declared("retention.inbox_bytes"),
        "Bytes of the messages kept there.",
    ] = 268_435_456
    revisions_max: Annotated[
        int,
        Number("revisions", 100, rule_table.SESSION_MAX),
        Declared("retention.revisions_max"),
        "Revisions of a synthesis that are kept, the latest ones.",
    ] = 10_000
    dead_ms: Annotated[
        int,
        Number("ms", 0, TIME_MS_MAX, "for ever"),
        Declared("retention.dead_ms"),
        "How long dead letters are kept.",
    ] = 604_800_000
    dead_bytes: Annotated[
        Bytes,
        Declared("retention.dead_bytes"),
        "Bytes of the dead letters of a partition that are kept, the latest ones.",
    ] = 67_108_864
    look_ms: Annotated[
        int,
        Number("ms", 1_000, TIME_MS_MAX),
        Declared("retention.look_ms"),
        "How often a worker looks for what is to go.",
    ] = 60_000
    settle_ms: Annotated[
        int,
        Number("ms", 0, TIME_MS_MAX, "at once"),
        Declared("runs.settle_ms"),
        "How long all agents must have ended before a run without a roster counts as over, in "
        "`fabric wait --all` and in the synthesis. Another may start meanwhile.",
    ] = limits.SETTLE_MS
    inference: Annotated[
        policy.InferencePolicy,
        Declared("dependencies.inferred"),
        "When an agent sends COMPLETED and has not resolved all that it was to produce: "
        '"allow" counts the rest as resolved and marks it, "refuse" refuses the COMPLETED.',
    ] = policy.InferencePolicy.ALLOW
    cancelled_deliver: Annotated[
        bool,
        Declared("fail_fast.cancelled_deliver"),
        "Whether the COMPLETED of an agent that was told to stop resolves what it was to produce. "
        "DEPENDENCY_RESOLVED always does.",
    ] = False

    contradict_on: Annotated[
        tuple[Name, ...],
        Items(0, limits.LIST_ITEMS_MAX, unique=True),
        Declared("synthesis.contradict_on", example=("severity",)),
        "Fields of typed findings that contradict each other when agents differ on them, as values "
        "do. All others are merged.",
    ] = ()

    same: Sames = ()
    unread_ms_max: Annotated[
        Unread,
        Declared("liveness.unread_ms_max"),
        "How long an agent may go on with an unread PAUSE or CANCEL before a person is asked.",
    ] = 0
    grace_ms: Annotated[
        int,
        Number("ms", 0, TIME_MS_MAX, "each is asked about at once, by itself"),
        Declared("synthesis.grace_ms"),
        "How long agents may settle a contradiction themselves. Then one question names all that "
        "are still open; it is renewed no more often than that.",
    ] = 60_000

    def checkpoint_after(self, task_type: str, checkpoint: str) -> str:
        """Name the checkpoint that follows; the first for "", "" where nothing follows."""
        order = self.task_types.get(task_type, ())
        if checkpoint and checkpoint not in order:
            return ""
        position = order.index(checkpoint) + 1 if checkpoint else 0
        return order[position] if position < len(order) else ""
