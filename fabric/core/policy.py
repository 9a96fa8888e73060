"""The choices that a rule may offer: what happens in a case that users decide differently."""

from __future__ import annotations

from enum import StrEnum


class CheckpointMode(StrEnum):
    """What happens when a checkpoint comes out of order."""

    #: It is logged.
    OBSERVE = "observe"
    #: It is refused.
    ENFORCE = "enforce"


class BarrierPolicy(StrEnum):
    """What happens at a barrier's deadline while members are missing."""

    #: Name the missing, and go on waiting for them.
    WAIT = "wait"
    #: Name the missing, and go on without them.
    RELEASE = "release"
    #: Name the missing, and call the integration off.
    FAIL = "fail"


class FailFast(StrEnum):
    """What one agent's failure means for the rest of its parallel group."""

    OFF = "off"
    CANCEL = "cancel"
    ESCALATE = "escalate"


class TaskMode(StrEnum):
    """What happens when an agent starts a task that cannot begin now."""

    #: The agent is told.
    OBSERVE = "observe"
    #: It is refused.
    ENFORCE = "enforce"


class BalanceMode(StrEnum):
    """Which tasks an agent with room is offered."""

    #: Those of its own stream first, then those of the stream that has most to go.
    ALL = "all"
    #: Those of its own stream, or of none.
    STREAM = "stream"


class StragglerPolicy(StrEnum):
    """What happens when a task is far slower than others of its group."""

    OFF = "off"
    #: Its agent is told.
    NUDGE = "nudge"
    #: Another agent with room gets it.
    SECOND = "second"
    #: A person is asked.
    ESCALATE = "escalate"


class NamePolicy(StrEnum):
    """What happens when a second process starts under the name of an agent at work."""

    #: It is refused.
    REFUSE = "refuse"
    #: It is refused, and told which name to use instead: `W#2`.
    SUFFIX = "suffix"


class ChildPolicy(StrEnum):
    """What happens to the sub-agents of an agent that has ended."""

    #: They go on.
    KEEP = "keep"
    #: They are told to stop.
    CANCEL = "cancel"


class WorktreePolicy(StrEnum):
    """Whether agents in different copies of the project's files exclude each other."""

    #: They do: one writes after the other.
    SAME = "same"
    #: They write at once, and are told what will have to be merged.
    SEPARATE = "separate"


class InferencePolicy(StrEnum):
    """What a COMPLETED means for outputs that its agent was to produce and has not resolved."""

    #: They count as resolved, and are marked as inferred.
    ALLOW = "allow"
    #: It is refused: the agent says first what became of them.
    REFUSE = "refuse"


class RestartPolicy(StrEnum):
    """What happens to the results of an incarnation that died before it completed its work."""

    #: The next incarnation sends them again; what it does not send is dropped.
    REPLACE = "replace"
    #: They stay until the agent replaces them.
    KEEP = "keep"


class Comparison(StrEnum):
    """When two values are the same."""

    #: The rule of the place says nothing: LOOSE, or PROSE for a finding that has a place.
    DEFAULT = ""
    #: They are the same JSON.
    EXACT = "exact"
    #: The same text but for case, outer spaces and the number of inner ones.
    TEXT = "text"
    #: As TEXT; a number and the text that it is written as; lists in any order.
    LOOSE = "loose"
    #: The same number, within the tolerance.
    NUMBER = "number"
    #: The same amount, in whatever unit; the tolerance is a share of the larger one.
    QUANTITY = "quantity"
    #: The same moment, within the tolerance in seconds; the same day where one names only a day.
    DATE = "date"
    #: The same items in any order and number.
    SET = "set"
    #: As LOOSE; but texts of several words are remarks, and contradict nothing.
    PROSE = "prose"


class ContradictionPolicy(StrEnum):
    """What becomes of values that contradict each other."""

    #: A person decides.
    ASK = "ask"
    #: That of the surest agent holds.
    SUREST = "surest"
    #: The one that most agents give holds.
    MAJORITY = "majority"
    #: The one whose source has the latest `date` holds; the last one said where a date is missing.
    NEWEST_SOURCE = "newest_source"
