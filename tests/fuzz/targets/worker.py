"""Ingress entries through a whole worker, on a store whose keys may be corrupted.

A replay of the log gives what the worker has written, byte for byte; it reports corrupted keys and
goes on. No input makes the rules fail.
"""

from __future__ import annotations

import re

from msgspec import structs

from fabric.config.settings import Settings
from fabric.core.rules import Rules
from fabric.errors import TamperedError
from fabric.ops.comparison import Comparison
from fabric.store.keys import Namespace
from fabric.store.state import hashes
from fabric.testing.store import MemoryStore
from tests.fuzz.entry_bytes import entries, flattened, hashed, packed
from tests.fuzz.targets import ingress
from tests.fuzz.tokens import FIELDS, FRAME, HOSTILE, TYPES
from tests.support.immediate import run_now
from tests.support.random_history import EAGER, START_MS
from workers.handler import DefectError
from workers.orchestrator import Orchestrator

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = [
    *(*FRAME, *FIELDS, *TYPES, b"spoil", b"ring", b"agents", b"tasks", b"claims", b"barriers"),
    *(
        b"meta",
        b"dependencies",
        b"escalations",
        b"log",
        b"clock_ms",
        b"token",
        b'"status":"active"',
    ),
    *(b'"state":"waiting"', b'"agent":"A"', b'"writes":["a"]', b'"waits_for":["x"]', *HOSTILE),
]

PARTITION = Namespace().partition(0)
KEYS = PARTITION.session("s")
_SETTINGS = Settings(sessions_cached_max=2)
_HASHES = {key.rpartition(":")[2].encode(): key for key in hashes(KEYS)}


def seeds() -> list[bytes]:
    """Return the seeds of the ingress target, and hashes as the fabric writes them."""
    sessions = ingress.seeds()
    return [*sessions, *(spoilt for data in sessions for spoilt in _stored(data))]


def _stored(data: bytes) -> list[bytes]:
    work = Work(data[0])
    for flat in entries(data[1:]):
        work.send(flat)
    spoils = [
        [b"spoil", name, *flattened(work.store.data.hash(key))]
        for name, key in _HASHES.items()
        if work.store.data.kind(key)
    ]
    ask = [b"session", b"s", b"emitter", b"B", b"type", b"BLOCKED", b"on", b"z"]
    return [bytes([data[0]]) + packed([*spoils, ask, [b"ring", b"s:silence:A"]])]


def run(data: bytes) -> None:
    """Take entries one by one; in between, fire timers and corrupt hashes."""
    work = Work(data[0] if data else 0)
    for flat in entries(data[1:]):
        if flat[0] == b"spoil":
            work.spoil(flat)
        elif flat[0] == b"ring":
            work.ring(flat[1])
        else:
            work.send(flat)
    for member in sorted(work.store.data.sorted_set(PARTITION.deadlines)):
        work.ring(member)
    if work.is_spoilt or not work.store.data.kind(KEYS.log):
        return
    report = run_now(Comparison(work.store, KEYS).run())
    assert not report.differences, report.differences[0]


def is_id(value: bytes) -> bool:
    """Return whether a stream accepts these bytes as an entry's id."""
    return re.fullmatch(rb"[0-9]{1,18}-[0-9]{1,18}", value) is not None


class Work:
    """An orchestrator, its store, and a clock that moves on by a second with each input."""

    def __init__(self, choice: int) -> None:
        self.now_ms = START_MS
        self.store = MemoryStore(lambda: self.now_ms)
        # Without the hook: no program may run here.
        rules = structs.replace(EAGER, hook=()) if choice % 2 else Rules()
        self.orchestrator = Orchestrator(self.store, PARTITION, rules, _SETTINGS)
        self.is_spoilt = False

    def spoil(self, flat: list[bytes]) -> None:
        """Write into one of the session's hashes, as any client can."""
        key = _HASHES.get(flat[1])
        if key is not None:
            self.is_spoilt = True
            self.store.data.hash(key).update(hashed(flat[2:]))
            self.orchestrator.forget()

    def send(self, flat: list[bytes]) -> None:
        """Add an entry to the ingress and handle it."""
        self.now_ms += 1_000
        self._take([(b"%d-0" % self.now_ms, flat)], [])

    def ring(self, member: bytes) -> None:
        """Fire a timer."""
        self.now_ms += 1_000
        self._take([], [member])

    def _take(self, signals: list[tuple[bytes, list[bytes]]], timers: list[bytes]) -> None:
        """Decide as the worker's loop does, and ignore the errors that it ignores."""
        for _ in range(3):
            try:
                inputs = run_now(self.orchestrator.prepare(signals))
                inputs += run_now(self.orchestrator.prepare_timers(timers, self.now_ms))
                if not inputs:
                    return
                decided = self.orchestrator.decide(inputs, self.now_ms)
            except TamperedError as error:
                assert self.is_spoilt, error
                assert self.orchestrator.quarantine(error)
                self.orchestrator.forget()
            except DefectError as error:
                assert self.is_spoilt, error.__cause__
                self.orchestrator.forget()
            else:
                self.store.data.apply(decided.batch, self.now_ms, signals)
                return
        raise AssertionError("what is left out is met again and again")
