"""The orchestrator's half of the loop: signals in, the core's decisions out, as one batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fabric.config.settings import Settings
from fabric.core.decision import Decision, Outcome
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import Signal
from fabric.core.step import fire, step
from fabric.errors import SignalError
from fabric.store import state
from fabric.store.keys import Partition, SessionKeys
from fabric.store.port import Batch, Entry, WorkerStore
from fabric.wire import record
from fabric.wire.entry import decode
from workers import consequence, quarantine, telling
from workers.handler import Decided, DefectError

logger = logging.getLogger("fabric.orchestrator")

#: Bytes of one commit's arguments, roughly. A megabyte takes the server some milliseconds.
COMMIT_BYTES_MAX = 2_097_152


class _Alarm:
    """A timer that is due."""

    __slots__ = ("is_told", "member", "session", "timer")

    def __init__(self, member: bytes) -> None:
        self.member = member
        #: Of a question for the hook: whether nothing is left to do.
        self.is_told: bool | None = None
        self.session, _, self.timer = member.decode("utf-8", "replace").partition(":")


#: What `decide` takes: an entry with its signal, or with the reason why it is none; or a timer.
_Input = tuple[bytes, list[bytes], Signal | SignalError] | _Alarm


class Orchestrator:
    """The sessions of one partition, as far as they are in memory."""

    def __init__(
        self,
        store: WorkerStore,
        partition: Partition,
        rules: Rules,
        settings: Settings,
        teller: telling.Teller | None = None,
    ) -> None:
        self._teller = teller or telling.Teller(rules)
        self._store = store
        self._names = partition
        self._rules = rules
        #: What a session's log says once these rules are in force, and what the session says.
        self._rules_document = record.rules_document(rules)
        self._digest = record.rules_digest(self._rules_document)
        self._cached_max = settings.sessions_cached_max
        #: Sessions in memory, the one used longest ago first.
        self._sessions: dict[str, SessionState] = {}
        self._keys: dict[str, SessionKeys] = {}
        self._quarantined = quarantine.Quarantine()
        self._defects = quarantine.Defects()
        self._due_ms: int | None = None

    async def prepare(self, entries: list[Entry]) -> list[Any]:
        """See Handler."""
        inputs: list[_Input] = []
        needed: dict[str, None] = {}
        if self._quarantined and entries:
            # By the time the newest came in: what a quarantine has outlasted is read again.
            self._quarantined.end(int(entries[-1][0].partition(b"-")[0]))
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
        for alarm in inputs:
            session = self._sessions.get(alarm.session)
            if session is not None and alarm.timer.startswith(telling.PREFIX):
                alarm.is_told = self._teller.is_told(session, alarm.timer, alarm.member)
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
        touched: dict[str, SessionState] = {}
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
        self._quarantined.end(now_ms)
        return Decided(batch, taken)

    def _take_signal(
        self,
        batch: Batch,
        touched: dict[str, SessionState],
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
            reason = self._quarantined.reason(signal.session)
            self._bury(batch, entry_id, fields, "TAMPERED", reason)
            return
        # The server's time at which the signal came in; a hand-made id does not move the clock on.
        entered_ms = min(int(entry_id[: entry_id.index(b"-")]), now_ms)
        if session.rules != self._digest:
            self._adopt(batch, touched, session, entered_ms)
        try:
            decision = step(session, signal, self._rules, entered_ms)
        except Exception as error:
            self._defects.note(entry_id, error)
            raise DefectError(f"{signal.type} of {signal.emitter}, entry {entry_id!r}") from error
        if decision.outcome is Outcome.REPEATED:
            return
        touched[signal.session] = session
        keys, ms = self._keys[signal.session], session.clock_ms
        cause = f"{session.log}-0"
        batch.size_bytes += 2 * len(signal.raw)
        if decision.outcome is Outcome.REFUSED:
            self._bury(batch, entry_id, fields, decision.code, decision.reason)
            refusal = record.logged_refusal(signal, decision.code, decision.reason, ms)
            batch.append(keys.log, cause, *refusal)
        else:
            batch.append(keys.log, cause, *record.logged_signal(signal, ms))
        if decision.to_results:
            agent = session.agents.get(signal.emitter)
            result = record.result(signal, agent, decision.result, cause, ms)
            batch.append(self._names.results, "*", *result)
        if decision.messages or decision.timers:
            self._defects.check_size(entry_id, decision)
            self._follow(batch, session, decision)

    def _take_alarm(
        self, batch: Batch, touched: dict[str, SessionState], alarm: _Alarm, now_ms: int
    ) -> None:
        session = self._sessions.get(alarm.session)
        if session is None:
            later = now_ms + quarantine.QUARANTINE_MS
            batch.write("ZADD", self._names.deadlines, (later, alarm.member))
            return
        if alarm.is_told is False:
            self._wake_at(now_ms + telling.PAUSE_MS)
            batch.write("ZADD", self._names.deadlines, (now_ms + telling.PAUSE_MS, alarm.member))
            return
        batch.write("ZREM", self._names.deadlines, (alarm.member,))
        if alarm.is_told or alarm.member in self._defects:
            return
        if session.rules != self._digest:
            self._adopt(batch, touched, session, now_ms)
        try:
            decision = fire(session, alarm.timer, self._rules, now_ms)
        except Exception as error:
            self._defects.note(alarm.member, error)
            raise DefectError(f"timer {alarm.member!r}") from error
        if decision is None:
            return
        if decision.outcome is not Outcome.POSTPONED:
            self._defects.check_size(alarm.member, decision)
            touched[alarm.session] = session
            logged = record.logged_timer(alarm.timer, session.clock_ms)
            batch.append(self._keys[alarm.session].log, f"{session.log}-0", *logged)
            if decision.fallen:
                consequence.mourn(batch, self._names, session, decision.fallen)
        self._follow(batch, session, decision)

    def _adopt(
        self, batch: Batch, touched: dict[str, SessionState], session: SessionState, now_ms: int
    ) -> None:
        """Put our rules in force for a session that was decided by others, and log that."""
        session.adopt(self._digest, now_ms)
        logged = record.logged_rules(self._rules_document, session.clock_ms)
        batch.append(self._keys[session.name].log, f"{session.log}-0", *logged)
        touched[session.name] = session

    def _follow(self, batch: Batch, session: SessionState, decision: Decision) -> None:
        """Deliver what follows from an event, and set its timers."""
        consequence.deliver(batch, self._keys[session.name], session, decision)
        due_ms = consequence.set_timers(batch, self._names, session.name, decision.timers)
        self._wake_at(due_ms)

    def _wake_at(self, due_ms: int | None) -> None:
        if due_ms is not None and (self._due_ms is None or due_ms < self._due_ms):
            self._due_ms = due_ms

    def _bury(
        self, batch: Batch, entry_id: bytes, fields: list[bytes], code: str, reason: str
    ) -> None:
        source = self._names.signals
        consequence.bury(batch, self._names, source, entry_id, fields, code, reason)

    def next_due_ms(self) -> int | None:
        """See Handler."""
        due_ms, self._due_ms = self._due_ms, None
        return due_ms

    def quarantine(self, key: str, reason: str) -> bool:
        """See Handler. The quarantine's end is set when the next batch tells the time."""
        name = self._names.session_of(key)
        if name is None:
            return False
        self._quarantined.add(name, reason)
        return True

    def forget(self) -> None:
        """See Handler."""
        self._sessions.clear()
        self._keys.clear()
        self._due_ms = None

    async def close(self) -> None:
        """Kill what was started for our questions; whoever serves next tells them again."""
        await self._teller.close()


def factory(rules: Rules, settings: Settings) -> Callable[[WorkerStore, int], Orchestrator]:
    """Return what makes a partition's handler."""
    teller = telling.Teller(rules)

    def make(store: WorkerStore, partition: int) -> Orchestrator:
        return Orchestrator(store, store.namespace.partition(partition), rules, settings, teller)

    return make
