"""The agents as a synthesis knows them."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

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
    #: Incarnation → log number of its last result that said that it was all: it omits what was said
    #: before.
    whole: dict[str, int] = {}

    def counts(self, incarnation: int, policy: RestartPolicy) -> bool:
        """Whether statements of an incarnation still count."""
        if policy is RestartPolicy.KEEP or incarnation == self.incarnation:
            return True
        return incarnation in self.completed

    def note_whole(self, incarnation: int, log: int) -> bool:
        """Note a result that is all that the agent still says; return whether that is news."""
        if log <= self.whole.get(str(incarnation), 0):
            return False
        self.whole = {**self.whole, str(incarnation): log}
        return True

    def whole_log(self, policy: RestartPolicy) -> int:
        """Return the log number of the last whole result that counts: what is older is omitted."""
        counted = (log for one, log in self.whole.items() if self.counts(int(one), policy))
        return max(counted, default=0)

    def share(self) -> int:
        """Return how far the agent has come, in hundredths of a percent."""
        return WHOLE if self.status is AgentStatus.COMPLETED else round(self.percent * 100)

    @property
    def has_ended(self) -> bool:
        """Whether its present incarnation has ended."""
        return self.status is not AgentStatus.ACTIVE
