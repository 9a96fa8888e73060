"""The synthesizer's half of the loop: results in, revisions of the synthesis out, as one batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from fabric.config.settings import Settings
from fabric.core.contradiction import SYNTHESIZER, is_part
from fabric.core.limits import SWEEP_PARTS
from fabric.core.rules import Rules
from fabric.core.synthesis.fold import SWEEP, Result, fold, needs, sweep, touched
from fabric.core.synthesis.publish import Publisher, Revision
from fabric.core.synthesis.reducer import Reducer, Strategies
from fabric.core.synthesis.state import AGENTS, Sweep, Synthesis
from fabric.errors import SignalError, TamperedError
from fabric.store import synthesis as stored
from fabric.store.keys import SYNTHESIZERS, Partition
from fabric.store.port import Batch, Entry, WorkerStore
from fabric.wire import record
from fabric.wire.result import decode, session_of
from workers import consequence, quarantine
from workers.handler import Decided, DefectError
from workers.orchestrator import COMMIT_BYTES_MAX
from workers.refinement import Refiners
from workers.refining import Look, Refining
from workers.syntheses import Syntheses

logger = logging.getLogger("fabric.synthesizer")

#: Bytes that a statement comes to in a commit besides its value: its record, twice, and its index.
STATEMENT_BYTES = 600

_encode = msgspec.json.Encoder().encode


class _Alarm:
    """A timer that is due, `<session>:sweep:<agent>`: parts that are to be judged anew."""

    __slots__ = ("agent", "is_over", "member", "names", "session")

    def __init__(self, member: bytes) -> None:
        self.member = member
        self.session, _, timer = member.decode("utf-8", "replace").partition(":")
        self.agent = timer.removeprefix(f"{SWEEP}:")
        self.names: list[str] = []
        self.is_over = True


#: What `decide` takes: an entry with its session and result, or with the reason why it is none.
_Input = tuple[bytes, list[bytes], str, Result | SignalError] | _Alarm | Look


class Synthesizer:
    """The syntheses of one partition, as far as they are in memory."""

    def __init__(
        self,
        store: WorkerStore,
        partition: Partition,
        rules: Rules,
        settings: Settings,
        reducers: Mapping[str, Reducer],
        refiners: Refiners | None = None,
    ) -> None:
        self._refining = Refining(store, partition, refiners or Refiners((), rules))
        self._store = store
        self._names = partition
        self._policy = rules.restart_policy
        self._strategies = Strategies(rules.merges)
        self._publisher = Publisher(self._policy, self._strategies, reducers)
        self._syntheses = Syntheses(store, partition, settings.sessions_cached_max)
        self._quarantined = self._syntheses.quarantined
        self._defects = quarantine.Defects()
        self._due_ms: int | None = None

    async def prepare(self, entries: list[Entry]) -> list[Any]:
        """See Handler."""
        inputs: list[_Input] = []
        results: dict[str, list[Result]] = {}
        if self._quarantined and entries:
            self._quarantined.end(int(entries[-1][0].partition(b"-")[0]))
        for entry_id, fields in entries:
            try:
                session = session_of(fields)
                result = decode(fields, self._strategies.of)
            except SignalError as error:
                inputs.append((entry_id, fields, "", error))
                continue
            results.setdefault(session, []).append(result)
            inputs.append((entry_id, fields, session, result))
        self._syntheses.make_room()
        for session, given in results.items():
            synthesis = await self._syntheses.session(session)
            if synthesis is None:
                continue
            while wanted := set().union(*(needs(synthesis, result) for result in given)):
                await self._syntheses.load(synthesis, wanted)
        return inputs

    async def alarms(self, timers: list[bytes]) -> list[Any]:
        """See Handler."""
        inputs: list[_Input] = []
        for member in timers:
            alarm = self._refining.look(member) or _Alarm(member)
            inputs.append(alarm)
            if isinstance(alarm, Look):
                continue
            synthesis = await self._syntheses.session(alarm.session)
            if synthesis is not None:
                await self._look_up(synthesis, alarm)
        return inputs

    async def _look_up(self, synthesis: Synthesis, alarm: _Alarm) -> None:
        """Find the parts that are next to be judged anew, and bring them into memory."""
        field = f"{SWEEP}:{alarm.agent}"
        await self._syntheses.load(synthesis, (field, f"{AGENTS}:{alarm.agent}"))
        sweeping = synthesis.records.get(field)
        if not isinstance(sweeping, Sweep):
            return
        keys = self._syntheses.keys(synthesis.name)
        key = keys.said(alarm.agent)
        if not sweeping.within:
            raise TamperedError(keys.synthesis, f"hash with a foreign field ({field})", "hash")
        prefix = sweeping.within[0]
        alarm.names = await self._store.members(key, prefix, sweeping.after, SWEEP_PARTS)
        if not all(map(is_part, alarm.names)):
            raise TamperedError(key, "zset with a member that is no part", "zset of names")
        alarm.is_over = len(alarm.names) < SWEEP_PARTS
        await self._syntheses.load(synthesis, touched(synthesis, alarm.agent, alarm.names))
        while wanted := touched(synthesis, alarm.agent, alarm.names):
            await self._syntheses.load(synthesis, wanted)

    def decide(self, inputs: list[Any], now_ms: int) -> Decided:
        """See Handler."""
        batch = Batch()
        folded: dict[str, Synthesis] = {}
        taken = size = 0
        item: _Input
        for item in inputs:
            taken += 1
            if isinstance(item, _Alarm):
                size += self._take_alarm(batch, folded, item, now_ms)
            elif isinstance(item, Look):
                self._wake_at(self._refining.take(batch, item, now_ms))
            else:
                size += self._take_result(batch, folded, *item)
            if size + batch.size_bytes > COMMIT_BYTES_MAX:
                break
        for name, synthesis in folded.items():
            revision = self._publish(name, synthesis, inputs[:taken])
            if revision is not None:
                self._write(batch, name, synthesis, revision, now_ms)
        self._quarantined.end(now_ms)
        return Decided(batch, taken)

    def _publish(self, name: str, synthesis: Synthesis, inputs: list[_Input]) -> Revision | None:
        """Judge what a batch has brought. Raises DefectError, having noted all of the session's."""
        try:
            return self._publisher.publish(synthesis)
        except Exception as error:
            for item in inputs:
                if isinstance(item, _Alarm):
                    if item.session == name:
                        self._defects.note(item.member, error)
                elif not isinstance(item, Look) and item[2] == name:
                    self._defects.note(item[0], error)
            raise DefectError(f"the synthesis of {name}") from error

    def _take_result(
        self,
        batch: Batch,
        folded: dict[str, Synthesis],
        entry_id: bytes,
        fields: list[bytes],
        name: str,
        result: Result | SignalError,
    ) -> int:
        """Fold a result, or bury what is none; return roughly what it comes to, in bytes."""
        synthesis = self._syntheses.get(name)
        if isinstance(result, SignalError):
            refused = record.reason_of(result)
        elif entry_id in self._defects:
            refused = self._defects[entry_id]
        elif synthesis is None:
            refused = "TAMPERED", self._quarantined.reason(name)
        else:
            folded[name] = synthesis
            try:
                refusal = fold(synthesis, result, self._policy)
            except Exception as error:
                self._defects.note(entry_id, error)
                raise DefectError(f"result {entry_id!r} of {result.said.agent}") from error
            if refusal is None:
                return 3 * sum(map(len, fields)) + STATEMENT_BYTES * len(result.statements)
            code, given, allowed = refusal
            refused = record.reason_of(SignalError(code, "partial", given, allowed))
        consequence.bury(batch, self._names, self._names.results, entry_id, fields, *refused)
        return sum(map(len, fields))

    def _take_alarm(
        self, batch: Batch, folded: dict[str, Synthesis], alarm: _Alarm, now_ms: int
    ) -> int:
        timers = self._names.timers(SYNTHESIZERS)
        synthesis = self._syntheses.get(alarm.session)
        if synthesis is None:
            later = now_ms + quarantine.QUARANTINE_MS
            batch.write("ZADD", timers, (later, alarm.member))
            return 0
        if alarm.member in self._defects:
            # The synthesis is not final before it has been done, by a later version perhaps.
            later = now_ms + quarantine.QUARANTINE_MS
            batch.write("ZADD", timers, (later, alarm.member))
            return 0
        batch.write("ZREM", timers, (alarm.member,))
        sweep(synthesis, alarm.agent, alarm.names, is_over=alarm.is_over)
        folded[alarm.session] = synthesis
        return STATEMENT_BYTES * len(alarm.names)

    def _write(
        self, batch: Batch, name: str, synthesis: Synthesis, revision: Revision, now_ms: int
    ) -> None:
        """Add a revision to a batch, what is said of it, and the timers that it sets."""
        stored.save(batch, self._syntheses.keys(name), synthesis, revision)
        self._syntheses.written(name, revision.fields)
        for kind, payload in revision.signals:
            form, values = record.own(name, kind, SYNTHESIZER, _encode(payload))
            batch.append(self._names.signals, "*", form, values)
        for agent in revision.sweeps:
            member = f"{name}:{SWEEP}:{agent}"
            batch.write("ZADD", self._names.timers(SYNTHESIZERS), (now_ms, member))
            self._wake_at(now_ms)
        self._wake_at(self._refining.follow(batch, name, revision, now_ms))

    def _wake_at(self, due_ms: int | None) -> None:
        if due_ms is not None and (self._due_ms is None or due_ms < self._due_ms):
            self._due_ms = due_ms

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
        self._syntheses.forget()
        self._refining.forget()
        self._due_ms = None

    async def close(self) -> None:
        """Kill what was started for our sessions; whoever serves next starts it again."""
        await self._refining.close()


def factory(
    rules: Rules,
    settings: Settings,
    reducers: Mapping[str, Reducer],
    refiners: Sequence[str] = (),
) -> Callable[[WorkerStore, int], Synthesizer]:
    """Return what makes a partition's handler. Refiners are named in the order they are run in."""
    running = Refiners(refiners, rules)

    def make(store: WorkerStore, partition: int) -> Synthesizer:
        names = store.namespace.partition(partition)
        return Synthesizer(store, names, rules, settings, reducers, running)

    return make
