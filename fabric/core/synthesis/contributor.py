"""The agents as a synthesis knows them."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from fabric.core.limits import CHECKPOINTS_KEPT_MAX
from fabric.core.policy import RestartPolicy
from fabric.core.record import AgentStatus

#: Share of an agent that has completed, in hundredths of a percent: shares are added up as whole
#: numbers, so that no rounding depends on the order.
WHOLE: Final = 10_000


class Contributor(Struct, omit_defaults=True):
    """One agent, as the synthesis knows it. Times are server time, ms since the epoch."""

    status: AgentStatus
    incarnation: int = 0
    #: The highest that its present incarnation has reported.
    percent: int | float = 0
    #: Log number and time of its first result; 0 before that.
    reported: int = 0
    reported_ms: int = 0
    #: Incarnations that completed: their statements keep counting.
    completed: list[int] = []
    error: str = ""
    #: Incarnation → checkpoint, by log number → log number of the last result before the next one
    #: that said that it was all: it omits what was said before.
    whole: dict[str, dict[str, int]] = {}
    #: Incarnation → log number of the checkpoint that it resumed from: what was said then stands.
    resumed: dict[str, int] = {}

    def counts(self, incarnation: int, log: int, policy: RestartPolicy) -> bool:
        """Whether a statement of an incarnation, with this log number, still counts."""
        if policy is RestartPolicy.KEEP:
            return True
        # It died: then the next one must have resumed from later than that.
        while incarnation != self.incarnation and incarnation not in self.completed:
            incarnation += 1
            if log > self.resumed.get(str(incarnation), 0):
                return False
        return True

    def note_resumed(self, incarnation: int, log: int) -> bool:
        """Note from which checkpoint an incarnation resumes; return whether that is news."""
        if log <= self.resumed.get(str(incarnation), 0):
            return False
        self.resumed = {**self.resumed, str(incarnation): log}
        return True

    def note_whole(self, incarnation: int, since: int, log: int) -> bool:
        """Note a result that is all that the agent still says; return whether that is news."""
        known = self.whole.get(str(incarnation), {})
        if log <= known.get(str(since), 0):
            return False
        known = {**known, str(since): log}
        last = sorted(known, key=int)[-1 - CHECKPOINTS_KEPT_MAX :]
        kept = {one: known[one] for one in last}
        is_news = kept != self.whole.get(str(incarnation))
        self.whole = {**self.whole, str(incarnation): kept}
        return is_news

    def whole_log(self, policy: RestartPolicy) -> int:
        """Return the log number of the last whole result that counts: what is older is omitted."""
        logs = ((int(one), log) for one, known in self.whole.items() for log in known.values())
        return max((log for one, log in logs if self.counts(one, log, policy)), default=0)

    def share(self) -> int:
        """Return how far the agent has come, in hundredths of a percent."""
        return WHOLE if self.status is AgentStatus.COMPLETED else round(self.percent * 100)

    @property
    def has_ended(self) -> bool:
        """Whether its present incarnation has ended."""
        return self.status is not AgentStatus.ACTIVE
