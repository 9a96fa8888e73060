"""The rules a session is judged by: data that the rule file fills in, with the seeds' defaults.

Pure values; `fabric/rulebook/` reads them from `fabric.toml` and says what is wrong there.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct, field

from fabric.core.limits import SESSION_AGENTS_MAX, SESSION_DEPENDENCIES_MAX, SESSION_TASKS_MAX

#: Checkpoints per task type, in order (seeds: RESULT_STREAMING, "Checkpoint Definition").
TASK_TYPES: dict[str, tuple[str, ...]] = {
    "Code Review": ("files_read", "issues_found", "recommendations_drafted"),
    "Test Writing": ("coverage_analyzed", "tests_generated", "tests_validated"),
    "Exploration": ("files_searched", "patterns_found", "synthesis_complete"),
}


class CheckpointMode(StrEnum):
    """What becomes of a checkpoint out of order (seeds: adoption phases 2 and 3)."""

    OBSERVE = "observe"
    ENFORCE = "enforce"


class BarrierPolicy(StrEnum):
    """What happens at a barrier's deadline while members are missing."""

    #: Name them, and go on waiting.
    WAIT = "wait"
    #: Name them, and go on without them.
    RELEASE = "release"
    #: Name them, and call the integration off.
    FAIL = "fail"


class FailFast(StrEnum):
    """What one agent's failure means for the rest of its parallel group."""

    OFF = "off"
    CANCEL = "cancel"
    ESCALATE = "escalate"


class RestartPolicy(StrEnum):
    """What becomes of what an incarnation said that has died without completing its work."""

    #: The next incarnation says it again, or it counts no more.
    REPLACE = "replace"
    #: It stands until the agent says otherwise.
    KEEP = "keep"


class Merge(Struct, frozen=True):
    """How values at a place of a synthesis's document are merged.

    `path` is a JSON Pointer, or a glob of several: `/metrics/*/latency`. `reducer` is one of
    `reducer.py`, or one that is installed under the entry point `fabric.reducers`.
    """

    path: str
    reducer: str


class Domain(Struct, frozen=True):
    """Paths that belong together.

    `coordinator` is told of every conflict there. Who writes anywhere in an `exclusive` domain has
    all of it to itself.
    """

    pattern: str
    coordinator: str = ""
    exclusive: bool = False


class Trigger(Struct, frozen=True):
    """A Level 3 integration point (seeds: "Level 3 Integration Points Emit Signals").

    INTEGRATION_REQUIRED follows by itself when an output is resolved whose id is one of `tags` (a
    glob), or whose location matches one of `paths`; or when a task so named is completed.
    """

    name: str
    tags: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    deadline_ms: int | None = None
    #: The agent that integrates; without one, all resume as soon as all have arrived.
    leader: str = ""


class Rules(Struct, frozen=True):
    """What `step` is told besides the session and the signal. Times are ms."""

    task_types: dict[str, tuple[str, ...]] = field(default_factory=TASK_TYPES.copy)
    checkpoints: CheckpointMode = CheckpointMode.OBSERVE
    agents_max: int = SESSION_AGENTS_MAX
    dependencies_max: int = SESSION_DEPENDENCIES_MAX
    tasks_max: int = SESSION_TASKS_MAX
    #: How long agents may wait for something that nobody has declared to produce.
    undeclared_grace_ms: int = 30_000

    #: Agent → priority, where its STARTED gives none.
    priorities: dict[str, int] = {}
    #: Waiting for so long is worth one point of priority: nobody starves.
    ageing_ms: int = 10_000
    #: Whether a read that overlaps another's write waits for it, or is only reported.
    serialize_reads: bool = False
    #: Whether a more urgent agent takes a resource at its holder's next checkpoint.
    preemption: bool = False
    #: Longest time a resource may be held; 0: for as long as the holder lives.
    hold_ms_max: int = 0
    domains: tuple[Domain, ...] = ()

    #: Time to a barrier's deadline, where INTEGRATION_REQUIRED gives none; 0: no deadline.
    barrier_deadline_ms: int = 300_000
    barrier_policy: BarrierPolicy = BarrierPolicy.WAIT
    triggers: tuple[Trigger, ...] = ()

    #: An agent silent for so many times its own median interval is given up for dead …
    silence_factor: int = 5
    #: … but never before this, …
    silence_ms_min: int = 60_000
    #: … and always after this; also who waits, or has said too little to have a rhythm.
    silence_ms_max: int = 600_000
    #: Deaths by silence in a row after which a person decides whether the agent may start again.
    silent_deaths_max: int = 3

    fail_fast: FailFast = FailFast.OFF
    #: Parallel group → policy, where it is another one.
    fail_fast_groups: dict[str, FailFast] = {}

    #: Times that messages may be answered by messages before the chain is cut.
    hops_max: int = 32
    #: Signals a second that one agent may send; 0: no limit.
    signals_per_second_max: int = 0
    #: Program that is told of new escalations, with its arguments; never a shell's line.
    hook: tuple[str, ...] = ()
    #: Signal type → agents that get a copy, besides those the rules name.
    routes: dict[str, tuple[str, ...]] = {}

    #: What becomes of what a dead incarnation has given to the synthesis.
    restart_policy: RestartPolicy = RestartPolicy.REPLACE
    #: How places of the document are merged; of several that match, the first.
    merges: tuple[Merge, ...] = ()
    #: Refiners to run on each session's synthesis, of those under `fabric.refiners`.
    refiners: tuple[str, ...] = ()
    #: Time from one run of a refiner on a session to the next, at least.
    refine_pause_ms: int = 10_000
    #: Longest time that one run of a refiner may take.
    refine_ms_max: int = 120_000

    def checkpoint_after(self, task_type: str, checkpoint: str) -> str:
        """Name the checkpoint that follows; the first for "", "" where nothing follows."""
        order = self.task_types.get(task_type, ())
        if not checkpoint:
            return order[0] if order else ""
        if checkpoint not in order:
            return ""
        position = order.index(checkpoint) + 1
        return order[position] if position < len(order) else ""
