"""The records of a session: each is the JSON of one hash field, as `redis-cli` shows it.

Field names are a public contract (docs/protocol.md). Times are server time, ms since the epoch. A
task's record is in `task.py`, beside the task as it is listed.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property

from msgspec import UNSET, Raw, Struct, UnsetType


class AgentStatus(StrEnum):
    """An agent's status. `completed`, `failed` and `dead` end an incarnation."""

    ACTIVE = "active"
    #: Waits for a dependency, a resource or an answer.
    BLOCKED = "blocked"
    #: Has arrived at a barrier, or is held back until one is over.
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    #: Declared dead after its silence.
    DEAD = "dead"


#: The incarnation is over: it can send nothing more.
ENDED = frozenset({AgentStatus.COMPLETED, AgentStatus.FAILED, AgentStatus.DEAD})


#: The agent waits for something, or a barrier holds it.
HELD_UP = frozenset({AgentStatus.BLOCKED, AgentStatus.PAUSED})


class DependencyStatus(StrEnum):
    """Whether an output can be consumed."""

    PENDING = "pending"
    RESOLVED = "resolved"
    FAILED = "failed"


class LeftRecord(Struct, omit_defaults=True):
    """How and when an agent left a resource: failed, dead, replaced or unfinished; ms."""

    how: str
    since_ms: int
    #: The copy of the files that it was left in, `HOST:TOP`, if the agent has said so.
    copy: str = ""


class OrderRecord(Struct, omit_defaults=True):
    """A PAUSE or CANCEL to an agent: its log id (`log`-`number`), and when it was sent, ms.

    `taken` names what it has lost, if it may go on with other things. `allowed_ms` is when a person
    gave the agent as long again to read it.
    """

    type: str
    log: int
    number: int
    since_ms: int
    to_all: bool = False
    taken: list[str] = []
    allowed_ms: int = 0

    @property
    def counts_ms(self) -> int:
        """The time from which it counts as unread, ms."""
        return max(self.since_ms, self.allowed_ms)


class AgentRecord(Struct, omit_defaults=True):
    """One agent, in its present incarnation. Times are server time, ms since the epoch."""

    status: AgentStatus
    incarnation: int
    stream: str = ""
    priority: int = 0
    seq: int = 0
    #: Checksum of the signal with that number, to tell a repeat from another signal; 0: not known.
    mark: int = 0
    signals: int = 0
    last_signal: str = ""
    started_ms: int = 0
    seen_ms: int = 0
    #: As the agent gave it: 50 stays 50 and 50.5 stays 50.5, however often the record is read.
    percent: int | float | None = None
    #: Expected end, from the rate so far; None without a rate.
    eta_ms: int | None = None
    checkpoint: str = ""
    next_checkpoint: str = ""
    #: The last checkpoints passed → log number; and those that the incarnation before had passed.
    passed: dict[str, int] = {}
    resumable: dict[str, int] = {}
    task: str = ""
    task_type: str = ""
    parallel_group: str = ""
    reads: list[str] = []
    writes: list[str] = []
    produces: list[str] = []
    quotas: list[str] = []
    #: Dependencies it is blocked on, oldest first.
    waits_for: list[str] = []
    #: Its claims on resources, by id: held and waiting, oldest first.
    claims: list[str] = []
    #: Questions whose answers it waits for, by id.
    asks: list[str] = []
    error: str = ""
    #: The last intervals between its signals, ms: its rhythm.
    intervals: list[int] = []
    #: It sends HEARTBEAT after so long without another signal, as it has said; 0: it has not.
    heartbeat_ms: int = 0
    #: When its last wait or pause ended, ms: only from then on is its silence counted, unless it
    #: sends heartbeats while it waits. And when it was spared: many had been silent with it.
    resumed_ms: int = 0
    spared_ms: int = 0
    #: The end of the silence that it has announced, ms: only from then on does its silence count.
    quiet_until_ms: int = 0
    #: Time of its last signal before the HEARTBEATs that are all it sends now, ms; 0: another one
    #: was its last. When it was nudged because others wait meanwhile, and the question about it.
    idle_since_ms: int = 0
    nudged_ms: int = 0
    wedged: str = ""
    #: Tasks that it was offered and has not taken up yet.
    offers: list[str] = []
    #: It was told to stop, because another agent of its group had failed.
    cancelled: bool = False
    #: What it still waited for when it completed.
    unmet: list[str] = []
    #: What it held when it was declared dead: its next incarnation is told.
    lost: list[str] = []
    #: What its incarnations held for writing when they ended badly, until it is given back well.
    left: dict[str, LeftRecord] = {}
    #: Incarnations in a row that ended in silence.
    silent_deaths: int = 0
    #: The question whether it may start again, while that is open.
    breaker: str = ""
    #: Second of its last signal, and its signals in that second: its rate.
    second: int = 0
    second_signals: int = 0
    #: Ranges of numbers, first and last, that were skipped: too late for a signal with one of them.
    skipped: list[tuple[int, int]] = []
    #: It was refused for its rate in that second; what it sends until its end is only dropped.
    is_storming: bool = False
    #: When it was last told of a refused signal, ms.
    told_ms: int = 0
    #: How many more tasks it could take, as it has said.
    capacity: int = 0
    #: The living process that began this incarnation, if it has said so.
    instance: str = ""
    #: The copy of the files that it works in, `HOST:TOP`, if it has said so.
    workspace: str = ""
    #: Orders in force that it may not have read, where the rules ask for that; and the question
    #: about it.
    orders: list[OrderRecord] = []
    unread: str = ""

    @property
    def shown_status(self) -> str:
        """The status for people: `cancelling` while it was told to stop and has not ended."""
        is_stopping = self.cancelled and self.status not in ENDED
        return "cancelling" if is_stopping else self.status.value

    @property
    def is_stuck(self) -> bool:
        """Whether it sends nothing but HEARTBEAT, and was told that others wait for it."""
        return bool(self.nudged_ms) and self.status not in ENDED


