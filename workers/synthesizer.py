"""The synthesizer's half of the loop: results in, revisions of the synthesis out, as one batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from fabric.config.settings import Settings
from fabric.core.contradiction import is_part
from fabric.core.event import SYNTHESIZER
from fabric.core.limits import SWEEP_PARTS
from fabric.core.policy import RestartPolicy
from fabric.core.rules import Rules
from fabric.core.signal import SignalType
from fabric.core.synthesis.fold import SWEEP, Result, fold, needs, sweep, touched
from fabric.core.synthesis.merge import MergeRules, Reducer, Strategies
from fabric.core.synthesis.publish import Publisher, Revision
from fabric.core.synthesis.state import AGENTS, Sweep, SynthesisState
from fabric.errors import NotAllowedError, SignalError, TamperedError
from fabric.store import synthesis as stored
from fabric.store.keys import SYNTHESIZERS, Partition
from fabric.store.port import Batch, Entry, WorkerStore
from fabric.wire import record
from fabric.wire.result import decode, session_of
from fabric.wire.stored import tampered, text
from workers import purge
from workers.child_process import PROCESSES_MAX
from workers.handler import COMMIT_BYTES_MAX, Decided, DefectError, DueTimer, Handler, Quarantine
from workers.refinement import Refinements, RefinementTimer

logger = logging.getLogger("fabric.synthesizer")

#: A session's timer `<session>:settle`: all its agents have ended, and none may start any more.
SETTLE: Final = "settle"

#: Bytes of a statement in a commit besides its value: its record, twice, and its index.
STATEMENT_BYTES = 600

_encode = msgspec.json.Encoder().encode

#: Bytes of records kept in memory, as JSON; in memory they take some eight times as much.
CACHED_BYTES_MAX = 16_777_216

#: Indexes that go when a new run begins: one for each agent of the run before.
OBSOLETE_MAX = 100_000

#: Fields asked for in one request.
FIELDS_MAX = 1_000

#: Ways of merging in memory, one for each set of rules that sessions began with; emptied when full.
WAYS_MAX = 64


class _Way(NamedTuple):
    """How a session is merged, by the rules that it began with."""

    policy: RestartPolicy
    strategies: Strategies
    publisher: Publisher


class _Ways:
    """The ways in which sessions are merged, by the rules that they are stored with."""

    def __init__(self, rules: Rules, reducers: Mapping[str, Reducer]) -> None:
        self._rules = rules
        self._reducers = reducers
        self._made: dict[bytes, _Way] = {}

    def of(self, stored_rules: bytes) -> _Way:
        """Return the way of a session; the rules are empty if it began before they were kept."""
        way = self._made.get(stored_rules)
        if way is None:
            if len(self._made) >= WAYS_MAX:
                self._made.clear()
            rules = stored.merge_rules(stored_rules, self._rules)
            strategies = Strategies.by(rules)
            publisher = Publisher(rules.restarts, strategies, self._reducers)
            way = self._made[stored_rules] = _Way(rules.restarts, strategies, publisher)
        return way


class _SettleTimer(DueTimer):
    """A timer that is due, `<session>:settle`: nothing may have come since all agents ended."""


class _SweepTimer(DueTimer):
    """A timer that is due, `<session>:sweep:<agent>`: some of its parts must be merged anew."""

    def __init__(self, member: bytes) -> None:
        super().__init__(member)
        self.agent = self.name.removeprefix(f"{SWEEP}:")
        self.parts: list[str] = []
        self.is_over = True


#: What `decide` takes: an entry with its session and result, or with the reason why it is none.
_Input = (
    tuple[bytes, list[bytes], str, Result | SignalError]
    | _SweepTimer
    | _SettleTimer
    | RefinementTimer
    | purge.PurgeTimer
)


class Synthesizer(Handler):
    """The syntheses of one partition, as far as they are in memory."""

    def __init__(
        self,
        store: WorkerStore,
        partition: Partition,
        rules: Rules,
        settings: Settings,
        reducers: Mapping[str, Reducer],
        refiners: Sequence[str] = (),
        turns: asyncio.Semaphore | None = None,
    ) -> None:
        super().__init__(store, partition, SYNTHESIZERS)
        self._refinements = Refinements(store, partition, refiners, rules, turns)
        self._ways = _Ways(rules, reducers)
        self._settle_ms = rules.settle_ms
        sessions_max = settings.sessions_cached_max
        self._revisions_max = rules.revisions_max
        self._in_force = in_force = _encode(MergeRules.of(rules))
        self._cache = SynthesisCache(store, partition, sessions_max, self._quarantined, in_force)
        #: The session of which the last input begins a new run, and its keys that are deleted then.
        self._beginning: list[tuple[str, Result]] = []
        self._obsolete: list[str] = []
        #: Sessions that the batch under way changes.
        self._folded: dict[str, SynthesisState] = {}

    async def prepare(self, entries: list[Entry]) -> list[Any]:
        inputs: list[_Input] = []
        results: dict[str, list[Result]] = {}
        self._end_quarantines(entries)
        self._cache.make_room()
        for entry_id, fields in entries:
            try:
                session = session_of(fields)
                known = await self._cache.session(session)
                way = self._ways.of(known.rules if known is not None else b"")
                result = decode(fields, way.strategies.of)
            except SignalError as error:
                inputs.append((entry_id, fields, "", error))
                continue
            results.setdefault(session, []).append(result)
            inputs.append((entry_id, fields, session, result))
            if result.type is SignalType.RUN_OPENED:
                # What comes after it must not be folded into what is there now.
                self._obsolete = await self._indexes(session)
                break
        for session, given in results.items():
            synthesis = await self._cache.session(session)
            if synthesis is None:
                continue
            while wanted := set().union(*(needs(synthesis, result) for result in given)):
                await self._cache.load(synthesis, wanted)
        return inputs

    async def _indexes(self, session: str) -> list[str]:
        """Return the indexes of a session; without SCAN, those of the agents in its synthesis."""
        keys = self._names.session(session)
        try:
            return await self._store.named(self._names.number, keys.said(""), OBSOLETE_MAX)
        except NotAllowedError:
            (known,) = await self._store.hashes([keys.synthesis])
            fields = (field.decode().partition(":") for field in known)
            return [keys.said(name) for section, _, name in fields if section == AGENTS]

    async def prepare_timers(self, members: list[bytes], now_ms: int) -> list[Any]:
        inputs: list[_Input] = []
        slices = await purge.prepare(self._store, self._names, SYNTHESIZERS, members)
        for member in members:
            refinement = self._refinements.start(member)
            if refinement is not None:
                inputs.append(refinement)
                continue
            if sliced := slices.get(member):
                inputs.append(sliced)
                continue
            if DueTimer(member).name == SETTLE:
                settling = _SettleTimer(member)
                inputs.append(settling)
                await self._cache.session(settling.session)
                continue
            timer = _SweepTimer(member)
            inputs.append(timer)
            synthesis = await self._cache.session(timer.session)
            if synthesis is not None:
                await self._load_parts(synthesis, timer)
        return inputs

    async def _load_parts(self, synthesis: SynthesisState, timer: _SweepTimer) -> None:
        field = f"{SWEEP}:{timer.agent}"
        await self._cache.load(synthesis, (field, f"{AGENTS}:{timer.agent}"))
        sweeping = synthesis.records.get(field)
        if not isinstance(sweeping, Sweep):
            return
        keys = self._names.session(synthesis.name)
        key = keys.said(timer.agent)
        if not sweeping.within:
            raise tampered(keys.synthesis, "hash", field)
        prefix = sweeping.within[0]
        timer.parts = await self._store.members(key, prefix, sweeping.after, SWEEP_PARTS)
        if not all(map(is_part, timer.parts)):
            raise TamperedError(key, "zset with a member that is no part", "zset of names")
        timer.is_over = len(timer.parts) < SWEEP_PARTS
        while wanted := touched(synthesis, timer.agent, timer.parts):
            await self._cache.load(synthesis, wanted)

    def decide(self, inputs: list[Any], now_ms: int) -> Decided:
        batch = self._begin()
        self._folded, self._beginning = {}, []
        taken = size = 0
        item: _Input
        for item in inputs:
            taken += 1
            if isinstance(item, purge.PurgeTimer):
                self._take_slice(batch, item, now_ms)
            elif isinstance(item, _SweepTimer):
                size += self._take_timer(batch, item, now_ms)
            elif isinstance(item, _SettleTimer):
                self._take_settling(batch, item, now_ms)
            elif isinstance(item, RefinementTimer):
                self._wake_at(self._refinements.finish(batch, item, now_ms))
            else:
                size += self._take_result(batch, now_ms, *item)
            if size + batch.size_bytes > COMMIT_BYTES_MAX:
                break
        for name, synthesis in self._folded.items():
            revision = self._publish(name, synthesis, inputs[:taken], now_ms)
            if revision is not None:
                self._write(batch, name, synthesis, revision, now_ms)
        for name, opened in self._beginning:
            self._begin_run(batch, name, opened, now_ms)
        self._quarantined.end(now_ms)
        return Decided(batch, taken, is_barrier=bool(self._beginning))

    def _begin_run(self, batch: Batch, name: str, opened: Result, now_ms: int) -> None:
        """Empty a synthesis, because a new run of its session begins."""
        synthesis, origin = self._cache.get(name), opened.origin
        assert synthesis is not None
        publisher = self._ways.of(synthesis.rules).publisher
        synthesis.rules = self._in_force
        revision = publisher.begin_run(synthesis, origin.log, origin.ms)
        if revision is not None:
            self._write(batch, name, synthesis, revision, now_ms)
        for key in self._obsolete:
            batch.delete(key, "zset")

    def _publish(
        self, name: str, synthesis: SynthesisState, inputs: list[_Input], now_ms: int
    ) -> Revision | None:
        """Publish what a batch has brought. Raises DefectError, with the session's inputs noted."""
        try:
            publisher = self._ways.of(synthesis.rules).publisher
            return publisher.publish(synthesis, now_ms, self._settle_ms)
        except Exception as error:
            for item in inputs:
                if isinstance(item, tuple):
                    entry_id, _, session, _ = item
                    if session == name:
                        self._defects.note(entry_id, error)
                elif isinstance(item, _SweepTimer | _SettleTimer) and item.session == name:
                    self._defects.note(item.member, error)
            raise DefectError(f"the synthesis of {name}") from error

    def _take_result(
        self,
        batch: Batch,
        now_ms: int,
        entry_id: bytes,
        fields: list[bytes],
        name: str,
        result: Result | SignalError,
    ) -> int:
        """Fold a result, or refuse the entry; return its size in the commit in bytes, roughly."""
        if batch.is_copying:
            batch.take(entry_id)
        synthesis = self._cache.get(name)
        if isinstance(result, SignalError):
            refused = record.reason_of(result)
        elif entry_id in self._defects:
            refused = self._defects[entry_id]
        elif result.type is SignalType.RUN_PURGED:
            self._set_timer(batch, f"{name}:{purge.TIMER}", now_ms)
            return 0
        elif synthesis is None:
            refused = "TAMPERED", self._quarantined.reason(name)
        elif result.type is SignalType.RUN_OPENED:
            self._beginning = [(name, result)]
            return 0
        else:
            self._folded[name] = synthesis
            try:
                refusal = fold(synthesis, result, self._ways.of(synthesis.rules).policy)
            except Exception as error:
                self._defects.note(entry_id, error)
                raise DefectError(f"result {entry_id!r} of {result.origin.agent}") from error
            if refusal is None:
                return 3 * sum(map(len, fields)) + STATEMENT_BYTES * len(result.statements)
            code, given, allowed = refusal
            refused = record.reason_of(SignalError(code, "partial", given, allowed))
        self._dead_letter(batch, entry_id, fields, *refused)
        return sum(map(len, fields))

    def _take_slice(self, batch: Batch, timer: purge.PurgeTimer, now_ms: int) -> None:
        """Delete a slice of a synthesis; after the last one it is the orchestrator's turn."""
        self._cache.drop(timer.session)
        self._refinements.drop(timer.session)
        if timer.fault:
            purge.put_off(batch, self._names, timer)
            self._set_timer(batch, timer.member, now_ms + purge.PAUSE_MS)
            return
        purge.delete(batch, self._names, SYNTHESIZERS, timer)
        if timer.is_over:
            kind, nothing = SignalType.RUN_PURGED, b"{}"
            done = record.own_signal(timer.session, kind, SYNTHESIZER, nothing)
            batch.append(self._names.signals, "*", *done)
        else:
            self._set_timer(batch, timer.member, now_ms)

    def _take_timer(self, batch: Batch, timer: _SweepTimer, now_ms: int) -> int:
        synthesis = self._cache.get(timer.session)
        if synthesis is None or timer.member in self._defects:
            # A synthesis with a defect is not final before a later version has merged these parts.
            self._put_off(batch, timer.member, now_ms)
            return 0
        batch.write("ZREM", self._timers, (text(timer.member),))
        sweep(synthesis, timer.agent, timer.parts, is_over=timer.is_over)
        self._folded[timer.session] = synthesis
        return STATEMENT_BYTES * len(timer.parts)

    def _take_settling(self, batch: Batch, timer: _SettleTimer, now_ms: int) -> None:
        """Look at a synthesis again, in which all agents had ended."""
        synthesis = self._cache.get(timer.session)
        if synthesis is None or timer.member in self._defects:
            self._put_off(batch, timer.member, now_ms)
            return
        batch.write("ZREM", self._timers, (text(timer.member),))
        self._folded[timer.session] = synthesis

    def _write(
        self, batch: Batch, name: str, synthesis: SynthesisState, revision: Revision, now_ms: int
    ) -> None:
        """Add a revision to a batch, with the signals and timers that follow from it."""
        keys = self._names.session(name)
        stored.save(batch, keys, synthesis, revision, self._revisions_max)
        self._cache.written(name, revision.fields)
        for kind, payload in revision.signals:
            form, values = record.own_signal(name, kind, SYNTHESIZER, _encode(payload))
            batch.append(self._names.signals, "*", form, values)
        for agent in revision.sweeps:
            self._set_timer(batch, f"{name}:{SWEEP}:{agent}", now_ms)
        if revision.settles_ms:
            self._set_timer(batch, f"{name}:{SETTLE}", revision.settles_ms)
        self._wake_at(self._refinements.plan(batch, name, revision, now_ms))

    def forget(self) -> None:
        """See Handler. What refiners are making of lost memory is killed."""
        super().forget()
        self._cache.forget()
        self._refinements.forget()

    async def close(self) -> None:
        await self._refinements.close()


