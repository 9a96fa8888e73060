"""Ingress entries, decoded and applied to a session: an accepted signal never makes `step` fail.

This holds after any history and under any rules; and the invariants hold after each signal.
"""

from __future__ import annotations

import msgspec

from fabric.core.rules import Rules
from fabric.core.step import fire
from fabric.errors import SignalError
from fabric.store import state
from fabric.store.keys import Namespace
from fabric.store.keyspace import Keyspace
from fabric.store.port import Batch
from fabric.wire import record
from fabric.wire.entry import decode
from tests.fuzz.entry_bytes import entries, packed
from tests.fuzz.tokens import FIELDS, FRAME, HOSTILE, TYPES
from tests.support.entry import dead_letter
from tests.support.invariant import check
from tests.support.random_history import EAGER, NARROW, RULES, START_MS, Play, written

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = [*FRAME, *FIELDS, *TYPES, b"wait", b"timer", *HOSTILE]

#: The first byte selects the rules.
CHOICES = (Rules(), RULES, NARROW, EAGER)

#: Longest time between two entries, ms.
WAIT_MS_MAX = 3_600_000

_SEEDS: list[list[str]] = [
    ["A STARTED", "B STARTED", "B BLOCKED on=x", "A DEPENDENCY_RESOLVED dependency_id=x"],
    ['A STARTED produces=["x"]', "B BLOCKED on=x", "A BLOCKED on=y", "wait 9000"],
    ['A INTENT writes=["a.py"]', 'B INTENT writes=["*.py","q"]', "A RELEASE resources=[]"],
    ["A STARTED", "B STARTED", "C STARTED", "A INTEGRATION_REQUIRED name=r", "wait 4000"],
    ["A ESCALATE question=why id=q", "B DECIDED escalation=q decision=so", "A FAILED error=x"],
    ["A PROGRESS(25%) checkpoint=files_read", 'A PARTIAL_RESULT partial={"findings":[]}'],
    ['A CONFLICT_DETECTED resources=["a"] agents=["A","B"]', "wait 999999", "A HEARTBEAT"],
    ["A STARTED task=t", "A EARLY_COMPLETION capacity=2", "B STARTED task=u", "B COMPLETED"],
    ["A STARTED", "timer silence:A", "timer undeclared:x", "timer barrier:1:r", "timer hold:A"],
]


def seeds() -> list[bytes]:
    """Return short sessions that touch every rule."""
    return [bytes([n % 4]) + packed(map(_entry, lines)) for n, lines in enumerate(_SEEDS)]


def _entry(line: str) -> list[str]:
    who, _, rest = line.partition(" ")
    if who in ("wait", "timer"):
        return [who, rest]
    kind, *pairs = rest.split()
    fields = [part for pair in pairs for part in pair.split("=", 1)]
    return ["session", "s", "emitter", who, "type", kind, *fields]


def run(data: bytes) -> None:
    """Apply entries to one session, with time between them."""
    play = Play(rules=CHOICES[data[0] % len(CHOICES)] if data else Rules())
    for flat in entries(data[1:]):
        if flat[0] == b"wait":
            play.pass_time(_milliseconds(flat[1]))
        elif flat[0] == b"timer":
            fire(play.session, flat[1].decode("utf-8", "replace"), play.rules, play.now_ms)
        else:
            _happen(play, flat)
    check(play.session)
    play.pass_time(WAIT_MS_MAX)
    check(play.session)
    _keep(play)


def _happen(play: Play, flat: list[bytes]) -> None:
    try:
        signal = decode(list(flat))
    except SignalError as error:
        assert str(error).isprintable(), "a refusal is one line"
        assert record.sent_fields(dead_letter(flat, *record.reason_of(error))) == flat
        return
    play.say(signal)
    assert record.logged_signal(signal, play.now_ms)
    assert play.now_ms >= START_MS


def _keep(play: Play) -> None:
    """Encode the session and decode it again: nothing may be lost."""
    keys = Namespace().partition(0).session("s")
    batch, server = Batch(), Keyspace()
    state.StoredSession(keys, play.session).save(batch)
    server.apply(batch, play.now_ms)
    restored = state.restore(keys, [server.hash(key) for key in state.hashes(keys)]).state
    assert written(restored) == written(play.session)
    assert msgspec.json.decode(written(restored))


def _milliseconds(value: bytes) -> int:
    return min(int(value), WAIT_MS_MAX) if value.isdigit() and len(value) < 9 else 1
