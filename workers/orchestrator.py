"""The orchestrator's half of the loop: signals in, the core's decisions out, as one batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from fabric.config.settings import Settings
from fabric.core import attention, liveness, run
from fabric.core.contradiction import is_from_synthesizer
from fabric.core.event import EVERYONE, NO_PEERS, NOTHING_READ, Decision, Outcome
from fabric.core.limits import INCARNATIONS_SKIPPED_MAX
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import Signal, SignalType
from fabric.core.step import fire, skip, step, turn_away
from fabric.errors import SignalError, TamperedError
from fabric.store import state
from fabric.store.keys import (
    FLOORS,
    HANDED_OUT,
    ORCHESTRATORS,
    TOKEN_FLOOR,
    Partition,
    SessionKeys,
)
from fabric.store.port import Batch, Entry, WorkerStore
from fabric.store.state import StoredSession
from fabric.store.value import whole_number
from fabric.wire import record
from fabric.wire.entry import decode, sender_of
from fabric.wire.stored import text
from workers import hook, purge, retention
from workers.census import Census
from workers.child_process import PROCESSES_MAX
from workers.handler import COMMIT_BYTES_MAX, Decided, DefectError, DueTimer, Handler
from workers.session_cache import SessionCache

logger = logging.getLogger("fabric.orchestrator")


class _Timer(DueTimer):
    """A timer that is due. `is_notified` is set for a question that the hook must hear of."""

    is_notified: bool | None = None
    peers, reading = NO_PEERS, NOTHING_READ


#: What `decide` takes: an entry with its signal, or with the reason why it is none; or a timer.
_Input = (
    tuple[bytes, list[bytes], Signal | SignalError]
    | _Timer
    | purge.PurgeTimer
    | retention.RetentionTimer
)

#: Tokens that a session whose keys are spoilt can have handed out: more than a year of them.
SPOILT_TOKENS = 1_000_000_000


class Orchestrator(Handler):
    """The sessions of one partition in memory; `turns` bounds the hook's runs of a whole worker."""

    def __init__(
        self,
        store: WorkerStore,
        partition: Partition,
        rules: Rules,
        settings: Settings,
        turns: asyncio.Semaphore | None = None,
    ) -> None:
        super().__init__(store, partition, ORCHESTRATORS)
        self._hook = hook.Hook(rules.hook, turns or asyncio.Semaphore(PROCESSES_MAX))
        self._rules = rules
        #: The rules as a session's log states them, and the digest that a session keeps of them.
        self._rules_document = record.rules_document(rules)
        self._digest = record.rules_digest(self._rules_document)
        self._census = Census(store, partition, rules)
        self._retention = retention.Retention(store, partition, rules)
        #: New sessions begin above these; what the lease has of them. None: not read yet.
        self._floors = dict.fromkeys(FLOORS, 0)
        self._stored_floors: dict[str, int] | None = None
        self._token_epoch = 0
        self._sessions = SessionCache(
            store, partition, settings.sessions_cached_max, self._quarantined, self._suspects
        )
        #: Those that this batch changes.
        self._touched: dict[str, StoredSession] = {}

    async def prepare(self, entries: list[Entry]) -> list[Any]:
        inputs: list[_Input] = []
        needed: dict[str, None] = {}
        self._end_quarantines(entries)
        for entry_id, fields in entries:
            try:
                signal = decode(fields)
            except SignalError as error:
                inputs.append((entry_id, fields, error))
                if origin := sender_of(fields):
                    needed[origin[0]] = None
                continue
            needed[signal.session] = None
            inputs.append((entry_id, fields, signal))
        await self._load(needed)
        return inputs

    async def prepare_timers(self, members: list[bytes], now_ms: int) -> list[Any]:
        inputs: list[_Timer | purge.PurgeTimer | retention.RetentionTimer] = []
        needed: dict[str, None] = {}
        slices = await purge.prepare(self._store, self._names, ORCHESTRATORS, members)
        for member in members:
            if member == retention.TIMER.encode():
                look = await self._retention.prepare(member, now_ms)
                needed |= dict.fromkeys((*look.cuts, *look.notes, *look.ended))
                needed.pop("", None)
                inputs.append(look)
                continue
            inputs.append(slices.get(member) or _Timer(member))
            needed[inputs[-1].session] = None
        await self._load(needed)
        for timer in inputs:
            if not isinstance(timer, _Timer) or timer.session not in self._sessions:
                continue
            stored = self._sessions[timer.session]
            if timer.name.startswith(hook.PREFIX):
                timer.is_notified = self._hook.is_notified(stored.state, timer.name, timer.member)
            elif since := liveness.peers_needed(stored.state, timer.name, self._rules, now_ms):
                timer.peers = await self._census.peers(timer.session, since, now_ms)
            elif name := attention.reader(stored.state, timer.name):
                timer.reading = await self._census.reading(stored.keys.cursors, name)
        return inputs

    async def _load(self, needed: dict[str, None]) -> None:
        if self._stored_floors is None:
            found = await self._store.fields(self._names.lease(ORCHESTRATORS), HANDED_OUT)
            *floors, self._token_epoch = (whole_number(one) or 0 for one in found)
            self._stored_floors = dict(zip(FLOORS, floors, strict=True))
            self._raise_floors(*floors)
        await self._sessions.load(needed)

    def decide(self, inputs: list[Any], now_ms: int) -> Decided:
        batch = self._begin()
        touched = self._touched = {}
        taken = 0
        item: _Input
        for item in inputs:
            taken += 1
            if isinstance(item, tuple):
                self._take_signal(batch, now_ms, *item)
            elif isinstance(item, purge.PurgeTimer):
                self._take_slice(batch, item, now_ms)
            elif isinstance(item, retention.RetentionTimer):
                self._take_look(batch, item, now_ms)
            else:
                self._take_timer(batch, item, now_ms)
            if batch.size_bytes > COMMIT_BYTES_MAX:
                break
        if touched:
            scores: list[str | int] = []
            for name, stored in touched.items():
                stored.save(batch)
                scores += (stored.state.clock_ms, name)
                self._retention.active[name] = stored.state.log
                if stored.state.is_purging:
                    self._raise_floors(*purge.handed_out(stored.state))
            batch.write("ZADD", self._names.sessions, scores)
        if not self._retention.is_set:
            self._retention.is_set = True
            self._set_timer(batch, retention.TIMER, self._retention.due_ms(now_ms))
        if self._floors != self._stored_floors:
            self._stored_floors = dict(self._floors)
            fields = [item for pair in self._floors.items() for item in pair]
            batch.write("HSET", self._names.lease(ORCHESTRATORS), fields)
        self._quarantined.end(now_ms)
        return Decided(batch, taken)

    def _take_signal(
        self,
        batch: Batch,
        now_ms: int,
        entry_id: bytes,
        fields: list[bytes],
        signal: Signal | SignalError,
    ) -> None:
        if batch.is_copying:
            batch.take(entry_id)
        if isinstance(signal, SignalError):
            self._turn_away(batch, now_ms, entry_id, fields, *record.reason_of(signal))
            return
        if entry_id in self._defects:
            self._turn_away(batch, now_ms, entry_id, fields, *self._defects[entry_id])
            return
        stored = self._sessions.get(signal.session)
        is_purge = signal.type is SignalType.RUN_PURGED and not self._is_open(stored)
        if is_purge and self._take_purge(batch, signal, now_ms):
            return
        if stored is not None and stored.state.is_purging:
            reason = f"everything of session {signal.session} is being deleted"
            self._dead_letter(batch, entry_id, fields, run.CLOSED, reason)
            return
        if stored is None:
            reason = self._quarantined.reason(signal.session)
            self._dead_letter(batch, entry_id, fields, "TAMPERED", reason)
            return
        session, keys = stored.state, stored.keys
        if not session.log and signal.type in run.ENDING:
            # Sent twice, because its sender did not hear of the first one: nothing is to begin.
            reason = f"there is no session {signal.session} to close or delete"
            self._dead_letter(batch, entry_id, fields, run.CLOSED, reason)
            return
        # The server's time when the signal came in; an id made by hand does not move the clock on.
        entered_ms = min(int(entry_id[: entry_id.index(b"-")]), now_ms)
        self._bring_up_to_date(batch, stored, entered_ms)
        try:
            decision = step(session, signal, self._rules, entered_ms)
        except Exception as error:
            self._defects.note(entry_id, error)
            raise DefectError(f"{signal.type} of {signal.emitter}, entry {entry_id!r}") from error
        if decision.outcome is Outcome.REPEATED:
            return
        if decision.outcome is Outcome.DROPPED:
            self._dead_letter(batch, entry_id, fields, decision.code, decision.reason)
            return
        self._touched[signal.session] = stored
        cause, ms = f"{session.log}-0", session.clock_ms
        copies = record.copies_of(signal) if batch.is_copying else None
        batch.size_bytes += 2 * len(signal.raw)
        if decision.outcome is Outcome.REFUSED:
            self._dead_letter(batch, entry_id, fields, decision.code, decision.reason)
            refusal = record.logged_refusal(signal, decision.code, decision.reason, ms, copies)
            batch.append(keys.log, cause, *refusal)
        else:
            batch.append(keys.log, cause, *record.logged_signal(signal, ms, copies))
        if decision.to_results:
            agent = session.agents.get(signal.emitter)
            result = record.result(signal, agent, decision.result, cause, ms, copies)
            batch.append(self._names.results, "*", *result)
        for name, gone in decision.dismissed.items():
            death = record.death(session.name, name, gone, cause, ms)
            batch.append(self._names.results, "*", *death)
        if decision.messages or decision.timers or decision.roster:
            self._defects.check_size(entry_id, decision)
            self._follow(batch, stored, decision, copies)

    @staticmethod
    def _is_open(stored: StoredSession | None) -> bool:
        """Whether a session can be decided on: it is neither spoilt nor being deleted."""
        return stored is not None and not stored.state.is_purging

    def _take_purge(self, batch: Batch, signal: Signal, now_ms: int) -> bool:
        """Go on with deleting a session; begin, if its keys are spoilt. False: for the rules."""
        member = f"{signal.session}:{purge.TIMER}"
        if is_from_synthesizer(signal):
            self._set_timer(batch, member, now_ms)
            return True
        if signal.session in self._sessions:
            return False
        # Nobody knows what it has handed out.
        self._raise_floors(self._floors[TOKEN_FLOOR] + SPOILT_TOKENS)
        keys = self._names.session(signal.session)
        batch.delete(keys.meta)  # whatever somebody has put there
        batch.write("HSET", keys.meta, (text(state.PURGING), "1"))
        result = record.result(signal, None, b"", "0-0", now_ms)
        batch.append(self._names.results, "*", *result)
        self._quarantined.drop(signal.session)
        return True

    def _take_slice(self, batch: Batch, timer: purge.PurgeTimer, now_ms: int) -> None:
        """Delete a slice of a session, and forget it: under its name another one may begin."""
        stored = self._sessions.get(timer.session)
        if stored is not None and not stored.state.is_purging:
            batch.write("ZREM", self._timers, (text(timer.member),))  # a new session has begun
            return
        if timer.fault:
            purge.put_off(batch, self._names, timer)
            self._set_timer(batch, timer.member, now_ms + purge.PAUSE_MS)
            return
        self._raise_floors(0, timer.incarnation)
        purge.delete(batch, self._names, ORCHESTRATORS, timer)
        if timer.is_over:
            self._sessions.pop(timer.session, None)
            self._touched.pop(timer.session, None)
        else:
            self._set_timer(batch, timer.member, now_ms)

    def _take_look(self, batch: Batch, timer: retention.RetentionTimer, now_ms: int) -> None:
        """Cut what a step of a look has found, and begin to delete sessions that have ended."""
        for name in {*timer.cuts, *timer.notes} - {""}:
            stored = self._sessions.get(name)
            if stored is None or stored.state.is_purging or not stored.is_stored:
                timer.cuts.pop(name, None)
                timer.notes.pop(name, None)
        retention.cut(batch, self._names, timer)
        for name in timer.ended:
            stored = self._sessions.get(name)
            if stored is None:
                continue
            if self._retention.is_over(stored.state, now_ms):
                stored.state.is_purging = True
                self._touched[name] = stored
                batch.append(self._names.results, "*", *record.purged(name, now_ms))
                logger.info("session %s has ended long ago, and is deleted", name)
            if stored.state.is_purging:
                self._retention.leaving.add(name)
        self._retention.is_set = True
        due_ms = self._retention.due_ms(now_ms) if timer.is_over else now_ms
        self._set_timer(batch, timer.member, due_ms)

    def _raise_floors(self, token: int, incarnation: int = 0) -> None:
        """Let sessions that begin from now on hand out higher tokens and incarnations only."""
        if incarnation > INCARNATIONS_SKIPPED_MAX:
            incarnation = 0  # nobody can go on above it
        for name, number in zip(FLOORS, (token, incarnation), strict=True):
            self._floors[name] = max(self._floors[name], number)

    def quarantine(self, error: TamperedError) -> bool:
        """See Handler. The session can begin anew, if somebody has deleted all of it."""
        stored = self._sessions.get(self._names.session_of(error.key) or "")
        if stored is not None:
            self._raise_floors(*purge.handed_out(stored.state))
        return super().quarantine(error)

    def _dead_letter(
        self, batch: Batch, entry_id: bytes, fields: list[bytes], code: str, reason: str
    ) -> None:
        super()._dead_letter(batch, entry_id, fields, code, reason)
        self._retention.grown[self._names.dead] += retention.ENTRY + sum(map(len, fields))

    def _turn_away(
        self,
        batch: Batch,
        now_ms: int,
        entry_id: bytes,
        fields: list[bytes],
        code: str,
        reason: str,
    ) -> None:
        """Keep an entry that no rule can decide, and tell the agent in whose name it came."""
        self._dead_letter(batch, entry_id, fields, code, reason)
        session, name = sender_of(fields) or ("", "")
        stored = self._sessions.get(session)
        if stored is None or name not in stored.state.agents or stored.state.is_purging:
            return
        entered_ms = min(int(entry_id[: entry_id.index(b"-")]), now_ms)
        self._bring_up_to_date(batch, stored, entered_ms)
        decision = turn_away(stored.state, name, code, reason, entered_ms, self._rules)
        if decision is not None:
            self._touched[session] = stored
            logged = record.logged_unreadable(name, code, reason, stored.state.clock_ms)
            batch.append(stored.keys.log, f"{stored.state.log}-0", *logged)
            self._follow(batch, stored, decision)

    def _take_timer(self, batch: Batch, timer: _Timer, now_ms: int) -> None:
        stored = self._sessions.get(timer.session)
        if stored is None:
            self._put_off(batch, timer.member, now_ms)
            return
        if timer.is_notified is False:
            self._set_timer(batch, timer.member, now_ms + hook.PAUSE_MS)
            return
        batch.write("ZREM", self._timers, (text(timer.member),))
        if timer.is_notified or timer.member in self._defects:
            return
        session = stored.state
        if session.is_purging:
            return
        self._bring_up_to_date(batch, stored, now_ms)
        try:
            decision = fire(session, timer.name, self._rules, now_ms, timer.peers, timer.reading)
        except Exception as error:
            self._defects.note(timer.member, error)
            raise DefectError(f"timer {timer.member!r}") from error
        if decision is None:
            return
        if decision.outcome is not Outcome.POSTPONED:
            self._defects.check_size(timer.member, decision)
            self._touched[timer.session] = stored
            logged = record.logged_timer(timer.name, session.clock_ms, timer.peers, timer.reading)
            batch.append(stored.keys.log, f"{session.log}-0", *logged)
        self._follow(batch, stored, decision)

    def _bring_up_to_date(self, batch: Batch, stored: StoredSession, now_ms: int) -> None:
        """Let a session take up the outages since its last event, and our rules, if new to it.

        And tokens above those of deleted sessions, if it is new, and of a history that is lost.
        """
        if self.outages and self.outages[-1][1] > stored.state.clock_ms:
            self._skip_outages(batch, stored)
        deleted = 0 if stored.state.log else self._floors[TOKEN_FLOOR]
        if stored.state.token < (first := max(self._token_epoch, deleted)):
            stored.state.begin_tokens(first, now_ms)
            logged = record.logged_tokens(first, stored.state.clock_ms)
            batch.append(stored.keys.log, f"{stored.state.log}-0", *logged)
            self._touched[stored.state.name] = stored
        if stored.state.rules != self._digest:
            stored.state.adopt(self._digest, now_ms, self._rules.settle_ms)
            logged = record.logged_rules(self._rules_document, stored.state.clock_ms)
            batch.append(stored.keys.log, f"{stored.state.log}-0", *logged)
            self._touched[stored.state.name] = stored

    def _skip_outages(self, batch: Batch, stored: StoredSession) -> None:
        """Move a session's timers by the outages since its last event, and log that."""
        session = stored.state
        now_ms = session.clock_ms
        missed = [end_ms - max(start_ms, now_ms) for start_ms, end_ms in self.outages]
        outage_ms = sum(length_ms for length_ms in missed if length_ms > 0)
        decision = skip(session, outage_ms, self.outages[-1][1], self._rules)
        if decision is None:
            return
        logged = record.logged_outage(outage_ms, session.clock_ms)
        batch.append(stored.keys.log, f"{session.log}-0", *logged)
        self._touched[session.name] = stored
        self._follow(batch, stored, decision)

    def _follow(
        self,
        batch: Batch,
        stored: StoredSession,
        decision: Decision,
        copies: record.Copies | None = None,
    ) -> None:
        """Deliver what follows from an event, and set and cancel its timers."""
        if decision.fallen:
            # Tell the synthesizer of an agent that was declared dead.
            session, name = stored.state, decision.fallen
            cause, agent = f"{session.log}-0", session.agents.records[name]
            death = record.death(session.name, name, agent, cause, session.clock_ms)
            batch.append(self._names.results, "*", *death)
        if decision.roster:
            cause, ms = f"{stored.state.log}-0", stored.state.clock_ms
            told = record.roster(stored.state.name, decision.roster, cause, ms)
            batch.append(self._names.results, "*", *told)
        deliver(batch, stored.keys, stored.state, decision, self._retention.grown, copies)
        for name, due_ms in decision.timers.items():
            member = f"{stored.state.name}:{name}"
            if due_ms is None:
                batch.write("ZREM", self._timers, (member,))
            else:
                self._set_timer(batch, member, due_ms)

    def forget(self) -> None:
        """See Handler. The hook's runs go on: a question is not to be told twice without need."""
        super().forget()
        self._sessions.clear()
        self._retention.forget()
        self._stored_floors = None

    async def close(self) -> None:
        await self._hook.close()


def deliver(
    batch: Batch,
    keys: SessionKeys,
    session: SessionState,
    decision: Decision,
    grown: dict[str, int],
    copies: record.Copies | None = None,
) -> None:
    """Log every message of a decision, and deliver it under the same id; note it in `grown`."""
    cause = f"{session.log}-0"
    for number, message in enumerate(decision.messages, 1):
        entry_id = f"{session.log}-{number}"
        logged = record.logged_message(message, cause, session.clock_ms, copies)
        batch.append(keys.log, entry_id, *logged)
        if message.to:
            key = keys.broadcast if message.to == EVERYONE else keys.inbox(message.to)
            batch.append(key, entry_id, *record.inbox(message, cause, copies))
            grown[key] += retention.ENTRY + len(message.payload)
        batch.size_bytes += 2 * len(message.payload)


def factory(rules: Rules, settings: Settings) -> Callable[[WorkerStore, Partition], Orchestrator]:
    """Return the function that makes a partition's handler."""
    turns = asyncio.Semaphore(PROCESSES_MAX)
    return partial(Orchestrator, rules=rules, settings=settings, turns=turns)
