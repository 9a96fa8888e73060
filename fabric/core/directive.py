"""The directives that the orchestrator sends to agents, and their payloads (docs/protocol.md)."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class DirectiveType(StrEnum):
    """The type of a directive. The value is the word on the wire."""

    PAUSE = "PAUSE"
    RESUME = "RESUME"
    PROCEED = "PROCEED"
    WAIT = "WAIT"
    NUDGE = "NUDGE"
    ASSIGN = "ASSIGN"
    CANCEL = "CANCEL"
    DECISION = "DECISION"
    # An extension: information, which asks for no action.
    NOTICE = "NOTICE"


class Resume(Struct, frozen=True, omit_defaults=True):
    """Go on: what you waited for is available, is yours, or is over.

    An agent that has started again learns where its last incarnation was: `task`, `checkpoint`,
    `percent`, the resources that it `held` and what it `waited` for. It has lost all of these.
    """

    reason: str
    dependency: str | None = None
    resources: list[str] = []
    barrier: str | None = None
    task: str = ""
    checkpoint: str = ""
    percent: int | float | None = None
    held: list[str] = []
    waited: list[str] = []


class Pause(Struct, frozen=True, omit_defaults=True):
    """Stop: at once for a conflict or a quota, at your next checkpoint for a barrier.

    A quota is a `dependency`, and ends at `until_ms` or later. `members` are the agents that are to
    arrive; an arrival repeats `generation`.
    """

    reason: str
    resources: list[str] = []
    barrier: str | None = None
    generation: int | None = None
    members: list[str] = []
    deadline_ms: int | None = None
    dependency: str | None = None
    until_ms: int | None = None


class Unfinished(Struct, frozen=True):
    """A resource that an agent held when it failed, died or was replaced: how, and when, ms."""

    resource: str
    agent: str
    how: str
    since_ms: int


class Proceed(Struct, frozen=True, omit_defaults=True):
    """The resources are yours, under a fencing token; or the integration, for its leader.

    `waiting` counts the agents that the grant keeps waiting. `after` says which of the resources
    may be half written.
    """

    resources: list[str]
    token: int | None = None
    waiting: int = 0
    barrier: str | None = None
    after: list[Unfinished] = []


class Wait(Struct, frozen=True, omit_defaults=True):
    """Not yet: the holder, your position in the queue, and the first agents ahead.

    With `barrier`, its leader, who integrates now, counts as the holder.
    """

    resources: list[str]
    position: int
    holder: str
    ahead: list[str]
    barrier: str | None = None


class Nudge(Struct, frozen=True):
    """Other agents wait for you: for what, and which agents."""

    on: str
    waiting: list[str]


class Cancel(Struct, frozen=True, omit_defaults=True):
    """Stop: the wait or the claim named here is refused; with none named, stop working.

    An agent that was declared dead (code DEAD) learns what was taken from its `incarnation`: what
    it `held` and what it `waited` for.
    """

    reason: str
    code: str
    task: str | None = None
    dependency: str | None = None
    resources: list[str] = []
    barrier: str | None = None
    escalation: str | None = None
    #: The agents of a deadlock, in order: each waits for the next, the last for the first.
    cycle: list[str] = []
    #: Agents that are stuck behind it.
    affected: list[str] = []
    incarnation: int | None = None
    held: list[str] = []
    waited: list[str] = []


class Assign(Struct, frozen=True, omit_defaults=True):
    """Take this over."""

    task: str
    from_stream: str
    reason: str | None = None


class Answer(Struct, frozen=True):
    """The decision on a question, and who made it."""

    escalation: str
    decision: str
    by: str


#: Code of the NOTICE that confirms a signal.
CONFIRMED = "ACCEPTED"


class Notice(Struct, frozen=True, omit_defaults=True):
    """A breach of the rules, or one that may follow; `code` says which.

    For a signal that was refused: its type (`refused`), number and incarnation, as far as known.
    SKIPPED: the signal with the number `seq` came `after` that one, the last one heard before it.
    REPLACED: the `incarnation` is over, since a higher one has begun. A STARTED that was accepted
    with a task is told the fencing token of that start. NAME_TAKEN: the `instance` that has the
    name, since when, and a free `name` where the rules offer one.
    """

    code: str
    reason: str
    refused: str = ""
    seq: int = 0
    incarnation: int = 0
    after: int = 0
    token: int = 0
    instance: str = ""
    since_ms: int = 0
    name: str = ""


Directive = Pause | Resume | Proceed | Wait | Nudge | Assign | Cancel | Answer | Notice

#: Directive type → payload struct.
DIRECTIVES: dict[DirectiveType, type[Struct]] = {
    DirectiveType.PAUSE: Pause,
    DirectiveType.RESUME: Resume,
    DirectiveType.PROCEED: Proceed,
    DirectiveType.WAIT: Wait,
    DirectiveType.NUDGE: Nudge,
    DirectiveType.ASSIGN: Assign,
    DirectiveType.CANCEL: Cancel,
    DirectiveType.DECISION: Answer,
    DirectiveType.NOTICE: Notice,
}