class RetiredRecord(Struct, omit_defaults=True):
    """The last incarnation of an agent that is no longer kept; the log number at which it went.

    Of a sender that was refused in a closed run, and never heard, the incarnation is 0.
    """

    incarnation: int
    log: int
    #: The last number heard, if it had not ended: it made room, and may go on. 0: it may not.
    seq: int = 0
    #: When it was last told of a refused signal, ms.
    told_ms: int = 0


class ExpectedRecord(Struct, omit_defaults=True):
    """An agent that the run expects; times in ms."""

    #: When it is named if it has not come; 0: never.
    until_ms: int = 0
    #: When it came, or else when it was named as absent; 0: not yet.
    came_ms: int = 0
    absent_ms: int = 0

    @property
    def is_awaited(self) -> bool:
        """Whether the run still waits for it to come."""
        return not (self.came_ms or self.absent_ms)


class DependencyRecord(Struct, omit_defaults=True):
    """One output that agents wait for: its producers, its waiters, its location."""

    status: DependencyStatus = DependencyStatus.PENDING
    #: Agents that declared to produce it, in the order of their declarations.
    producers: list[str] = []
    #: Waiting agent → log id of the BLOCKED that began the wait, oldest first.
    waiters: dict[str, str] = {}
    #: Producer → its incarnation that was told about the waiters.
    nudged: dict[str, int] = {}
    #: When a wait without a producer is reported, ms; 0 while no agent has waited for that long.
    report_ms: int = 0
    #: The question about agents that wait for it, while no agent is to produce it.
    question: str = ""
    #: Of a quota: when it ends, ms.
    until_ms: int = 0
    location: str | None = None
    resolved_by: str = ""
    #: Nobody has said that it is there: it counts as resolved because its producer completed.
    inferred: bool = False
    failed_by: str = ""
    error: str = ""
    #: The producer that failed said that trying again may help.
    retryable: bool = False


class ClaimState(StrEnum):
    """A claim is granted as a whole or not at all."""

    WAITING = "waiting"
    HELD = "held"


class ClaimRecord(Struct, omit_defaults=True, dict=True):
    """What an agent has asked to have to itself. Its id is `<log number>:<agent>`."""

    agent: str
    state: ClaimState
    writes: list[str]
    #: Read, and waited for: shared with other readers. Only where the rules serialise reads.
    reads: list[str] = []
    #: Read without waiting: a write by another agent meanwhile is reported.
    observes: list[str] = []
    #: Of the writes, the exclusive domains that were added: they end with the rest of the claim.
    domains: list[str] = []
    #: When it was asked for, ms.
    asked_ms: int = 0
    #: Effective priority: `asked_ms` minus what the agent's priority is worth in ms. The lowest is
    #: next; two claims that wait age alike, so their order never changes.
    rank_ms: int = 0
    #: Log number of the event that asked, and the place within that event: they break ties.
    asked: int = 0
    place: int = 0
    granted_ms: int = 0
    #: When it is taken back, ms; 0: not before the agent ends.
    expires_ms: int = 0
    #: Fencing token of the grant; larger than any earlier one of the session.
    token: int = 0
    #: The agent has been told that others want the same.
    contended: bool = False
    #: The copy of the files in which it is kept apart from claims in others; "": from none.
    copy: str = ""

    @cached_property
    def id(self) -> str:
        """The name under which the claim is kept."""
        return f"{self.asked}:{self.agent}"

    def check_name(self, name: str) -> None:
        """Refuse another name than the id: the claim could not be found. Raises ValueError."""
        if name != self.id:
            raise ValueError("a claim under another name than its id, ASKED:AGENT")

    @property
    def wanted(self) -> list[str]:
        """The resources that others wait for."""
        return [*self.writes, *self.reads]


