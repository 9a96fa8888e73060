"""What an agent has sent lately, to send again what a server has lost of it.

A failover, or a restart from an append-only file without its end, takes the server back to an
earlier moment: the end of what was sent is gone. So before the first signal on a new connection,
and after trouble in reading, the agent looks. Its last signal is still in the ingress, or its
record has that number, or the server went back. Then it sends what is missing again, in order and
under the numbers that it had, before anything newer: a number that was skipped is never accepted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from fabric.core.record import ENDED, AgentStatus
from fabric.store.port import ClientStore
from fabric.wire.stored import checked_reading

#: A signal is kept for so long, s: a failover loses the last seconds, and is noticed within half a
#: minute. The last one is kept longer: it tells whether the server went back.
KEPT_S = 60.0

#: Signals kept of one agent, and their bytes: those of a second or two of the busiest.
KEPT_MAX = 1_000
KEPT_BYTES_MAX = 1_048_576

#: Times that one signal is sent again. One that was refused without a trace looks like a lost one.
AGAIN_MAX = 3


class _Known(msgspec.Struct):
    """What an agent's record says of its signals."""

    status: AgentStatus
    incarnation: int
    seq: int = 0


@dataclass(slots=True, eq=False)
class SentSignal:
    """One signal in the ingress: its number, its id there, and when it was sent, s."""

    number: int
    entry: list[bytes]
    id: bytes
    sent_s: float
    times_again: int = 0


class SentSignals:
    """The last signals of one incarnation, the oldest first."""

    def __init__(self, session: str, name: str) -> None:
        self._session = session
        self._name = name
        self._kept: deque[SentSignal] = deque()
        self._bytes = 0
        self._incarnation = 0
        #: STARTED, however old: a server that has never heard of the agent needs it first.
        self._first: SentSignal | None = None
        #: The connection on which the last look found everything; None for a look at any rate.
        self._sure: int | None = None
        #: The last number that the server knew at the last look that found something missing.
        self.known = 0

    def begin(self, incarnation: int) -> None:
        """Forget the incarnation before."""
        self._kept.clear()
        self._bytes, self._incarnation, self._first, self._sure = 0, incarnation, None, None

    def note(self, number: int, entry: list[bytes], entry_id: bytes) -> None:
        """Keep a signal that was sent, and let go what is too old or too much."""
        now_s = asyncio.get_running_loop().time()
        sent = SentSignal(number, entry, entry_id, now_s)
        self._first = self._first or sent
        self._kept.append(sent)
        self._bytes += sum(map(len, entry))
        while len(self._kept) > 1 and (
            self._kept[0].sent_s < now_s - KEPT_S
            or len(self._kept) > KEPT_MAX
            or self._bytes > KEPT_BYTES_MAX
        ):
            self._bytes -= sum(map(len, self._kept.popleft().entry))

    @property
    def is_empty(self) -> bool:
        """Whether nothing was sent yet."""
        return not self._kept

    def is_sure(self, connection: int) -> bool:
        """Whether nothing can have been lost, as it is still the connection of the last look."""
        return self._sure == connection

    def doubt(self) -> None:
        """Look again before the next signal."""
        self._sure = None

    def trust(self, connection: int) -> None:
        """Take note that the server behind a connection has everything."""
        self._sure = connection

    async def missing(self, store: ClientStore, partition: int) -> Sequence[SentSignal]:
        """Return what the server no longer has, in order. Raises ServerError.

        Empty too when the incarnation is over for the server: it would refuse all of it.
        """
        names = store.namespace.partition(partition)
        is_there = partial(_is_there, store, names.signals)
        if not self._kept or await is_there(self._kept[-1]):
            return ()
        # In this order: what is not in the ingress now was decided before the record is read.
        key = names.session(self._session).agents
        (stored,) = await store.fields(key, [self._name])
        with checked_reading(key, "hash"):
            known = None if stored is None else msgspec.json.decode(stored, type=_Known)
        if known is None or known.incarnation < self._incarnation:
            self.known = 0
        elif known.incarnation > self._incarnation or known.status in ENDED:
            return ()
        else:
            self.known = known.seq
        lost = [one for one in self._kept if one.number > self.known]
        if lost and not self.known and self._first is not None and self._first is not lost[0]:
            lost.insert(0, self._first)
        # The end of them is lost, and what comes before it waits in the ingress.
        first, last = 0, len(lost) - 1
        while first < last:
            middle = (first + last) // 2
            if await is_there(lost[middle]):
                first = middle + 1
            else:
                last = middle
        return [one for one in lost[first:] if one.times_again < AGAIN_MAX]


async def _is_there(store: ClientStore, ingress: str, sent: SentSignal) -> bool:
    """Return whether a signal is in the ingress: that one, and no other under its id."""
    found = await store.entries(ingress, sent.id, sent.id, 1)
    return any(list(fields) == sent.entry for _, fields in found)
