"""The agents' signals as ingress entries in the client's own format; the same in every run.

`resolved`: DEPENDENCY_RESOLVED with one consumer. Each signal makes a log entry, a log entry for
the message that it causes, and an inbox entry: our heaviest simple case. `mix`: after one STARTED
per agent, 80 % PROGRESS (log and state), 15 % PARTIAL_RESULT (log, state, results) and 5 %
DEPENDENCY_RESOLVED.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from fabric.store.keys import Namespace

#: The only partition.
KEYS = Namespace().partition(0)

NAMES = ("resolved", "mix")
SESSIONS = 4
AGENTS = 50

#: Outputs that a session's agents resolve repeatedly: fewer than a session may hold.
DEPENDENCIES = 1_000

#: Signals of each type in 20: the mix nearest to what fleets send.
_MIX = ("PROGRESS",) * 16 + ("PARTIAL_RESULT",) * 3 + ("DEPENDENCY_RESOLVED",)

#: Seed that makes the order of agents and signals the same in every run.
_SEED = 20_251_230

#: Position of the dependency's name in the payload of a DEPENDENCY_RESOLVED.
DEPENDENCY_AT = slice(18, 31)

#: Signals of the whole fleet while each agent's progress grows by one percent.
SIGNALS_PER_PERCENT = 1_000

#: Position of the percentage in the payload of a PROGRESS.
PERCENT_AT = 11

_CHECKPOINTS = ("files_read", "issues_found", "recommendations_drafted")


def agent(number: int) -> str:
    """Name an agent."""
    return f"agent-{number:02d}"


def session_of(number: int) -> str:
    """Name the session that an agent works in."""
    return f"session-{number % SESSIONS}"


def stream_of(number: int) -> str:
    """Name the stream that an agent works in."""
    return f"stream-{number % 10}"


def consumer_of(number: int) -> int:
    """Return the agent that gets the message of a resolved output: the next one of the session."""
    following = number + SESSIONS
    return following if following < AGENTS else number % SESSIONS


def entry(number: int, kind: str, seq: int, payload: str) -> tuple[bytes, ...]:
    """Return an ingress entry's fields, as `fabric.client.agent` writes them."""
    return (
        b"session", session_of(number).encode(),
        b"type", kind.encode(),
        b"emitter", agent(number).encode(),
        b"stream", stream_of(number).encode(),
        b"seq", b"%d" % seq,
        b"incarnation", b"1",
        b"payload", payload.encode(),
    )  # fmt: skip


def resolved(number: int, dependency: int, location: str) -> str:
    """Return the payload of a DEPENDENCY_RESOLVED; its start is as long as DEPENDENCY_AT says."""
    return (
        f'{{"dependency_id":"artefact-{dependency:04d}","output_location":"{location}",'
        f'"consumers":["{agent(consumer_of(number))}"]}}'
    )


def progress(position: int, percent: int, checkpoint: str = _CHECKPOINTS[0]) -> str:
    """Return the payload of a PROGRESS."""
    return (
        f'{{"percent":{percent},"checkpoint":"{checkpoint}",'
        f'"detail":"file {position:08d} read, nothing new in it, on to the next"}}'
    )


def entries(name: str, count: int) -> Iterator[tuple[bytes, ...]]:
    """Yield a workload's entries in order."""
    chance = random.Random(_SEED)
    sequences = [0] * AGENTS
    for position in range(count):
        if name == "mix" and position < AGENTS:
            number, kind = position, "STARTED"
        else:
            number = chance.randrange(AGENTS)
            kind = chance.choice(_MIX) if name == "mix" else "DEPENDENCY_RESOLVED"
        sequences[number] += 1
        # In the order of a code review: otherwise the agent would get messages about the order.
        checkpoint = _CHECKPOINTS[position * len(_CHECKPOINTS) // count]
        payload = _payload(number, kind, position, checkpoint)
        yield entry(number, kind, sequences[number], payload)


def _payload(number: int, kind: str, position: int, checkpoint: str) -> str:
    if kind == "STARTED":
        return (
            f'{{"task":"review-{number:02d}","task_type":"Code Review","reads":["src/{number}"]}}'
        )
    if kind == "PROGRESS":
        return progress(position, position // SIGNALS_PER_PERCENT % 100, checkpoint)
    if kind == "PARTIAL_RESULT":
        return (
            f'{{"partial":{{"findings":[{{"key":"src/file-{position:08d}.py",'
            '"value":"an import that nothing in the file uses"}]}}'
        )
    location = f"s3://builds/main/artefact/result-{position:08d}.json"
    return resolved(number, position % DEPENDENCIES, location)
