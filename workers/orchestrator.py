"""The orchestrator's half of the loop: signals in, the core's decisions out, as one batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fabric.core.decision import EVERYONE, Decision, Outcome
from fabric.core.rules import Rules
from fabric.core.session import Session
from fabric.core.signal import Signal
from fabric.core.step import fire, step
from fabric.errors import SignalError
from fabric.settings import Settings
from fabric.store import state
from fabric.store.keys import Partition, SessionKeys
from fabric.store.port import Batch, Entry, WorkerStore
from fabric.wire import record
from fabric.wire.entry import decode
from workers.handler import Decided, DefectError

logger = logging.getLogger("fabric.orchestrator")

#: Bytes of one commit's arguments, roughly. A megabyte takes the server some milliseconds.
COMMIT_BYTES_MAX = 2_097_152

#: Bytes of the messages that may follow from one signal. One commit holds them all, and a server
#: refuses a request of a gigabyte, whoever sends it and however often.
CONSEQUENCE_BYTES_MAX = 33_554_432

#: Time that a session with a spoilt key is left out before it is looked at again, ms.
QUARANTINE_MS = 10_000


#: Inputs that are remembered for a defect of the rules. More at a time would be one defect.
DEFECTS_MAX = 1_000


class _Alarm:
    """A timer that is due."""

    __slots__ = ("member", "session", "timer")

    def __init__(self, member: bytes) -> None:
        self.member = member
        self.session, _, self.timer = member.decode("utf-8", "replace").partition(":")


#: What `decide` takes: an entry with its signal, or with the reason why it is none; or a timer.
_Input = tuple[bytes, list[bytes], Signal | SignalError] | _Alarm


class Orchestrator:
    """The sessions of one partition, as far as they are in memory."""

    def __init__(
        self, store: WorkerStore, partition: Partition, rules: Rules, settings: Settings
    ) -> None:
        self._store = store
        self._names = partition
        self._rules = rules
        self._cached_max = settings.sessions_cached_max
        #: Sessions in memory, the one used longest ago first.
        self._sessions: dict[str, Session] = {}
        self._keys: dict[str, SessionKeys] = {}
        #: Session → (why it is left out, until when).
        self._quarantined: dict[str, tuple[str, int]] = {}
        #: Inputs that cannot be handled → code and reason. Emptied when full.
        self._defects: dict[bytes, tuple[str, str]] = {}
        self._due_ms: int | None = None

    async def prepare(self, entries: list[Entry]) -> list[Any]:
        """See Handler."""
        inputs: list[_Input] = []
        needed: dict[str, None] = {}
        if self._quarantined and entries:
            # By the time the newest came in: what a quarantine has outlasted is read again.
            self._end_quarantines(int(entries[-1][0].partition(b"-")[0]))
        for entry_id, fields in entries:
            try:
                signal = decode(fields)
            except SignalError as error:
                inputs.append((entry_id, fields, error))
                continue
            needed[signal.session] = None
            inputs.append((entry_id, fields, signal))
        await self._load(needed)
        return inputs

    async def alarms(self, timers: list[bytes]) -> list[Any]:
        """See Handler."""
        inputs = [_Alarm(member) for member in timers]
        await self._load({alarm.session: None for alarm in inputs})
        return inputs

    async def _load(self, needed: dict[str, None]) -> None:
        """Bring sessions into memory, and let go of those used longest ago."""
        for name in needed:
            session = self._sessions.pop(name, None)
            if session is None and name not in self._quarantined:
                keys = self._keys[name] = self._names.session(name)
                stored = await self._store.hashes(state.hashes(keys))
                session = state.restore(name, keys, stored)
            if session is not None:
                self._sessions[name] = session
        while len(self._sessions) > max(self._cached_max, len(needed)):
            oldest = next(iter(self._sessions))
            del self._sessions[oldest], self._keys[oldest]

    def decide(self, inputs: list[Any], now_ms: int) -> Decided:
        """See Handler."""
        batch = Batch()
        touched: dict[str, Session] = {}
        taken = 0
        item: _Input
        for item in inputs:
            taken += 1
            if isinstance(item, _Alarm):
                self._take_alarm(batch, touched, item, now_ms)
            else:
                entry_id, fields, signal = item
                self._take_signal(batch, touched, entry_id, fields, signal, now_ms)
            if batch.size_bytes > COMMIT_BYTES_MAX:
                break
        for name, session in touched.items():
            state.save(batch, self._keys[name], session)
        if touched:
            scores: list[str | bytes | int] = []
            for name, session in touched.items():
                scores += (session.clock_ms, name)
            batch.write("ZADD", self._names.sessions, scores)
        self._end_quarantines(now_ms)
        return Decided(batch, taken)

    def _take_signal(
        self,
        batch: Batch,
        touched: dict[str, Session],
        entry_id: bytes,
        fields: list[bytes],
        signal: Signal | SignalError,
        now_ms: int,
    ) -> None:
        if isinstance(signal, SignalError):
            self._bury(batch, entry_id, fields, *record.reason_of(signal))
            return
        if entry_id in self._defects:
            self._bury(batch, entry_id, fields, *self._defects[entry_id])
            return
        session = self._sessions.get(signal.session)
        if session is None:
            reason, _ = self._quarantined.get(signal.session, ("its state is not readable", 0))
            self._bury(batch, entry_id, fields, "TAMPERED", reason)
            return
        # The server's time at which the signal came in; a hand-made id does not move the clock on.
        entered_ms = min(int(entry_id[: entry_id.index(b"-")]), now_ms)
        try:
            decision = step(session, signal, self._rules, entered_ms)
        except Exception as error:
            self._note_defect(entry_id, error)
            raise DefectError(f"{signal.type} of {signal.emitter}, entry {entry_id!r}") from error
        if decision.outcome is Outcome.REPEATED:
            return
        touched[signal.session] = session
        keys, ms = self._keys[signal.session], session.clock_ms
        cause = f"{session.log}-0"
        if decision.outcome is Outcome.REFUSED:
            self._bury(batch, entry_id, fields, decision.code, decision.reason)
            refusal = record.logged_refusal(signal, decision.code, decision.reason, ms)
            batch.append(keys.log, cause, *refusal)
            return
        batch.size_bytes += 2 * len(signal.raw)
        batch.append(keys.log, cause, *record.logged_signal(signal, ms))
        if decision.to_results:
            incarnation = self._incarnation(session, signal)
            result = record.result(signal, incarnation, cause, ms)
            batch.append(self._names.results, "*", *result)
        if decision.messages or decision.timers:
            self._check_size(entry_id, decision)
            self._write_consequences(batch, session, keys, decision, cause)

    def _take_alarm(
        self, batch: Batch, touched: dict[str, Session], alarm: _Alarm, now_ms: int
    ) -> None:
        session = self._sessions.get(alarm.session)
        if session is None:
            later = now_ms + QUARANTINE_MS
            batch.write("ZADD", self._names.deadlines, (later, alarm.member))
            return
        batch.write("ZREM", self._names.deadlines, (alarm.member,))
        if alarm.member in self._defects:
            return
        try:
            decision = fire(session, alarm.timer, self._rules, now_ms)
        except Exception as error:
            self._note_defect(alarm.member, error)
            raise DefectError(f"timer {alarm.member!r}") from error
        if decision is None:
            return
        self._check_size(alarm.member, decision)
        touched[alarm.session] = session
        keys, cause = self._keys[alarm.session], f"{session.log}-0"
        batch.append(keys.log, cause, *record.logged_timer(alarm.timer, session.clock_ms))
        self._write_consequences(batch, session, keys, decision, cause)

    def _write_consequences(
        self, batch: Batch, session: Session, keys: SessionKeys, decision: Decision, cause: str
    ) -> None:
        """Log every message, and deliver it under the same id."""
        for number, message in enumerate(decision.messages, 1):
            entry_id = f"{session.log}-{number}"
            logged = record.logged_message(message, cause, session.clock_ms)
            batch.append(keys.log, entry_id, *logged)
            if message.to:
                key = keys.broadcast if message.to == EVERYONE else keys.inbox(message.to)
                batch.append(key, entry_id, *record.inbox(message, cause))
            batch.size_bytes += 2 * len(message.payload)
        for timer, due_ms in decision.timers.items():
            member = f"{session.name}:{timer}"
            if due_ms is None:
                batch.write("ZREM", self._names.deadlines, (member,))
                continue
            batch.write("ZADD", self._names.deadlines, (due_ms, member))
            if self._due_ms is None or due_ms < self._due_ms:
                self._due_ms = due_ms

    def _bury(
        self, batch: Batch, entry_id: bytes, fields: list[bytes], code: str, reason: str
    ) -> None:
        letter = record.dead(fields, code, reason, self._names.signals, entry_id)
        batch.write("XADD", self._names.dead, ("*", *letter))
        batch.size_bytes += sum(map(len, fields))

    @staticmethod
    def _incarnation(session: Session, signal: Signal) -> int:
        agent = session.agents.get(signal.emitter)
        return agent.incarnation if agent is not None else signal.incarnation

    def _check_size(self, key: bytes, decision: Decision) -> None:
        """Leave out what no commit can hold. Raises DefectError; the input goes to `dead`."""
        size = sum(len(message.payload) for message in decision.messages)
        if size > CONSEQUENCE_BYTES_MAX:
            reason = (
                f"{len(decision.messages)} messages of {size} bytes in all would follow from it; "
                f"at most {CONSEQUENCE_BYTES_MAX} bytes"
            )
            self._note(key, "LIMIT", reason)
            raise DefectError(f"{key!r}: {reason}")

    def _note_defect(self, key: bytes, error: Exception) -> None:
        kind = type(error).__name__
        self._note(key, "DEFECT", f"the rules failed on it ({kind}); please report this")

    def _note(self, key: bytes, code: str, reason: str) -> None:
        if len(self._defects) >= DEFECTS_MAX:
            self._defects.clear()
        self._defects[key] = code, reason

    def next_due_ms(self) -> int | None:
        """See Handler."""
        due_ms, self._due_ms = self._due_ms, None
        return due_ms

    def quarantine(self, key: str, reason: str) -> bool:
        """See Handler. The quarantine's end is set when the next batch tells the time."""
        name = self._names.session_of(key)
        if name is None:
            return False
        self._quarantined[name] = (reason, 0)
        return True

    def _end_quarantines(self, now_ms: int) -> None:
        for name, (reason, until_ms) in list(self._quarantined.items()):
            if not until_ms:
                self._quarantined[name] = (reason, now_ms + QUARANTINE_MS)
            elif until_ms <= now_ms:
                del self._quarantined[name]

    def forget(self) -> None:
        """See Handler."""
        self._sessions.clear()
        self._keys.clear()
        self._due_ms = None


def factory(rules: Rules, settings: Settings) -> Callable[[WorkerStore, int], Orchestrator]:
    """Return what makes a partition's handler."""

    def make(store: WorkerStore, partition: int) -> Orchestrator:
        return Orchestrator(store, store.namespace.partition(partition), rules, settings)

    return make
