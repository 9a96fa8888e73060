"""How complete a synthesis is: who is expected, who has ended, and whether it is final."""

from __future__ import annotations

from enum import StrEnum

from msgspec import UNSET, Struct, UnsetType


class Phase(StrEnum):
    """How far a run has come, by the results that are folded."""

    #: Agents are at work or awaited, or parts are still to be merged anew.
    OPEN = "open"
    #: All have ended, and another may start: for `runs.settle_ms`, without a roster.
    SETTLING = "settling"
    #: All that is known to come has come.
    FINAL = "final"
    #: Final again, with other content than when it was final first.
    AMENDED = "amended"


class Complete(Struct):
    """How complete a synthesis is. `percent` is the mean of all known agents."""

    agents: int = 0
    reported: int = 0
    ended: int = 0
    percent: float = 0
    #: Findings, places and items that any agent has ever spoken of.
    parts: int = 0
    findings: int = 0
    contradictions: int = 0
    final: bool = False
    #: Sum of the agents' shares, in hundredths of a percent.
    shares: int = 0
    #: Agents whose parts are still to be merged anew.
    sweeps: int = 0
    state: Phase = Phase.OPEN
    #: When the last agent ended, ms.
    ended_ms: int | UnsetType = UNSET
    #: With a roster: how many agents are expected in all, how many of them are still awaited, and
    #: the first of those that have not come, awaited or absent.
    expected: int | UnsetType = UNSET
    awaited: int | UnsetType = UNSET
    missing: list[str] | UnsetType = UNSET
    #: The first revision of this run that was final.
    first_final: int | UnsetType = UNSET

    def all_have_ended(self) -> bool:
        """Whether no agent is at work or awaited, and all that was said is merged."""
        is_any = bool(self.agents or self.expected)
        return is_any and self.agents == self.ended and not self.awaited and not self.sweeps

    def settled_ms(self, settle_ms: int) -> int:
        """Return from when on the run counts as over, once all have ended, ms."""
        if isinstance(self.expected, int) or not isinstance(self.ended_ms, int):
            return 0
        return self.ended_ms + settle_ms

    def advance(self, revision: int, now_ms: int, settle_ms: int, *, is_changed: bool) -> int:
        """Find the present phase; return when it may end by itself, ms, 0 if it does not.

        `revision` is the number of the next one; `is_changed`: it says more than what a refiner has
        made of another. `now_ms` is the server's time.
        """
        before = self.state
        settled_ms = self.settled_ms(settle_ms) if settle_ms else 0
        if not self.all_have_ended():
            self.state = Phase.OPEN
        elif now_ms < settled_ms:
            self.state = Phase.SETTLING
        elif not self.first_final:
            self.state, self.first_final = Phase.FINAL, revision
        elif before is not Phase.FINAL or is_changed:
            self.state = Phase.AMENDED
        self.final = self.state in (Phase.FINAL, Phase.AMENDED)
        return settled_ms if self.state is Phase.SETTLING else 0


class Expected(Struct, omit_defaults=True):
    """An agent that is expected: since which log number, and whether it has come or is absent."""

    log: int
    has_come: bool = False
    is_absent: bool = False


class Roster(Struct):
    """The agents that a run expects."""

    agents: dict[str, Expected] = {}
