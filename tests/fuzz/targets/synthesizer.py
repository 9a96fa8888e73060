"""Results through a synthesizer, on a store whose keys may be corrupted.

The synthesizer reports corrupted keys and goes on. With intact keys no input makes it fail, and the
patches that it writes give the document.
"""

from __future__ import annotations

from fabric.client.session import Session
from fabric.config.settings import Settings
from fabric.core.rules import Rules
from fabric.errors import TamperedError
from fabric.store.keys import SYNTHESIZERS, Namespace
from fabric.testing.store import MemoryStore
from fabric.view.report import report
from tests.fuzz.entry_bytes import entries, hashed, packed
from tests.fuzz.targets import result, synthesis
from tests.fuzz.tokens import FRAME, HOSTILE
from tests.support.immediate import run_now
from tests.support.random_history import START_MS
from workers.handler import DefectError
from workers.synthesizer import Synthesizer

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = [*FRAME, *result.WORDS, *synthesis.WORDS, b"spoil", b"ring", b"index", b"sweep:", *HOSTILE]

PARTITION = Namespace().partition(0)
KEYS = PARTITION.session("demo")
_SETTINGS = Settings(sessions_cached_max=2)


def seeds() -> list[bytes]:
    """Return the seeds of the result target, and hashes that were written before."""
    streams = [data[1:] for data in result.seeds()]
    spoilt = [b"spoil\x1f\x1f" + data.split(b"\x1e")[0] for data in synthesis.seeds()]
    asked = packed([[b"ring", b"demo:sweep:A"], [b"index", b"A", b"findings:port", b""]])
    return [*streams, *(b"\x1e".join([first, asked, *streams[:2]]) for first in spoilt)]


def run(data: bytes) -> None:
    """Take entries one by one; in between, corrupt the hash or the index, and fire timers."""
    work = _Work()
    for flat in entries(data):
        if flat[0] == b"spoil":
            work.spoil(KEYS.synthesis, hashed(flat[2:]))
        elif flat[0] == b"index":
            agent = flat[1].decode("utf-8", "replace")
            work.index(KEYS.said(agent), flat[2:])
        elif flat[0] == b"ring":
            work.take([], [flat[1]])
        else:
            work.take([(b"%d-0" % work.now_ms, flat)], [])
    for member in sorted(work.store.data.sorted_set(PARTITION.timers(SYNTHESIZERS))):
        work.take([], [member])
    if not work.is_spoilt and work.store.data.kind(KEYS.revisions):
        session = Session(work.store, KEYS)
        found = run_now(session.synthesis())
        assert run_now(session.synthesis(revision=found.revision)).document == found.document
        assert report(found, "demo")


class _Work:
    """A synthesizer, its store, and a clock that moves on by a second with each input."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.store = MemoryStore(lambda: self.now_ms)
        self.synthesizer = Synthesizer(self.store, PARTITION, Rules(), _SETTINGS, {})
        self.is_spoilt = False

    def spoil(self, key: str, fields: dict[bytes, bytes]) -> None:
        self.is_spoilt = True
        self.store.data.hash(key).update(fields)
        self.synthesizer.forget()

    def index(self, key: str, names: list[bytes]) -> None:
        self.is_spoilt = True
        self.store.data.sorted_set(key).update(dict.fromkeys(names, 0))

    def take(self, results: list[tuple[bytes, list[bytes]]], timers: list[bytes]) -> None:
        """Decide as the worker's loop does, and ignore the errors that it ignores."""
        self.now_ms += 1_000
        for _ in range(3):
            try:
                inputs = run_now(self.synthesizer.prepare(results))
                inputs += run_now(self.synthesizer.prepare_timers(timers, self.now_ms))
                if not inputs:
                    return
                decided = self.synthesizer.decide(inputs, self.now_ms)
            except TamperedError as error:
                assert self.is_spoilt, error
                assert self.synthesizer.quarantine(error)
                self.synthesizer.forget()
            except DefectError as error:
                assert self.is_spoilt, error.__cause__
                self.synthesizer.forget()
            else:
                self.store.data.apply(decided.batch, self.now_ms, results)
                return
        raise AssertionError("what is left out is met again and again")
