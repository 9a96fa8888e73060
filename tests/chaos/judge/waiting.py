"""Waiting: after the faults every wait ends, by the agents' records and the fabric's state."""

from collections.abc import Iterator
from typing import Any

import msgspec

from tests.chaos.evidence import Evidence
from tests.chaos.journal import Line
from tests.chaos.roster import TEAMS


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each wait that did not end."""
    for session, agent, lives in evidence.members():
        yield from (f"{session} {agent}: {what}" for what in _left(lives[-1]))
    for session in TEAMS:
        if session in evidence.sessions:
            hashes = evidence.hashes(session)
            yield from (f"{session}: {what}" for what in _kept(hashes))


def _left(life: list[Line]) -> Iterator[str]:
    """Yield the waits that an agent began and did not end in its last life."""
    open_: dict[str, float] = {}
    for line in life:
        if line["what"] == "waits":
            open_[line["on"]] = line["at"]
        elif line["what"] == "waited":
            open_.pop(line["on"], None)
    yield from (f"waits for {on} since {at:.0f}" for on, at in open_.items())
    if not any(line["what"] == "ended" and not line["how"] for line in life):
        yield "has not ended"


def _kept(hashes: dict[str, dict[str, str]]) -> Iterator[str]:
    """Yield the waits in the fabric's state."""
    for name, agent in _records(hashes["agents"]):
        if agent["status"] in ("active", "blocked", "paused"):
            yield f"{name} is {agent['status']}, waits for {agent.get('waits_for', [])}"
    for claim, record in _records(hashes["claims"]):
        yield f"claim {claim} is {record['state']}"
    for name, barrier in _records(hashes["barriers"]):
        if barrier["state"] != "over":
            yield f"barrier {name} is {barrier['state']}"
    for question, record in _records(hashes["escalations"]):
        if record["state"] == "open" and record.get("waiting"):
            yield f"question {question} is open, {record['waiting']} wait"


def _records(stored: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, text in stored.items():
        yield name, msgspec.json.decode(text)
