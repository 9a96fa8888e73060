"""Barriers: while its leader integrates, no other agent of the session begins or holds anything.

An agent that the fabric had taken for gone is no member: it may not know yet.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tests.chaos.departure import between, departures
from tests.chaos.evidence import Evidence
from tests.chaos.journal import Line

#: What an agent does only when it may go on.
DEEDS = ("turn", "holds")


class Integration(NamedTuple):
    """The time in which a leader was alone, ms."""

    began: float
    ended: float
    leader: str
    name: str


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each deed in somebody else's integration."""
    integrations: dict[str, list[Integration]] = {}
    deeds: dict[str, list[tuple[float, str]]] = {}
    for session, agent, lives in evidence.members():
        for life in lives:
            integrations.setdefault(session, []).extend(_integrations(agent, life))
            deeds.setdefault(session, []).extend(
                (line["at"], agent) for line in life if line["what"] in DEEDS
            )
    for session, found in integrations.items():
        gone, calls = departures(evidence, session), _calls(evidence, session)
        for one in found:
            if (one.leader, one.name) not in calls:
                continue  # a call that a failover has lost: it has vanished, with all it led to
            called, over = calls[one.leader, one.name]
            for at, agent in deeds[session]:
                is_in = agent != one.leader and one.began < at < one.ended
                if is_in and not between(gone.get(agent, []), called, over):
                    yield f"{session} {one.name}: {agent} at {at:.0f} in {one}"


def _integrations(agent: str, life: list[Line]) -> Iterator[Integration]:
    closing: dict[str, float] = {
        line["barrier"]: line["at"] for line in life if line["what"] == "closing"
    }
    for line in life:
        if line["what"] == "opened":
            # Of a leader that was killed it is not known how long it believed to be alone.
            name, began = str(line["barrier"]), float(line["at"])
            yield Integration(began, closing.get(name, began), agent, name)


def _calls(evidence: Evidence, session: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Leader and barrier → log numbers of its call and of its end."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for entry in evidence.log(session):
        kind = entry.fields.get("type")
        if entry.is_signal and kind in ("INTEGRATION_REQUIRED", "INTEGRATED"):
            place = entry.fields["emitter"], entry.payload["name"]
            begun = found.get(place, (entry.number, 0))[0]
            found[place] = begun, entry.number
    return found
