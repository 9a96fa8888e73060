"""The signal types and their typed payloads, as docs/protocol.md lists them.

A payload struct names only the fields that the rules read. All other fields are kept: the raw bytes
travel beside the struct into the log, the inboxes and the results, as the emitter sent them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import dropwhile
from typing import Annotated, Final, get_args

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from fabric.core.limits import (
    SAME_KEYS_MAX,
    SIGNAL_TASKS_MAX,
    Count,
    Deadline,
    Milliseconds,
    Name,
    Names,
    Percent,
    Share,
    Whole,
)
from fabric.core.task import TaskSpec


class Finding(Struct, frozen=True):
    """One finding of a partial result: its key says what it is about, its value what was found.

    It replaces the findings whose keys `supersedes` names, its own key among them or not. With
    `withdrawn` the agent takes back what it has said about the key, and there is no value.

    The fields from `path` on are those of typed findings, of which one needs neither a key nor a
    value (`synthesis/typed.py`). Whatever an agent says there is kept, so any JSON is taken.
    """

    key: Name | UnsetType = UNSET
    value: Raw | UnsetType = UNSET
    evidence: Raw | UnsetType = UNSET
    confidence: Share | UnsetType = UNSET
    supersedes: Name | Names | UnsetType | None = UNSET
    withdrawn: bool = False
    path: Raw | UnsetType = UNSET
    line: Raw | UnsetType = UNSET
    end_line: Raw | UnsetType = UNSET
    rule: Raw | UnsetType = UNSET
    severity: Raw | UnsetType = UNSET
    title: Raw | UnsetType = UNSET
    message: Raw | UnsetType = UNSET
    suggestion: Raw | UnsetType = UNSET
    url: Raw | UnsetType = UNSET
    source: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET

    def __post_init__(self) -> None:
        is_typed = (
            self.path is not UNSET
            or self.rule is not UNSET
            or self.title is not UNSET
            or self.message is not UNSET
        )
        if self.key is UNSET and not is_typed:
            raise ValueError("a `key`, or one of `path`, `rule`, `title` and `message`")
        if self.withdrawn is (self.value is not UNSET) and (self.withdrawn or not is_typed):
            raise ValueError("a `value`, or `withdrawn` as true: one of the two")


#: Members of which a finding needs one if it has no key, or no value.
_TYPED = [{"required": [name]} for name in ("path", "rule", "title", "message")]

#: What `__post_init__` checks, in the JSON Schema too.
_OneFinding = Annotated[
    Finding,
    Meta(
        extra_json_schema={
            "anyOf": [{"required": ["key"]}, *_TYPED],
            "oneOf": [
                {"anyOf": [{"required": ["value"]}, *_TYPED],
                 "properties": {"withdrawn": {"const": False}}},
                {"required": ["withdrawn"], "properties": {"withdrawn": {"const": True}},
                 "not": {"required": ["value"]}},
            ]
        }
    ),
]  # fmt: skip


class Partial(Struct, frozen=True):
    """A partial document: `findings` is typed; every other member is merged as it stands."""

    findings: list[_OneFinding] | UnsetType = UNSET


class Rival(Struct, frozen=True, omit_defaults=True):
    """One of several different values for one thing: the agents that give it, how sure, and why.

    A very large value or evidence is left out; the synthesis has it.
    """

    agents: Annotated[Names, Meta(min_length=1)]
    digest: str
    value: Raw | UnsetType = UNSET
    confidence: float | UnsetType = UNSET
    evidence: Raw | UnsetType = UNSET


class RunClosed(Struct, frozen=True):
    """The run of the session is over; `by` names a person, `reason` says why."""

    reason: str | None = None
    by: Name | None = None


class RunOpened(Struct, frozen=True):
    """A new run of the session begins, with nothing of an earlier one in force.

    `expect` and `deadline_ms` as in AGENTS_EXPECTED.
    """

    by: Name | None = None
    expect: Names = []
    deadline_ms: Deadline | None = None


class AgentsExpected(Struct, frozen=True):
    """These agents belong to the run: it is not over before they have come and ended.

    After `deadline_ms` those that have not come are named, and nobody waits for them any longer.
    """

    agents: Annotated[Names, Meta(min_length=1)]
    deadline_ms: Deadline | None = None
    by: Name | None = None


class Renamed(Struct, frozen=True, rename={"old": "from", "new": "to"}):
    """A file or folder has another name: findings about paths beneath are about the new ones."""

    old: Name
    new: Name
    by: Name | None = None


class SameAs(Struct, frozen=True):
    """The first of these keys of findings is each other one; with `distinct` it is none of them."""

    keys: Annotated[list[Name], Meta(min_length=2, max_length=SAME_KEYS_MAX)]
    distinct: bool = False
    by: Name | None = None


class RunPurged(Struct, frozen=True):
    """Everything of the session is to be deleted; from the synthesizer: its part is."""

    by: Name | None = None


class Synthesized(Struct, frozen=True):
    """The synthesis is final: every known agent has ended, and all their results are in it."""

    revision: Count = 0
    agents: Count = 0
    findings: Count = 0
    contradictions: Count = 0


class Refined(Struct, frozen=True):
    """A refiner's result for the synthesis as it was at a revision; any JSON.

    `markdown`: the rules trust its texts, and reports show them as Markdown.
    """

    refiner: Name
    value: Raw
    revision: Count = 0
    markdown: bool = False


class SignalType(StrEnum):
    """The type of a signal. The value is the word on the wire."""

    STARTED = "STARTED"
    PROGRESS = "PROGRESS"
    PARTIAL_RESULT = "PARTIAL_RESULT"
    BLOCKED = "BLOCKED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CHECKPOINT_REACHED = "CHECKPOINT_REACHED"
    DEPENDENCY_RESOLVED = "DEPENDENCY_RESOLVED"
    CONFLICT_DETECTED = "CONFLICT_DETECTED"
    INTEGRATION_REQUIRED = "INTEGRATION_REQUIRED"
    EARLY_COMPLETION = "EARLY_COMPLETION"
    ESCALATE = "ESCALATE"
    # From here on extensions, with the same envelope.
    HEARTBEAT = "HEARTBEAT"
    INTENT = "INTENT"
    RELEASE = "RELEASE"
    INTEGRATED = "INTEGRATED"
    DECIDED = "DECIDED"
    SYNTHESIZED = "SYNTHESIZED"
    REFINED = "REFINED"
    TASKS_ADDED = "TASKS_ADDED"
    TASK_DONE = "TASK_DONE"
    TASK_RETRY = "TASK_RETRY"
    RUN_CLOSED = "RUN_CLOSED"
    RUN_OPENED = "RUN_OPENED"
    RUN_PURGED = "RUN_PURGED"
    AGENTS_EXPECTED = "AGENTS_EXPECTED"
    RENAMED = "RENAMED"
    SAME_AS = "SAME_AS"


#: The types that this implementation adds to the original protocol.
EXTENSIONS = frozenset(dropwhile(lambda word: word is not SignalType.HEARTBEAT, SignalType))


class Started(Struct, frozen=True):
    """Work has begun; declares what the agent will read, write and produce, and its quotas.

    With `confirm`, here and in COMPLETED, a NOTICE says that it was accepted. `workspace` is the
    copy of the files that it works in, `HOST:TOP`. `takes_over` names the instance, now gone, that
    it replaces (`*`: any). What it had found by the checkpoint `resumes_from` stands.
    """

    task: Name | None = None
    task_type: Name | None = None
    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] = 0
    parallel_group: Name | None = None
    reads: Names = []
    writes: Names = []
    produces: Names = []
    quotas: Names = []
    confirm: bool = False
    workspace: Name | None = None
    takes_over: Name | None = None
    resumes_from: Name | None = None
    heartbeat_ms: Milliseconds | None = None


class Progress(Struct, frozen=True):
    """Partial completion: percent, and the checkpoint passed; `expect_ms` as in HEARTBEAT."""

    percent: Percent | None = None
    checkpoint: Name | None = None
    partial: Partial | None = None
    next_checkpoint: Name | None = None
    expect_ms: Milliseconds | None = None


class PartialResult(Struct, frozen=True):
    """Early findings are available; with `all` they are all that the agent still says."""

    partial: Partial
    checkpoint: Name | None = None
    all: bool = False


class Blocked(Struct, frozen=True):
    """The agent cannot go on without a dependency, a resource, an answer, or a quota.

    `for_ms` says how long a quota is used up: all agents that share it pause.
    """

    on: Name
    reason: str | None = None
    for_ms: Deadline | None = None


class Completed(Struct, frozen=True):
    """Full results are ready; with `all` the agent withdraws what they leave out."""

    result: Raw | UnsetType = UNSET
    confirm: bool = False
    all: bool = False

    def __post_init__(self) -> None:
        if self.all and self.result in (UNSET, Raw(b"null")):
            raise ValueError("a `result` beside `all`: what it leaves out is withdrawn")


class Failed(Struct, frozen=True):
    """Unrecoverable error. To an agent that waits, it also names the dependency that failed."""

    error: str | None = None
    retryable: bool = False
    dependency_id: Name | None = None


class CheckpointReached(Struct, frozen=True):
    """A safe place to pause. With `barrier` and `generation` it counts only for that barrier."""

    checkpoint: Name | None = None
    barrier: Name | None = None
    generation: Count | None = None


class DependencyResolved(Struct, frozen=True):
    """An output is available to the agents that wait for it.

    With `inferred` no agent has said so: its producer has completed without a word about it.
    """

    dependency_id: Name
    output_location: str | None = None
    consumers: Names = []
    inferred: bool | UnsetType = UNSET


class ConflictDetected(Struct, frozen=True, omit_defaults=True):
    """A write collision is imminent; or, of kind `finding`, two statements contradict each other.

    Then `part` is the synthesis's name of what they are about; `values` has the statements. Kind
    `merge`: git cannot merge `resources` of two `copies`, but `clean`; as of log `seen`.
    """

    resources: Names = []
    agents: Names = []
    kind: str | None = None
    part: str | None = None
    values: list[Rival] = []
    copies: Names = []
    clean: Names = []
    seen: Count = 0


class IntegrationRequired(Struct, frozen=True, omit_defaults=True):
    """A milestone: all agents meet at a barrier."""

    name: Name | None = None
    level: Whole | None = None
    deadline_ms: Milliseconds | None = None


class EarlyCompletion(Struct, frozen=True):
    """Finished ahead of schedule: there is capacity."""

    ahead_ms: Milliseconds | None = None
    capacity: Whole | None = None


class Escalate(Struct, frozen=True, omit_defaults=True):
    """A question that needs a person, or the agent that `to` names.

    Its id is the `id` that the asker gives it, otherwise its log id. The asker waits, unless `wait`
    is false. After `deadline_ms` the answer is `default`; without one nobody waits any longer.
    """

    question: str
    options: list[str] = []
    context: Raw | UnsetType = UNSET
    id: Name | None = None
    to: Name | None = None
    wait: bool = True
    deadline_ms: Deadline | None = None
    default: str | None = None

    def __post_init__(self) -> None:
        if self.default is not None and self.deadline_ms is None:
            raise ValueError("`deadline_ms` beside `default`, which is the answer at the deadline")


class Heartbeat(Struct, frozen=True):
    """The agent is alive; sent only when it has sent nothing else.

    `expect_ms` announces a silence. It holds so long, or until its next signal of another type.
    """

    expect_ms: Milliseconds | None = None


class Intent(Struct, frozen=True):
    """The reads and writes that the agent is about to make; `workspace` as in STARTED."""

    reads: Names = []
    writes: Names = []
    workspace: Name | None = None


class Release(Struct, frozen=True):
    """Gives back resources and ends waits, by name; all of them when it names none.

    With `unfinished`, what it held for writing may be half written.
    """

    resources: Names = []
    unfinished: bool = False


class Integrated(Struct, frozen=True):
    """The barrier's leader has finished the integration; or calls it off, when `ok` is false."""

    name: Name | None = None
    ok: bool = True


