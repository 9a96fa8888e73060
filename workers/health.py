"""Whether this worker should leave its share to its peers: its link to the server is sick.

A worker that answers late keeps its leases all the same, and everybody waits for it while a healthy
one stands by. So each worker compares its round trips with those that its peers report, and counts
the leases that it lost because the server's answers did not come. When sick, it rests. It goes on
measuring, and takes a share again when its link is well, or when no peer is at work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from statistics import median
from typing import Final

#: Round trips that are compared: about four seconds of them at the default lease. The median of
#: fewer would follow a single lost packet.
TRIPS: Final = 5

#: A round trip is long above this, ms. Below, no agent notices; a busy worker needs some of it.
LONG_MS: Final = 100.0

#: And only when it is so many times that of the best peer: else the server is slow, for all.
RATIO: Final = 10.0

#: It is well again at this share of the above, so that a link at the border does not flap.
WELL: Final = 0.5

#: Leases lost to missing answers, within so many leases' time, that make a link sick.
LOSSES: Final = 3
LOSSES_LEASES: Final = 12

#: First rest, in leases (half a minute by default), and how often it doubles at most.
REST_LEASES: Final = 6
DOUBLINGS_MAX: Final = 4

#: After so many leases of work, the next rest is a first one.
STEADY_LEASES: Final = 120


class Health:
    """The state of one worker's link. Times are the event loop's, ms."""

    def __init__(self, lease_ms: int) -> None:
        self._lease_ms = lease_ms
        self._trips: deque[float] = deque(maxlen=TRIPS)
        self._losses: deque[float] = deque(maxlen=LOSSES)
        self._has_lost = False
        self._rests = 0
        self._since_ms = 0.0
        self._until_ms = 0.0
        #: Why it rests; "" while it works.
        self.reason = ""

    @property
    def trip_ms(self) -> float:
        """The median of the last round trips; 0 before the first."""
        return median(self._trips) if self._trips else 0.0

    def answered(self, took_ms: float) -> None:
        """Note a round trip."""
        self._trips.append(took_ms)

    def lost(self) -> None:
        """Note that a lease was lost because an answer did not come."""
        self._has_lost = True

    def look(self, now_ms: float, peers_ms: Collection[float]) -> str:
        """Return why to rest now, or "".

        `peers_ms` are the round trips of the peers that are at work. It is for a moment in which
        the server answers: during an outage nobody is sicker than others.
        """
        if self._has_lost:
            self._has_lost = False
            self._losses.append(now_ms)
        if not peers_ms:
            self.reason = ""
        elif self.reason:
            if now_ms >= self._until_ms and not self._sickness(now_ms, peers_ms, WELL):
                self.reason, self._since_ms = "", now_ms
        elif reason := self._sickness(now_ms, peers_ms, 1.0):
            if now_ms - self._since_ms >= STEADY_LEASES * self._lease_ms:
                self._rests = 0
            rest_ms = REST_LEASES * self._lease_ms * 2 ** min(self._rests, DOUBLINGS_MAX)
            self._rests += 1
            self._losses.clear()
            self._until_ms, self.reason = now_ms + rest_ms, reason
        return self.reason

    def _sickness(self, now_ms: float, peers_ms: Collection[float], share: float) -> str:
        trip_ms, best_ms = self.trip_ms, min(peers_ms)
        if len(self._trips) == TRIPS and trip_ms > share * max(LONG_MS, RATIO * best_ms):
            return f"its round trip to the server is {trip_ms:.0f} ms, a peer's {best_ms:.0f}"
        window_ms = LOSSES_LEASES * self._lease_ms
        if len(self._losses) == LOSSES and now_ms - self._losses[0] <= window_ms:
            return f"it lost {LOSSES} leases within {window_ms / 1000:g} s: no answers came"
        return ""
