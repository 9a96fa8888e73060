"""The base of the two handlers: the orchestrator steps signals, the synthesizer folds results.

It defines what the loop asks of a handler, and holds what both share: timers, dead letters, and the
inputs and sessions that must be left out so that the rest of the partition goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from fabric.core.event import Decision
from fabric.errors import TamperedError
from fabric.store.keys import Partition
from fabric.store.keyspace import NOTHING
from fabric.store.port import Batch, Entry, WorkerStore
from fabric.wire import record
from fabric.wire.stored import text

#: Bytes of one commit's arguments, roughly. The server needs some milliseconds for a megabyte.
COMMIT_BYTES_MAX = 2_097_152

#: Bytes of an average input entry from which a commit copies from the input on the server. There it
#: takes a fifth off a worker's time and puts a fifth on the server's, which is the smaller one; at
#: 6,000 bytes it saves both. At 200 bytes, reading takes the script longer than receiving: the
#: worker would gain 5 %, and the server would need half as much again.
COPIED_BYTES_MIN = 1_500

#: A session with a spoilt key is left out for this time, ms. Then its keys are read again.
QUARANTINE_MS = 10_000

#: Sessions in quarantine at a time. A session that is let in too early is left out again, at the
#: cost of reading one batch twice.
QUARANTINED_MAX = 10_000

#: Bytes of the messages that may follow from one signal. One commit holds them all, and a server
#: refuses a request of a gigabyte, however often it is sent.
CONSEQUENCE_BYTES_MAX = 33_554_432

#: Inputs decided at a time, when they are quick; the settings allow fewer.
COUNT_MAX = 1_000_000

#: A batch that takes a larger share of its lease than this is followed by a smaller one.
LEASE_SHARE_MAX = 1 / 4

#: Inputs remembered because the rules failed on them. More than this would be one defect.
DEFECTS_MAX = 1_000


@dataclass(slots=True)
class Decided:
    """The effects of the first `taken` inputs, ready to commit."""

    batch: Batch
    taken: int
    #: What is prepared next has to read what this batch writes: it must be committed by then.
    is_barrier: bool = False


class DefectError(Exception):
    """The rules failed on an input: a defect of ours, which must not stop the partition.

    The handler has noted the input and leaves it out when it gets the batch again. Discard what the
    failed attempt has changed in memory (`Handler.forget`).
    """


class DueTimer:
    """A timer that is due, `<session>:<name>`, as an input of `decide`."""

    def __init__(self, member: bytes) -> None:
        self.member = member
        self.session, _, self.name = member.decode("utf-8", "replace").partition(":")


class Handler(ABC):
    """One kind of worker on one partition; its memory can always be read from the store again."""

    copied_bytes_min = COPIED_BYTES_MIN

    def __init__(self, store: WorkerStore, partition: Partition, group: str) -> None:
        self._store = store
        self._names = partition
        #: The stream that this kind of worker reads, and the sorted set of its timers.
        self._source = partition.source(group)
        self._timers = partition.timers(group)
        self._quarantined = Quarantine()
        #: Sessions of which somebody has deleted a key.
        self._suspects: set[str] = set()
        self._defects = Defects()
        self.pace = Pace()
        #: Bytes of an average entry of the input read last.
        self.entry_bytes = 0
        self._due_ms: int | None = None
        #: Outages of the partition as its lease names them: start and end of each, ms.
        self.outages: tuple[tuple[int, int], ...] = ()

    @abstractmethod
    async def prepare(self, entries: list[Entry]) -> list[Any]:
        """Decode entries and load the state that they need. Raises TamperedError, ServerError.

        Returns an input for each, or fewer: the rest is prepared when those are committed.
        """

    @abstractmethod
    async def prepare_timers(self, members: list[bytes], now_ms: int) -> list[Any]:
        """Turn timers that are due into inputs, with their state: see `prepare`."""

    @abstractmethod
    def decide(self, inputs: list[Any], now_ms: int) -> Decided:
        """Take inputs until the batch is full: no I/O, no clock. Raises DefectError."""

    def take_due_ms(self) -> int | None:
        """Return the earliest time of a timer set since the last call, and clear it."""
        due_ms, self._due_ms = self._due_ms, None
        return due_ms

    def quarantine(self, error: TamperedError) -> bool:
        """Leave out the session that a spoilt key belongs to; False when it is no session's key.

        If a key is gone, look again: when somebody has deleted the whole session, it begins anew.
        """
        name = self._names.session_of(error.key)
        if name is None:
            return False
        if error.found == NOTHING:
            self._suspects.add(name)
        else:
            self._quarantined.add(name, str(error))
        return True

    def leave_out(self, item: Any, reason: str) -> None:
        """Refuse an input with LIMIT from now on, because it is too much work."""
        key = item.member if isinstance(item, DueTimer) else item[0]
        self._defects.note_limit(key, reason)

    def forget(self) -> None:
        """Discard what is in memory."""
        self._due_ms = None

    @abstractmethod
    async def close(self) -> None:
        """End what the handler has started; the store's timers let the next holder begin again."""

    def _end_quarantines(self, entries: list[Entry]) -> None:
        """Let in again the sessions whose quarantine was over when the newest entry came in."""
        if self._quarantined and entries:
            self._quarantined.end(int(entries[-1][0].partition(b"-")[0]))

    def _wake_at(self, due_ms: int | None) -> None:
        if due_ms is not None and (self._due_ms is None or due_ms < self._due_ms):
            self._due_ms = due_ms

    def _set_timer(self, batch: Batch, member: str | bytes, due_ms: int) -> None:
        name = text(member) if isinstance(member, bytes) else member
        batch.write("ZADD", self._timers, (due_ms, name))
        self._wake_at(due_ms)

    def _put_off(self, batch: Batch, member: bytes, now_ms: int) -> None:
        """Set a timer again that cannot be handled now, because its session is in quarantine."""
        self._set_timer(batch, member, now_ms + QUARANTINE_MS)

    def _begin(self) -> Batch:
        """Return a new batch: it copies from the input if that is large enough."""
        return Batch(is_copying=self.entry_bytes >= self.copied_bytes_min)

    def _dead_letter(
        self, batch: Batch, entry_id: bytes, fields: list[bytes], code: str, reason: str
    ) -> None:
        copies = batch.is_copying
        letter = record.dead_letter(fields, code, reason, self._source, entry_id, copies=copies)
        batch.append(self._names.dead, "*", *letter)
        batch.size_bytes += len(b"".join(fields))