class TriedRecord(Struct, omit_defaults=True):
    """Whether git can merge a path of two copies, and the log number up to which it has looked."""

    copies: list[str]
    log: int
    conflicts: bool = False


class WrittenRecord(Struct, omit_defaults=True):
    """A path that was written in copies of the files: copy, `HOST:TOP` → the agent; since when, ms.

    One with several copies will have to be merged. `log` is the number of the event that has
    granted it last; `tried` is what git has found since, of two copies each.
    """

    copies: dict[str, str]
    since_ms: int = 0
    log: int = 0
    tried: list[TriedRecord] = []


class BarrierState(StrEnum):
    """One barrier is in force at a time; those called meanwhile queue."""

    QUEUED = "queued"
    #: Members run to their next checkpoint.
    GATHERING = "gathering"
    #: All have arrived: the leader integrates.
    INTEGRATING = "integrating"
    OVER = "over"


#: The barrier holds its members.
IN_FORCE = frozenset({BarrierState.GATHERING, BarrierState.INTEGRATING})


class BarrierRecord(Struct, omit_defaults=True):
    """One barrier, by its name; `generation` grows each time it is called."""

    state: BarrierState
    generation: int
    leader: str
    #: The agents that are to arrive: a set, sorted by name.
    members: list[str] = []
    #: Member → when it arrived, ms.
    arrived: dict[str, int] = {}
    #: Agents that started while it was in force, and go on when it is over.
    held: list[str] = []
    deadline_ms: int = 0
    called_ms: int = 0
    #: Log number of its call: queued barriers begin in this order.
    called: int = 0
    level: int | None = None
    #: The open question about the missing members.
    question: str = ""
    #: Time from its beginning to the deadline, ms; a queued barrier has no deadline yet.
    limit_ms: int = 0


class EscalationState(StrEnum):
    """A question is open until it is decided, or no agent needs the answer."""

    OPEN = "open"
    DECIDED = "decided"


class EscalationRecord(Struct, omit_defaults=True):
    """A question to a person, or to the agent `to`; its id is the asker's, or its log id."""

    state: EscalationState
    question: str
    asker: str
    options: list[str] = []
    #: What the asker added, as JSON; only the log has it when it is long.
    context: Raw | UnsetType = UNSET
    to: str = ""
    asked_ms: int = 0
    #: Log id of the ESCALATE.
    cause: str = ""
    #: Agents that wait for the answer, besides the asker.
    waiting: list[str] = []
    #: Agents that get the answer too, but do not wait for it.
    concerned: list[str] = []
    #: When nobody waits for the answer any longer, ms; 0 without a deadline. Then `default`, if the
    #: asker gave one, is the answer.
    deadline_ms: int = 0
    default: str = ""
    #: Subject of the fabric's own question: `deadlock`, `silence`, `mass_silence`, `wedged`,
    #: `unread`, `barrier`, `group`, `contradiction`, `digest`, `dependency` or `task`; "" for an
    #: agent's.
    subject: str = ""
    #: Of a deadlock, in order: agent, kind of wait, what it waits for.
    cycle: list[tuple[str, str, str]] = []
    #: The agent, barrier, group or part that it is about.
    about: str = ""
    decision: str = ""
    by: str = ""
    decided_ms: int = 0
    #: Of a mass silence: agents that were given up one by one while the question was open.
    given_up: int = 0
    #: Of a mass silence: agents of other sessions that were silent as well when it was asked.
    peers: int = 0
    #: Of a contradiction: when a digest names it, unless agents settle it before, ms; 0: it is
    #: asked by itself.
    named_ms: int = 0
    #: The digest that names it; "" in its grace time.
    digest: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it still waits for its answer."""
        return self.state is EscalationState.OPEN

    @property
    def is_quiet(self) -> bool:
        """Whether it is not asked by itself: a digest names it."""
        return bool(self.named_ms)

    @property
    def in_grace(self) -> bool:
        """Whether agents may still settle it before a person is asked."""
        return self.is_open and self.is_quiet and not self.digest

    def settle(self, answer: str, by: str, now_ms: int) -> None:
        """Note the answer."""
        self.state = EscalationState.DECIDED
        self.decision, self.by, self.decided_ms = answer, by, now_ms
