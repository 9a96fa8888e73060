"""Lets go what nobody needs any more, by the rules of `[retention]`, a bounded part a commit.

Theory of operation. One timer of the partition, `:retention`, comes due every `look_ms`. Then a
worker looks at

- the dead letters: by age, and by their bytes.
- the least recent sessions: those that have ended are marked as being deleted, and `purge.py` does
  the rest. All that may go are marked, some in each step, until so many are on their way out that
  the next look comes sooner. So no speed at which runs end is above that at which they go.
- the sessions in which something happened since the last look, many at a time: messages that their
  agents have read, and inboxes that have grown too large, are cut. The log never is.

Each commit does one of these steps, so that signals wait for no more than that. What was cut of a
session is in its `meta`: `cut_read` is the number of the event before which read messages are gone,
`cut:inbox:NAME` and `cut:broadcast` are the first ids that a stream still has which was too large.
The lease of the partition has `cut_dead`. All of it is in the store: after a crash, the next look
finds what is left to do. What a worker only has in memory (how much a stream has grown) bounds the
streams a little later.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

from fabric.core.rule_table import SESSION_MAX
from fabric.core.rules import Rules
from fabric.core.run import at_work
from fabric.core.session import SessionState
from fabric.core.task import TaskStatus
from fabric.errors import TamperedError
from fabric.store.keys import ORCHESTRATORS, Partition
from fabric.store.port import Batch, Entry, WorkerStore
from fabric.store.value import parse_cursor, parse_id, whole_number
from fabric.wire.stored import text
from workers.handler import DueTimer

#: The timer, as a session without a name has it: no session is called so.
TIMER = ":retention"

#: Sessions that one step looks at: they are read at once, in some milliseconds.
LOOKED_MAX = 100

#: Inboxes that one commit cuts: each costs the server some microseconds, and what it frees.
CUTS_MAX = 200

#: Sessions that one step takes up, of those that may have ended: each is read as a whole.
ENDED_MAX = 20

#: Sessions on their way out, above which no more are marked: each step reads their names. The next
#: look comes after this time then, ms.
LEAVING_MAX = 500
LEAVING_LOOK_MS = 1_000

#: Bytes of a page of a stream that is measured; entries of the first page, and of any.
PAGE_BYTES = 2_097_152
PAGE_FIRST = 4
PAGE_MAX = 500

#: Bytes that an entry takes besides its values, roughly.
ENTRY_BYTES = 200

#: What was appended to a stream, as one number: its bytes, and above them its entries. Each message
#: adds to it, and two numbers in a struct took 3 % of a signal's byte codes.
GROWN_BITS = 48
ENTRY = (1 << GROWN_BITS) + ENTRY_BYTES

#: The dead letters are measured in every so many looks, however few we have written.
LOOKS_PER_DEAD = 60

#: A stream is measured again when it has grown by this part of what it may hold.
GROWN = 4


@dataclass(slots=True)
class Walk:
    """A stream that is being measured, from its newest entry back."""

    key: str
    session: str
    entries_max: int
    bytes_max: int
    count: int = PAGE_FIRST
    upto: bytes = b"+"
    entries: int = 0
    size_bytes: int = 0

    def take(self, page: list[Entry]) -> bytes | None:
        """Add a page, newest first; return the first id to keep when the rest is too much."""
        for entry_id, fields in page:
            self.entries += 1
            self.size_bytes += ENTRY_BYTES + sum(map(len, fields))
            if self.entries > self.entries_max or self.size_bytes > self.bytes_max:
                return entry_id if self.upto == b"+" else self.upto.removeprefix(b"(")
            self.upto = b"(" + entry_id
        each = self.size_bytes // max(1, self.entries)
        self.count = max(1, min(PAGE_MAX, PAGE_BYTES // max(1, each)))
        return None


class RetentionTimer(DueTimer):
    """A look that is due: one step of it, prepared."""

    def __init__(self, member: bytes) -> None:
        super().__init__(member)
        #: Session → keys and the first ids that they keep; "" has the dead letters.
        self.cuts: dict[str, list[tuple[str, bytes]]] = {}
        #: Session → what its `meta` says from then on.
        self.notes: dict[str, list[str | int]] = {}
        self.ended: list[str] = []
        self.is_over = False


@dataclass(slots=True)
class Retention:
    """What a partition's orchestrator has to look at."""

    store: WorkerStore
    names: Partition
    rules: Rules
    #: Sessions with an event since the last look → the number of the last one.
    active: dict[str, int] = field(default_factory=dict)
    #: Stream → what was appended since it was measured last: `ENTRY` and its bytes for each.
    grown: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    #: What is left of this look.
    _sessions: deque[tuple[str, int]] = field(default_factory=deque)
    _walks: deque[Walk] = field(default_factory=deque)
    _inboxes: deque[tuple[str, str, bytes]] = field(default_factory=deque)
    _is_looking: bool = False
    #: More sessions may have ended than were marked in this look.
    _is_clearing: bool = False
    _looks: int = 0
    #: Session and agent → the id before which its inbox was cut last.
    _cut: dict[str, dict[str, bytes]] = field(default_factory=dict)
    #: Least recent sessions that cannot go → their last activity, ms, and whether they are old.
    _kept: dict[str, tuple[int, bool]] = field(default_factory=dict)
    #: Sessions that are being deleted, and were there in the last look.
    leaving: set[str] = field(default_factory=set)
    #: The timer is known to be set.
    is_set: bool = False

    def due_ms(self, now_ms: int) -> int:
        """Return the time of the next look: one that a new holder does not put off."""
        look_ms = self.rules.look_ms
        if len(self.leaving) >= LEAVING_MAX:
            look_ms = min(look_ms, LEAVING_LOOK_MS)
        return (now_ms // look_ms + 1) * look_ms

    async def prepare(self, member: bytes, now_ms: int) -> RetentionTimer:
        """Prepare the next step of a look."""
        timer = RetentionTimer(member)
        self.is_set = True
        if not self._is_looking:
            self._begin()
            await self._look_at_dead(timer, now_ms)
        elif self._is_clearing:
            await self._look_for_ended(timer, now_ms)
        elif self._inboxes:
            self._cut_inboxes(timer)
        elif self._walks:
            await self._measure(timer)
        elif self._sessions:
            await self._look_at(timer)
        left = self._is_clearing or self._inboxes or self._walks or self._sessions
        timer.is_over, self._is_looking = not left, bool(left)
        return timer

    def _begin(self) -> None:
        self._is_looking = self._is_clearing = True
        if self._looks % LOOKS_PER_DEAD == 0:
            # The synthesizer writes some of them, and an earlier worker has written others.
            self.grown[self.names.dead] = self.rules.dead_bytes
        self._looks += 1
        # Nothing can go yet of a session with few events: of many small ones, none costs a look.
        least = min(self.rules.read_events, self.rules.revisions_max)
        self._sessions.extend(one for one in self.active.items() if one[1] > least)
        self.active = {}
        cut = self._cut
        self._cut = {name: cut[name] for name, _ in self._sessions if name in cut}
        for key, growth in list(self.grown.items()):
            entries_max, bytes_max = self.rules.inbox_max, self.rules.inbox_bytes
            if key == self.names.dead:
                entries_max, bytes_max = bytes_max, self.rules.dead_bytes
            entries, size_bytes = growth >> GROWN_BITS, growth % (1 << GROWN_BITS)
            if entries >= entries_max // GROWN or size_bytes >= bytes_max // GROWN:
                session = self.names.session_of(key) or ""
                self._walks.append(Walk(key, session, entries_max, bytes_max))
                del self.grown[key]

    async def _look_at_dead(self, timer: RetentionTimer, now_ms: int) -> None:
        """Cut dead letters by their age."""
        if not self.rules.dead_ms:
            return
        first = b"%d-0" % max(0, now_ms - self.rules.dead_ms)
        key = self.names.dead
        if await self.store.entries(key, b"-", b"(" + first, 1):
            timer.cuts[""] = [(key, first)]

    async def _look_at(self, timer: RetentionTimer) -> None:
        """Find the messages that their agents have read, in some more sessions."""
        looked = [self._sessions.popleft() for _ in range(min(LOOKED_MAX, len(self._sessions)))]
        keys = [self.names.session(name) for name, _ in looked]
        try:
            found = await self.store.hashes(
                [key for one in keys for key in (one.meta, one.cursors)]
            )
            firsts = {
                own.name: await self.store.entries(own.revisions, b"-", b"+", 1)
                for own, (_, log) in zip(keys, looked, strict=True)
                if log > self.rules.revisions_max
            }
        except TamperedError as error:
            # That session is left out; all the others are looked at again.
            spoilt = self.names.session_of(error.key)
            self._sessions.extend(one for one in looked if one[0] != spoilt)
            raise
        for own, meta, cursors in zip(keys, found[::2], found[1::2], strict=True):
            self._find_read(own.name, meta, cursors, timer)
            if (first := _number(firsts.get(own.name, []))) > 1:
                timer.notes.setdefault(own.name, []).extend(("cut_revisions", first))

    def _find_read(
        self,
        session: str,
        meta: dict[bytes, bytes],
        cursors: dict[bytes, bytes],
        timer: RetentionTimer,
    ) -> None:
        done, found = self._cut.setdefault(session, {}), len(self._inboxes)
        log = whole_number(meta.get(b"log", b"0")) or 0
        before = max(0, log - self.rules.read_events)
        for name, stored in cursors.items():
            agent = name.decode("utf-8", "replace")
            upto = min(parse_cursor(stored)[0], b"%d-0" % before, key=parse_id)
            if parse_id(upto) > parse_id(done.get(agent, b"0-0")):
                self._inboxes.append((session, agent, upto))
        if len(self._inboxes) > found:
            timer.notes[session] = ["cut_read", before]

    def _cut_inboxes(self, timer: RetentionTimer) -> None:
        for _ in range(min(CUTS_MAX, len(self._inboxes))):
            session, agent, upto = self._inboxes.popleft()
            self._cut.setdefault(session, {})[agent] = upto
            inbox = self.names.session(session).inbox(agent)
            timer.cuts.setdefault(session, []).append((inbox, upto))

    async def _measure(self, timer: RetentionTimer) -> None:
        """Measure one more page of a stream; cut what is beyond its bounds."""
        walk = self._walks[0]
        wanted = walk.count
        page = await self.store.entries(walk.key, b"-", walk.upto, wanted, newest_first=True)
        first = walk.take(page)
        if first is None and len(page) == wanted:
            return
        self._walks.popleft()
        if first is not None:
            timer.cuts[walk.session] = [(walk.key, first)]
            if walk.session:
                prefix = self.names.session(walk.session).prefix
                note = f"cut:{walk.key.removeprefix(prefix + ':')}"
                timer.notes[walk.session] = [note, text(first)]

    async def _look_for_ended(self, timer: RetentionTimer, now_ms: int) -> None:
        """Find sessions that may be deleted; the rules of each are looked at with its state."""
        rules = self.rules
        count = ENDED_MAX + len(self._kept)
        most = rules.sessions_max or SESSION_MAX
        found, beside = await self.store.least_recent(self.names.number, count, most)
        kept, self._kept = self._kept, {}
        self.leaving.intersection_update(name for name, _ in found)
        room = max(0, min(ENDED_MAX, LEAVING_MAX - len(self.leaving)))
        for number, (name, active_ms) in enumerate(found):
            is_old = 0 < rules.ended_ms <= now_ms - active_ms
            is_beside = number < beside and now_ms - active_ms >= rules.recent_ms
            if not is_old and not is_beside:
                break
            # What is to be kept after all is looked at again when that can have changed.
            self._kept[name] = active_ms, is_old
            if kept.get(name) == self._kept[name]:
                continue
            if len(timer.ended) == room:
                del self._kept[name]
                break
            timer.ended.append(name)
        self._is_clearing = len(timer.ended) == ENDED_MAX

    def is_over(self, session: SessionState, now_ms: int) -> bool:
        """Whether a session may be deleted; none at work is, or awaiting agents to a deadline.

        A run that nobody has come to, or that awaits agents without a deadline, goes by its age.
        """
        if session.is_purging or not _has_ended(session):
            return False
        idle_ms = now_ms - session.clock_ms
        if 0 < self.rules.ended_ms <= idle_ms:
            return True
        return idle_ms >= self.rules.recent_ms and _is_done(session)

    def forget(self) -> None:
        """Discard what is under way: the next look begins anew."""
        self.active = dict(self._sessions) | self.active
        self._sessions.clear()
        self._walks.clear()
        self._inboxes.clear()
        self._cut.clear()
        # They were marked in vain if that commit failed.
        self._kept.clear()
        self.leaving.clear()
        self._is_looking = self._is_clearing = self.is_set = False


def cut(batch: Batch, partition: Partition, timer: RetentionTimer) -> None:
    """Add the cuts of a step to a batch, and what says so."""
    for cuts in timer.cuts.values():
        for key, first in cuts:
            batch.trim(key, first)
    if "" in timer.cuts:
        ((_, first),) = timer.cuts[""]
        batch.write("HSET", partition.lease(ORCHESTRATORS), ("cut_dead", text(first)))
    for session, note in timer.notes.items():
        meta = partition.session(session).meta
        batch.write("HSET", meta, note)
        batch.expect(meta)


def _number(found: list[Entry]) -> int:
    return parse_id(found[0][0])[0] if found else 0


def _has_ended(session: SessionState) -> bool:
    awaited = [session.roster.records[name] for name in session.awaited()]
    return not at_work(session) and not any(one.until_ms for one in awaited)


def _is_done(session: SessionState) -> bool:
    """Whether a run was closed, or nothing in it waits for anybody."""
    if session.closed_ms:
        return True
    is_asked = any(asked.is_open for asked in session.escalations.records.values())
    tasks = session.tasks.records.values()
    if is_asked or session.awaited():
        return False
    return all(task.status is TaskStatus.COMPLETED for task in tasks)
