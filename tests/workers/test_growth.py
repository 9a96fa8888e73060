"""A worker's memory stays within bounds, whatever comes in and for how long."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from fabric.config.settings import Settings
from fabric.core import barriers, conflicts, escalation
from fabric.core.rules import Rules
from fabric.errors import TamperedError
from fabric.store.keys import SYNTHESIZERS, Namespace
from fabric.store.state import StoredSession
from fabric.testing.store import MemoryStore
from fabric.wire import entry, record
from tests.support.immediate import run_now
from tests.support.random_history import written
from tests.workers import hostile
from workers import synthesizer
from workers.handler import DefectError, Defects
from workers.orchestrator import Orchestrator
from workers.synthesizer import Synthesizer

PARTITION = Namespace().partition(0)
SESSIONS_MAX = 20
BATCH = 100

#: Small, so that a few thousand signals fill every table.
RULES = Rules(agents_max=60, dependencies_max=70, tasks_max=20, silence_ms_max=20_000)
CLAIMS_MAX = ESCALATIONS_MAX = 80
BARRIERS_MAX = 30

LENGTHS = [3_000, pytest.param(100_000, marks=pytest.mark.slow)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set bounds that a short run reaches."""
    monkeypatch.setattr(conflicts, "SESSION_CLAIMS_MAX", CLAIMS_MAX)
    monkeypatch.setattr(escalation, "SESSION_ESCALATIONS_MAX", ESCALATIONS_MAX)
    monkeypatch.setattr(barriers, "SESSION_BARRIERS_MAX", BARRIERS_MAX)
    monkeypatch.setattr(entry, "_NAMES_MAX", 500)
    monkeypatch.setattr(entry, "_SHAPES_MAX", 50)
    entry._names.clear()
    entry._sessions.clear()
    entry._shapes.clear()


class Work:
    """Gives batches to a handler; its server keeps no streams, as nobody reads them."""

    def __init__(self, timers: str) -> None:
        self.now_ms = 1_767_123_000_000
        self.store = MemoryStore(lambda: self.now_ms)
        self.handler: Any = None
        self._timers = timers

    def take(self, flats: Iterable[list[bytes]]) -> None:
        """Give it a batch of entries, then the timers that are due."""
        entries = []
        for flat in flats:
            self.now_ms += 37
            entries.append((b"%d-0" % self.now_ms, flat))
        self._decide(run_now(self.handler.prepare(entries)))
        due = self.store.data.sorted_set(self._timers)
        members = sorted(member for member, at in due.items() if at <= self.now_ms)[:BATCH]
        self._decide(run_now(self.handler.prepare_timers(members, self.now_ms)))
        for key in [key for key, (kind, _) in self.store.data.keys.items() if kind == "stream"]:
            del self.store.data.keys[key]

    def _decide(self, inputs: list[Any]) -> None:
        while inputs:
            decided = self.handler.decide(inputs, self.now_ms)
            entries = [item[:2] for item in inputs if isinstance(item, tuple)]
            self.store.data.apply(decided.batch, self.now_ms, entries)
            inputs = inputs[decided.taken :]


def batches(flats: Iterable[list[bytes]]) -> Iterable[list[list[bytes]]]:
    waiting = []
    for flat in flats:
        waiting.append(flat)
        if len(waiting) == BATCH:
            yield waiting
            waiting = []


def check(stored: StoredSession) -> None:
    """Check that every table of a session is within its bound."""
    session = stored.state
    assert len(session.agents) <= RULES.agents_max
    assert len(session.dependencies) <= RULES.dependencies_max
    assert len(session.tasks) <= RULES.tasks_max
    assert len(session.claims) <= CLAIMS_MAX
    assert len(session.escalations) <= ESCALATIONS_MAX
    assert len(session.barriers) <= BARRIERS_MAX
    resources = {r for c in session.claims.records.values() for r in [*c.writes, *c.reads]}
    assert len(stored.shown) <= 2 * len(resources) + BARRIERS_MAX
    assert len(session.deadlocks) <= ESCALATIONS_MAX


@pytest.mark.parametrize("length", LENGTHS)
def test_an_orchestrator_under_a_hostile_stream(length: int) -> None:
    work = Work(PARTITION.deadlines)
    settings = Settings(sessions_cached_max=SESSIONS_MAX)
    handler = work.handler = Orchestrator(work.store, PARTITION, RULES, settings)
    sizes: list[int] = []
    for batch in batches(hostile.entries(length, seed=7)):
        work.take(batch)
        # Each signal of a batch can be of another session.
        assert len(handler._sessions) <= max(SESSIONS_MAX, BATCH)
        assert not handler._defects
        assert not handler._quarantined
        assert max(map(len, (entry._names, entry._sessions))) <= 500
        assert len(entry._shapes) <= 50
        if hostile.CROWDED in handler._sessions:
            stored = handler._sessions[hostile.CROWDED]
            check(stored)
            crowded = stored.state
            sizes.append(len(written(crowded)))
    assert record.signal_form.cache_info().currsize <= 1_000
    # Once all tables are full, nothing in them grows any more.
    third = len(sizes) // 3
    assert max(sizes[2 * third :]) <= 1.3 * max(sizes[third : 2 * third])
    assert len(crowded.agents) == RULES.agents_max
    assert len(crowded.dependencies) == RULES.dependencies_max
    assert len(crowded.tasks) == RULES.tasks_max


@pytest.mark.parametrize("length", LENGTHS)
def test_a_synthesizer_under_a_hostile_stream(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesizer, "CACHED_BYTES_MAX", 100_000)
    work = Work(PARTITION.timers(SYNTHESIZERS))
    settings = Settings(sessions_cached_max=SESSIONS_MAX)
    handler = work.handler = Synthesizer(work.store, PARTITION, RULES, settings, {})
    known = handler._cache
    for batch in batches(hostile.results(length, seed=7)):
        work.take(batch)
        # Sessions changed by a commit under way stay: those of one batch and of its timers.
        assert len(known._sessions) <= SESSIONS_MAX + 2 * BATCH
        kept = [msgspec.json.encode(one.records) for one in known._sessions.values()]
        assert sum(map(len, kept)) <= 1_000_000
        assert not handler._defects
        assert not any(one.dirty or one.changed for one in known._sessions.values())
    assert len(known._sessions) > SESSIONS_MAX // 2


def test_spoilt_sessions_are_left_out_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.handler.QUARANTINED_MAX", 5)
    work = Work(PARTITION.deadlines)
    settings = Settings(sessions_cached_max=SESSIONS_MAX)
    handler = Orchestrator(work.store, PARTITION, RULES, settings)
    for number in range(50):
        name = f"session-{number}"
        work.store.data.hash(PARTITION.session(name).agents)[b"A"] = b"spoilt"
        signal = [b"session", name.encode(), b"emitter", b"A", b"type", b"HEARTBEAT"]
        with pytest.raises(TamperedError) as caught:
            run_now(handler.prepare([(b"1-0", signal)]))
        assert handler.quarantine(caught.value)
        handler.forget()
        assert name in handler._quarantined
        assert len(handler._quarantined) <= 5
        assert not handler._sessions


def test_defects_are_forgotten_when_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.handler.DEFECTS_MAX", 5)
    defects = Defects()
    for number in range(50):
        defects.note(b"%d-0" % number, DefectError())
        assert b"%d-0" % number in defects
        assert len(defects) <= 5