class SynthesisCache:
    """Reads the parts of syntheses that are needed, and drops parts when they are too many."""

    def __init__(
        self,
        store: WorkerStore,
        partition: Partition,
        sessions_max: int,
        quarantined: Quarantine,
        rules: bytes,
    ) -> None:
        """`rules` are those in force: a new session begins with them."""
        self._store = store
        self._names = partition
        self._sessions_max = sessions_max
        #: Sessions in memory, the least recently used first.
        self._sessions: dict[str, SynthesisState] = {}
        #: Bytes of what is in memory, roughly.
        self._bytes = 0
        #: Session → records written since room was made last.
        self._written: dict[str, set[str]] = {}
        self._quarantined = quarantined
        self._rules = rules

    def get(self, name: str) -> SynthesisState | None:
        """Return a session's synthesis that is in memory."""
        return self._sessions.get(name)

    async def session(self, name: str) -> SynthesisState | None:
        """Return a session's synthesis, with its head in memory; None while it is quarantined."""
        synthesis = self._sessions.pop(name, None)
        if synthesis is None and name not in self._quarantined:
            keys = self._names.session(name)
            head = await self._store.fields(keys.synthesis, stored.HEAD)
            synthesis = stored.restore(keys, head, self._rules)
        if synthesis is not None:
            self._sessions[name] = synthesis
        return synthesis

    def drop(self, name: str) -> None:
        """Discard a session's synthesis."""
        self._sessions.pop(name, None)

    async def load(self, synthesis: SynthesisState, fields: Iterable[str]) -> None:
        """Bring fields of a synthesis into memory. Raises TamperedError."""
        keys = self._names.session(synthesis.name)
        wanted = sorted(fields)
        for start in range(0, len(wanted), FIELDS_MAX):
            names = wanted[start : start + FIELDS_MAX]
            values = await self._store.fields(keys.synthesis, names)
            stored.load(synthesis, keys, zip(names, values, strict=True))
            self._bytes += sum(len(value or b"") for value in values)

    def written(self, name: str, fields: Mapping[str, bytes | None]) -> None:
        """Note which records of a session a commit will change."""
        self._written.setdefault(name, set()).update(fields)
        self._bytes += sum(len(value or b"") for value in fields.values())

    def make_room(self) -> None:
        """Drop records when too many are in memory, before any are read for the next batch.

        Records written since the last call stay in memory: their commit may be under way.
        """
        written, self._written = self._written, {}
        for name in list(self._sessions):
            if len(self._sessions) <= self._sessions_max:
                break
            if name not in written:
                del self._sessions[name]
        if self._bytes <= CACHED_BYTES_MAX:
            return
        self._bytes = 0
        self._sessions = {name: one for name, one in self._sessions.items() if name in written}
        for name, synthesis in self._sessions.items():
            kept, records = written[name], synthesis.records
            synthesis.records = {field: one for field, one in records.items() if field in kept}

    def forget(self) -> None:
        """Discard everything."""
        self._sessions.clear()
        self._written.clear()
        self._bytes = 0


def factory(
    rules: Rules, settings: Settings, reducers: Mapping[str, Reducer], refiners: Sequence[str] = ()
) -> Callable[[WorkerStore, Partition], Synthesizer]:
    """Return the function that makes a partition's handler. Refiners run in the order given."""
    turns = asyncio.Semaphore(PROCESSES_MAX)
    worker = partial(Synthesizer, rules=rules, settings=settings, turns=turns)
    return partial(worker, reducers=reducers, refiners=refiners)