class Decided(Struct, frozen=True):
    """The answer to an escalation, from a person or from the agent that was asked."""

    escalation: Name
    decision: str
    by: Name | None = None


class TasksAdded(Struct, frozen=True):
    """These tasks come onto the board: all of them, or none if one is refused."""

    tasks: Annotated[list[TaskSpec], Meta(min_length=1, max_length=SIGNAL_TASKS_MAX)]


class TaskDone(Struct, frozen=True):
    """A task is complete; its agent, if this is the sender, goes on without one.

    With `token` it counts only for that start of the task. `by` names a person.
    """

    task: Name | None = None
    token: Count = 0
    by: Name | None = None


class TaskRetry(Struct, frozen=True):
    """A completed or failed task is to be done again, from the beginning. `by` as in TASK_DONE."""

    task: Name | None = None
    by: Name | None = None


Payload = (
    Started
    | Progress
    | PartialResult
    | Blocked
    | Completed
    | Failed
    | CheckpointReached
    | DependencyResolved
    | ConflictDetected
    | IntegrationRequired
    | EarlyCompletion
    | Escalate
    | Heartbeat
    | Intent
    | Release
    | Integrated
    | Decided
    | Synthesized
    | Refined
    | TasksAdded
    | TaskDone
    | TaskRetry
    | RunClosed
    | RunOpened
    | RunPurged
    | AgentsExpected
    | Renamed
    | SameAs
)

