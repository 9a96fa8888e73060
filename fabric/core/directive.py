"""What the orchestrator says to agents: the directives and their payloads (design, section 4)."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class DirectiveType(StrEnum):
    """What an agent can be told. The value is the word on the wire."""

    PAUSE = "PAUSE"
    RESUME = "RESUME"
    PROCEED = "PROCEED"
    WAIT = "WAIT"
    NUDGE = "NUDGE"
    ASSIGN = "ASSIGN"
    CANCEL = "CANCEL"
    DECISION = "DECISION"
    # An extension: what an agent should know, and need not obey.
    NOTICE = "NOTICE"


class Resume(Struct, frozen=True, omit_defaults=True):
    """Go on: what you waited for is there, is yours, or is over.

    To an agent that has started again it says where its last incarnation was: `task`, `checkpoint`,
    `percent`, the resources that it `held` and what it `waited` for. All of that has been given up.
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
    """Stop writing at once for a conflict; at your next checkpoint for a barrier.

    `members` are those who are to arrive, `generation` is what an arrival repeats.
    """

    reason: str
    resources: list[str] = []
    barrier: str | None = None
    generation: int | None = None
    members: list[str] = []
    deadline_ms: int | None = None


class Proceed(Struct, frozen=True, omit_defaults=True):
    """It is yours: the resources, under a fencing token; or the integration, for its leader.

    `waiting` counts the agents that the grant keeps waiting.
    """

    resources: list[str]
    token: int | None = None
    waiting: int = 0
    barrier: str | None = None


class Wait(Struct, frozen=True):
    """Not yet: who has it, how many are before you, and the first of them."""

    resources: list[str]
    position: int
    holder: str
    ahead: list[str]


class Nudge(Struct, frozen=True):
    """Somebody waits on you: for what, and who."""

    on: str
    waiting: list[str]


class Cancel(Struct, frozen=True, omit_defaults=True):
    """Stop: the wait or the claim named here is refused; or the work, with none named."""

    reason: str
    code: str
    task: str | None = None
    dependency: str | None = None
    resources: list[str] = []
    barrier: str | None = None
    escalation: str | None = None
    #: Agents of a deadlock, in order: each waits for the next, the last for the first.
    cycle: list[str] = []
    #: Agents that are stuck behind it.
    affected: list[str] = []


class Assign(Struct, frozen=True, omit_defaults=True):
    """Take this over."""

    task: str
    from_stream: str
    reason: str | None = None


class Answer(Struct, frozen=True):
    """What was decided on a question, and by whom."""

    escalation: str
    decision: str
    by: str


class Notice(Struct, frozen=True):
    """Something that went against the rules, or may be about to; `code` says what."""

    code: str
    reason: str


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