class Pace:
    """How many inputs are decided at a time, by how long the last ones took.

    A batch that outlived its lease was decided in vain: the next holder reads it again. So its
    inputs are then taken one by one. The one that outlives the lease alone too is left out.
    Workers remember that each for itself, and longer than a lease: whichever finds that input
    first gets past it.
    """

    def __init__(self) -> None:
        self.most = COUNT_MAX
        #: Inputs that are still to be taken one by one.
        self._suspects = 0

    def note(self, taken: int, took_ms: int, lease_ms: int, *, is_lease_over: bool) -> bool:
        """Note how long a batch took; True if it was a single input that is to be left out."""
        # A worker that was stopped for a while loses its lease too, but seldom twice in a decision.
        if is_lease_over and took_ms > lease_ms / 2:
            was_suspect = self._suspects and taken == 1
            self.most, self._suspects = 1, 0 if was_suspect else taken
            return bool(was_suspect)
        self._suspects = max(0, self._suspects - taken)
        if took_ms > lease_ms * LEASE_SHARE_MAX:
            self.most = max(1, taken // 2)
        elif not self._suspects:
            self.most *= 2 if self.most < COUNT_MAX else 1
        return False


class Quarantine:
    """Sessions that are left out for a while, because one of their keys is spoilt.

    A quarantine's end is set by the first call of `end` after it: only batches know the time.
    """

    def __init__(self) -> None:
        #: Session → (why it is left out, until when).
        self._sessions: dict[str, tuple[str, int]] = {}

    def __contains__(self, session: str) -> bool:
        return session in self._sessions

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: str, reason: str) -> None:
        """Leave a session out. If there are too many, let the oldest one in again."""
        self._sessions.pop(session, None)
        if len(self._sessions) >= QUARANTINED_MAX:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[session] = (reason, 0)

    def drop(self, session: str) -> None:
        """Let a session in again."""
        self._sessions.pop(session, None)

    def reason(self, session: str) -> str:
        """Say why a session is left out."""
        return self._sessions.get(session, ("its state is not readable", 0))[0]

    def end(self, now_ms: int) -> None:
        """Let in again the sessions whose time is over."""
        for session, (reason, until_ms) in list(self._sessions.items()):
            if not until_ms:
                self._sessions[session] = (reason, now_ms + QUARANTINE_MS)
            elif until_ms <= now_ms:
                del self._sessions[session]


class Defects(dict[bytes, tuple[str, str]]):
    """Inputs that cannot be handled → code and reason. Emptied when full."""

    def note(self, key: bytes, error: Exception) -> None:
        """Remember an input that the rules failed on."""
        reason = f"the rules failed on it ({type(error).__name__}); please report this"
        self._note(key, "DEFECT", reason)

    def check_size(self, key: bytes, decision: Decision) -> None:
        """Leave out what no commit can hold. Raises DefectError; the input goes to `dead`."""
        size = sum(len(message.payload) for message in decision.messages)
        if size > CONSEQUENCE_BYTES_MAX:
            reason = (
                f"{len(decision.messages)} messages of {size} bytes in all would follow from it; "
                f"at most {CONSEQUENCE_BYTES_MAX} bytes"
            )
            self.note_limit(key, reason)
            raise DefectError(f"{key!r}: {reason}")

    def note_limit(self, key: bytes, reason: str) -> None:
        """Remember an input that is too large, or too much work."""
        self._note(key, "LIMIT", reason)

    def _note(self, key: bytes, code: str, reason: str) -> None:
        if len(self) >= DEFECTS_MAX:
            self.clear()
        self[key] = code, reason
