"""Ingress entries that the library never sends: written by hand, by mistake, or by an attacker."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from fabric.core.limits import COUNTER_MAX, SEQUENCE_SKIPPED_MAX
from fabric.store.port import Entry

_encode = msgspec.json.encode


def intrude(kind: str, agent: str, session: str, chance: random.Random) -> list[bytes]:
    """Return the fields of one entry. See `generate.INTRUSIONS`."""
    signal: dict[str, object] = {"session": session, "emitter": agent}
    match kind:
        case "garbage":
            return chance.choice(_GARBAGE)
        case "stale":
            # Either an older incarnation, which is refused, or the agent's first signal.
            signal |= {"type": "PROGRESS", "incarnation": 1}
            signal["payload"] = {"percent": 1}
        case "release":
            signal |= {"type": "RELEASE", "payload": {"resources": ["a.py", "src/**"]}}
        case "resolve":
            signal |= {"type": "DEPENDENCY_RESOLVED", "payload": {"dependency_id": "d1"}}
        case "integrated":
            signal |= {"type": "INTEGRATED", "payload": {"name": "release"}}
        case "unknown":
            signal |= {"type": "NO_SUCH_SIGNAL", "payload": {}}
        case "blocked":
            signal |= {"type": "BLOCKED", "payload": {"on": chance.choice(("d3", "b.py"))}}
        case "ended":
            signal |= {"type": chance.choice(("COMPLETED", "FAILED")), "payload": {}}
        case "decided":
            signal |= {"type": "DECIDED", "payload": {"escalation": "none", "decision": "one"}}
        case "leap":
            signal |= {"type": chance.choice(("HEARTBEAT", "STARTED")), "payload": {}}
            # The last number that may be, and the last one that an agent may come to by skipping.
            signal["seq"] = chance.choice((COUNTER_MAX, SEQUENCE_SKIPPED_MAX))
            signal["incarnation"] = chance.choice((1, 2, COUNTER_MAX))
        case "skip":
            signal |= {"type": "HEARTBEAT", "seq": _number(chance), "payload": {}}
        case "jump":
            # A number that may be: what the agent says itself comes too late then.
            signal |= chance.choice(
                (
                    {"type": "HEARTBEAT", "seq": _number(chance)},
                    {"type": "STARTED", "incarnation": chance.randint(2, 6)},
                )
            )
            signal["payload"] = {}
        case "twin":
            # A second process under the name, of a library that has numbered its start.
            kind = chance.choice(("STARTED", "INTENT"))
            signal |= {"type": kind, "incarnation": chance.randint(40, 90)}
            signal |= {"instance": "twin"} if kind == "STARTED" else {}
            signal["payload"] = {} if kind == "STARTED" else {"writes": ["a.py"]}
        case "bomb":
            globs = [f"{BOMB}{n}/" + "**/*a" * 90 for n in range(30)]
            signal |= {"type": chance.choice(("INTENT", "STARTED")), "payload": {"writes": globs}}
        case "flood":
            signal |= {"type": "PROGRESS", "payload": {"percent": chance.randint(0, 100)}}
        case "unreadable":
            signal |= {"type": "PROGRESS", "payload": {"percent": "x"}}
        case "close" | "open" | "purge":
            kind = {"close": "RUN_CLOSED", "open": "RUN_OPENED", "purge": "RUN_PURGED"}[kind]
            signal |= {"type": kind, "emitter": "alice", "payload": {"by": "alice"}}
        case "expect":
            agents = [agent, "NOBODY"]
            signal |= {"type": "AGENTS_EXPECTED", "emitter": "alice"}
            signal["payload"] = {"agents": agents, "deadline_ms": 60_000}
        case "tried":
            copies = chance.sample(("h:/a", "h:/c", "h:/x"), 2)
            paths = chance.sample(("src/a.py", "b.py"), chance.randint(1, 2))
            signal |= {"type": "CONFLICT_DETECTED", "emitter": "merge-tree"}
            said = {"kind": "merge", "copies": copies, "seen": chance.choice((1, 6, 9, 12, 10_000))}
            signal["payload"] = {**said, chance.choice(("resources", "clean")): paths}
        case "hops":
            signal |= {"type": "CHECKPOINT_REACHED", "hops": 99, "payload": {"checkpoint": "x"}}
    return _entry(signal)


def following(agent: str, session: str, last: int) -> list[bytes]:
    """Return a signal under the number that the agent itself is about to use."""
    said: dict[str, object] = {"session": session, "emitter": agent, "seq": last + 1}
    return _entry(said | {"type": "PROGRESS", "payload": {"percent": 99}})


def _entry(signal: dict[str, object]) -> list[bytes]:
    flat: list[bytes] = []
    for name, value in signal.items():
        flat += (name.encode(), _encode(value) if isinstance(value, dict) else str(value).encode())
    return flat


def _number(chance: random.Random) -> int:
    """Return a number that an agent comes to: soon, or only after many signals."""
    number = chance.randint(20, 200)
    return number if number % 2 else number // 10


#: Begins every glob of a bomb.
BOMB = "bomb"


def again(entries: Sequence[Entry], chance: random.Random) -> list[bytes] | None:
    """Return an entry that was sent before, to send it again."""
    return list(chance.choice(entries)[1]) if entries else None


_GARBAGE: tuple[list[bytes], ...] = (
    [b"type", b"PROGRESS"],
    [b"session", b"demo", b"type", b"PROGRESS", b"emitter", b"A", b"payload", b"{"],
    [b"session", b"demo", b"type", b"PROGRESS", b"emitter", b"A", b"payload", b'{"percent": "x"}'],
    [b"session", b"\xff\xfe", b"type", b"\x00", b"emitter", b"A"],
    [b"session", b"demo", b"type", b"PARTIAL_RESULT", b"emitter", b"A", b"payload", b"[" * 500],
    [b"session", b"demo", b"type", b"STARTED", b"emitter", b"A", b"incarnation", b"9" * 40],
)
