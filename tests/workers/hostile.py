"""A hostile stream of signals: ever new names, nonsense, and records that never stop growing."""

import json
import random
from collections.abc import Iterator
from typing import Any

from fabric.core.signal import GIVING, SignalType

#: Half of the signals go to this session; each of the others goes to a new one.
CROWDED = "crowded"

#: Not those that end a run: what grows is looked at in one run.
_KINDS = [kind for kind in SignalType if not kind.startswith("RUN_")] + 3 * [
    SignalType.STARTED,
    SignalType.BLOCKED,
    SignalType.INTENT,
    SignalType.ESCALATE,
    SignalType.INTEGRATION_REQUIRED,
    SignalType.CONFLICT_DETECTED,
    SignalType.DEPENDENCY_RESOLVED,
    SignalType.PARTIAL_RESULT,
]
#: Payloads that cannot be decoded.
_NONSENSE = [b"\xff", b"{", b"[" * 100, b'{"a":' * 100, b"9" * 400, b"\x00", b""]


def entries(number: int, seed: int) -> Iterator[list[bytes]]:
    """Yield that many entries of the ingress."""
    chance = random.Random(seed)
    for count in range(number):
        if chance.random() < 0.1:
            field = b"field-%d" % count if chance.random() < 0.5 else b"payload"
            yield [b"session", b"s", b"type", b"PROGRESS", field, chance.choice(_NONSENSE)]
            continue
        session = CROWDED if chance.random() < 0.5 else f"session-{count}"
        emitter = f"agent-{count if chance.random() < 0.3 else chance.randrange(40)}"
        payload, kind = _payload(chance, count), chance.choice(_KINDS)
        if kind not in GIVING and chance.random() < 0.9:
            payload.pop("partial", None)  # it would be refused for that alone
        yield [
            *(b"session", session.encode(), b"emitter", emitter.encode()),
            *(b"type", kind.value.encode()),
            *(b"payload", json.dumps(payload).encode()),
        ]


def results(number: int, seed: int) -> Iterator[list[bytes]]:
    """Yield that many entries of the results."""
    chance = random.Random(seed)
    for count in range(number):
        session = CROWDED if chance.random() < 0.5 else f"session-{count}"
        agent = f"agent-{count if chance.random() < 0.3 else chance.randrange(40)}"
        kind = chance.choice(["PARTIAL_RESULT", "PARTIAL_RESULT", "STARTED", "FAILED", "NONSENSE"])
        yield [
            *(b"session", session.encode(), b"emitter", agent.encode(), b"type", kind.encode()),
            *(b"cause", b"%d-0" % (count + 1), b"ms", b"%d" % count),
            *(b"incarnation", b"%d" % chance.randrange(1, 4)),
            *(b"payload", json.dumps(_payload(chance, count)).encode()),
        ]


def _payload(chance: random.Random, count: int) -> dict[str, Any]:
    """Return fields for any signal; each type reads only those that it knows."""

    def names() -> list[str]:
        return [f"n-{chance.choice((count, chance.randrange(60)))}" for _ in range(3)]

    fields: dict[str, Any] = {
        "on": names()[0],
        "task": names()[0],
        "produces": names(),
        "writes": names(),
        "reads": names(),
        "resources": names(),
        "agents": [f"agent-{chance.randrange(40)}" for _ in range(3)],
        "question": "x" * chance.randrange(200),
        "options": names(),
        "name": names()[0],
        "dependency_id": names()[0],
        "consumers": names(),
        "escalation": names()[0],
        "decision": "so",
        "refiner": names()[0],
        "value": names(),
        "partial": {"findings": [{"key": names()[0], "value": count}], "of": {names()[0]: count}},
        "checkpoint": names()[0],
        "parallel_group": names()[0],
        "id": names()[0],
        "wait": chance.random() < 0.5,
        "deadline_ms": chance.randrange(5_000),
    }
    return {field: value for field, value in fields.items() if chance.random() < 0.7}
