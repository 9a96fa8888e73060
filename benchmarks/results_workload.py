"""Partial results for the synthesizer, in the client's own format.

`findings`: each result is one finding with its own key. `counters`: all agents update the same few
numbers of the document. `revised`: every second finding supersedes the one before. `mix`: of twenty
results ten are findings, four supersede, four update counters, two add to lists; one in a hundred
contradicts another agent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from benchmarks.workload import KEYS
from fabric.store.keys import SessionKeys

#: Agents of the one session.
AGENTS = 200

NAMES = ("findings", "counters", "revised", "mix")

SESSION = "bench"
KEYS_OF_SESSION: SessionKeys = KEYS.session(SESSION)

#: Numbers in the document that all agents update.
COUNTERS = ("files", "lines", "warnings", "errors", "seconds")

#: Results of `mix` of which one contradicts.
_CONTRADICTS = 100

#: Different items of the lists in `mix`.
_TAGS = 50


def agent(number: int) -> str:
    """Name an agent."""
    return f"agent-{number:03d}"


def key(position: int) -> str:
    """Name the key of a result's finding."""
    return f"src/module-{position % 97:02d}/file-{position:07d}.py"


def entries(name: str, count: int) -> Iterator[tuple[bytes, ...]]:
    """Yield the ingress entries of a kind of results, from the agents by turns."""
    for position in range(count):
        number, seq = position % AGENTS, position // AGENTS + 1
        payload = json.dumps({"partial": partial(name, position)}, separators=(",", ":"))
        yield (
            b"session", SESSION.encode(),
            b"type", b"PARTIAL_RESULT",
            b"emitter", agent(number).encode(),
            b"stream", b"A",
            b"seq", b"%d" % seq,
            b"incarnation", b"1",
            b"payload", payload.encode(),
        )  # fmt: skip


def partial(name: str, position: int) -> dict[str, Any]:
    """Return one partial result."""
    # By rounds, so that each agent sends results of every kind.
    turn = position // AGENTS
    if name == "mix":
        name = ("findings", "counters", "findings", "revised", "findings")[turn % 5]
        if turn % 10 == 9:
            return {"tags": [f"tag-{position % _TAGS:02d}"]}
        if position % _CONTRADICTS == 0:
            return {"findings": [{"key": f"port-{turn}", "value": position % AGENTS}]}
    if name == "counters":
        return {one: {"$total": turn * 10 + place} for place, one in enumerate(COUNTERS)}
    finding: dict[str, Any] = {
        "key": key(position),
        "value": "an import that nothing in the file uses",
        "evidence": f"line {position % 400}",
        "confidence": 0.8,
    }
    if name == "revised" and turn % 2:
        finding["supersedes"] = [key(position - AGENTS)]
    return {"findings": [finding]}