#: Signal type → payload struct: the word is the struct's name in capitals. To add a type: add
#: the word, its struct and a member of `Payload`, then its handler in `step.py`.
PAYLOADS: dict[SignalType, type[Struct]] = {
    SignalType[re.sub("(?<=.)(?=[A-Z])", "_", payload.__name__).upper()]: payload
    for payload in get_args(Payload)
}


#: Signals that give results: in `partial`, or in `result`. Any other one that goes to the
#: synthesizer only shows that its agent has started or ended.
GIVING: Final = frozenset({SignalType.PROGRESS, SignalType.PARTIAL_RESULT, SignalType.COMPLETED})


class Signal(Struct, gc=False):
    """One signal, checked and typed.

    `raw` is the payload's JSON as the emitter wrote it; `names` and `values` are the ingress fields
    that the log repeats. `seq` and `incarnation` are 0 when the emitter does not number signals.
    `hops` counts the messages in the chain of replies that led to it. `is_verbatim`: the ingress
    entry itself has these names and values, `raw` among them, so that a commit can copy them.
    """

    type: SignalType
    session: str
    emitter: str
    stream: str
    payload: Payload
    raw: bytes
    names: tuple[bytes, ...]
    values: list[bytes]
    seq: int = 0
    incarnation: int = 0
    task: str = ""
    hops: int = 0
    is_verbatim: bool = False
    #: Which living process sends it, "" if it does not say.
    instance: str = ""
