"""An example session as the orchestrator logs it, and the rows that a timeline of it must show."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

#: Server time of the example's 0:00, ms.
OPENED_MS = 1_767_123_000_000

#: Time, signal and stream of each row.
ROWS = [
    ("0:00", "STARTED", "A, B"),
    ("0:05", "PROGRESS(25%)", "A"),
    ("0:10", "BLOCKED(schema-change)", "B"),
    ("0:15", "DEPENDENCY_RESOLVED", "A"),
    ("0:15", "(auto-resume)", "B"),
    ("0:20", "CHECKPOINT_REACHED", "A, B"),
    ("0:25", "CONFLICT_DETECTED", "A, B"),
    ("0:25", "(serialize)", "A"),
    ("0:30", "DEPENDENCY_RESOLVED", "A"),
    ("0:30", "(resume)", "B"),
    ("0:35", "INTEGRATION_REQUIRED", "D"),
    ("0:35", "(barrier)", "A, B"),
    ("0:40", "COMPLETED", "A, B"),
]

_CONFIG = {"resources": ["config.py"]}
_CONFLICT = {**_CONFIG, "agents": ["A", "B"]}

#: The effects of a signal: type, recipient, payload (None: the signal itself is passed on).
Effect = tuple[str, str, dict[str, Any] | None]

#: The effects of the conflict.
_SETTLED: list[Effect] = [
    ("PAUSE", "A", {"reason": "conflict", **_CONFIG}),
    ("PAUSE", "B", {"reason": "conflict", **_CONFIG}),
    ("PROCEED", "A", {**_CONFIG, "token": 1, "waiting": 1}),
    ("WAIT", "B", {**_CONFIG, "position": 1, "holder": "A", "ahead": ["A"]}),
]

_BARRIER = {
    "reason": "integration",
    "barrier": "release",
    "generation": 1,
    "members": ["A", "B"],
    "deadline_ms": 60_000,
}

#: Seconds, emitter, type, payload and effects of each signal before the conflict.
_BEFORE: list[tuple[int, str, str, dict[str, Any], list[Effect]]] = [
    (0, "A", "STARTED", {"produces": ["schema-change"]}, []),
    (0, "B", "STARTED", {}, []),
    (5, "A", "PROGRESS", {"percent": 25}, []),
    (
        *(10, "B", "BLOCKED", {"on": "schema-change"}),
        [("NUDGE", "A", {"on": "schema-change", "waiting": ["B"]})],
    ),
    (
        *(15, "A", "DEPENDENCY_RESOLVED", {"dependency_id": "schema-change"}),
        [
            ("DEPENDENCY_RESOLVED", "B", None),
            ("RESUME", "B", {"reason": "resolved", "dependency": "schema-change"}),
        ],
    ),
    (20, "A", "CHECKPOINT_REACHED", {"checkpoint": "c"}, [("CHECKPOINT_REACHED", "*", None)]),
    (20, "B", "CHECKPOINT_REACHED", {"checkpoint": "c"}, [("CHECKPOINT_REACHED", "*", None)]),
]

#: The same, after the end of the conflict.
_AFTER: list[tuple[int, str, str, dict[str, Any], list[Effect]]] = [
    (
        *(30, "A", "DEPENDENCY_RESOLVED", {"dependency_id": "config.py"}),
        [
            ("RESUME", "B", {"reason": "your turn", **_CONFIG}),
            ("PROCEED", "B", {**_CONFIG, "token": 2}),
        ],
    ),
    (
        *(35, "D", "INTEGRATION_REQUIRED", {"name": "release"}),
        [("INTEGRATION_REQUIRED", "*", None), ("PAUSE", "*", _BARRIER)],
    ),
    (40, "A", "COMPLETED", {}, []),
    (40, "B", "COMPLETED", {}, [("PROCEED", "D", {"resources": [], "barrier": "release"})]),
]


def entry(
    kind: str, word: str, payload: dict[str, Any] | None = None, **fields: str
) -> list[bytes]:
    """Return the flat fields of a log entry, as the orchestrator writes them."""
    document = {"kind": kind, "type": word, **fields}
    if payload is not None:
        document["payload"] = json.dumps(payload)
    flat = (part for pair in {"ms": "1000", **document}.items() for part in pair)
    return [part.encode() for part in flat]


def signal(word: str, payload: dict[str, Any] | None = None, **fields: str) -> list[bytes]:
    """Return a signal's log entry; by default of ARCHITECT in stream A."""
    return entry("signal", word, payload, **{"emitter": "ARCHITECT", "stream": "A", **fields})


def directive(
    word: str, payload: dict[str, Any], to: str = "SCHEDULER", cause: str = "1-0"
) -> list[bytes]:
    """Return a directive's log entry."""
    return entry("directive", word, payload, to=to, stream="", cause=cause, **{"from": "O"})


def logged(*, derived: bool = False) -> list[tuple[bytes, list[bytes]]]:
    """Return the example's log; a detector reports the conflict, or it is derived from intents."""
    numbers = count(1)
    entries: list[tuple[bytes, list[bytes]]] = []
    for said in _BEFORE:
        entries += _event(next(numbers), *said)
    if not derived:
        conflict = ("DETECTOR", "CONFLICT_DETECTED", _CONFLICT)
        entries += _event(next(numbers), 25, *conflict, _SETTLED)
    else:
        intent = {"writes": ["config.py"]}
        entries += _event(next(numbers), 25, "A", "INTENT", intent, [("PROCEED", "A", _CONFIG)])
        entries += _event(next(numbers), 25, "B", "INTENT", intent, _SETTLED, _CONFLICT)
    for said in _AFTER:
        entries += _event(next(numbers), *said)
    return entries


def _event(
    number: int,
    seconds: int,
    emitter: str,
    word: str,
    payload: dict[str, Any],
    effects: list[Effect],
    conflict: dict[str, Any] | None = None,
) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield the entries of one signal: itself, then its effects, those of `conflict` first."""
    ms = str(OPENED_MS + seconds * 1000)
    # The detector has no stream.
    stream = "" if emitter == "DETECTOR" else emitter
    yield (
        f"{number}-0".encode(),
        entry("signal", word, payload, ms=ms, emitter=emitter, stream=stream),
    )
    cause = f"{number}-0"
    places = count(1)
    if conflict is not None:
        origin = {"from": "ORCHESTRATOR", "to": "", "stream": "", "cause": cause}
        yield (
            f"{number}-{next(places)}".encode(),
            entry("derived", "CONFLICT_DETECTED", conflict, ms=ms, **origin),
        )
    for told, to, content in effects:
        sender = emitter if content is None else "ORCHESTRATOR"
        origin = {"from": sender, "to": to, "stream": "", "cause": cause}
        yield (
            f"{number}-{next(places)}".encode(),
            entry("directive", told, content, ms=ms, **origin),
        )
