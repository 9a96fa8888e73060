"""Barriers: while the leader integrates, no member of the barrier acts or holds anything.

An agent that the fabric had declared dead is neither member nor leader: it may not know yet.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.chaos.ending import between, endings
from tests.chaos.evidence import Evidence
from tests.chaos.journal import Line

#: What an agent records only while it is not paused.
DEEDS = ("turn", "holds")


class Integration(NamedTuple):
    """The time of an integration, ms."""

    began: float
    ended: float
    leader: str
    name: str


@dataclass
class Call:
    """Log numbers of a barrier's call, of its opening, and of INTEGRATED."""

    called: int = 0
    opened: int = 0
    over: int = sys.maxsize
    #: Members, and agents that started since: both are paused until it is over.
    members: set[str] = field(default_factory=set)


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each action of a member during an integration."""
    integrations: dict[str, list[Integration]] = {}
    deeds: dict[str, list[tuple[float, str]]] = {}
    for session, agent, lives in evidence.members():
        for life in lives:
            integrations.setdefault(session, []).extend(_integrations(agent, life))
            deeds.setdefault(session, []).extend(
                (line["at"], agent) for line in life if line["what"] in DEEDS
            )
    for session, found in integrations.items():
        gone, calls = endings(evidence, session), _calls(evidence, session)
        for one in found:
            call = calls.get((one.leader, one.name))
            if call is None or not call.opened:
                continue  # a failover has lost it, with all its effects
            for at, agent in deeds[session]:
                is_in = agent in call.members and one.began < at < one.ended
                if is_in and not any(
                    between(gone.get(name, []), call.called, call.over)
                    for name in (agent, one.leader)
                ):
                    yield f"{session} {one.name}: {agent} at {at:.0f} in {one}"


def _integrations(agent: str, life: list[Line]) -> Iterator[Integration]:
    closing: dict[str, float] = {
        line["barrier"]: line["at"] for line in life if line["what"] == "closing"
    }
    for line in life:
        if line["what"] == "opened":
            # A killed leader has not recorded the end of its integration.
            name, began = str(line["barrier"]), float(line["at"])
            yield Integration(began, closing.get(name, began), agent, name)


def _calls(evidence: Evidence, session: str) -> dict[tuple[str, str], Call]:
    """Return by leader and barrier what the log says about it."""
    found: dict[tuple[str, str], Call] = defaultdict(Call)
    for entry in evidence.log(session):
        kind, fields = entry.fields.get("type"), entry.fields
        if entry.is_signal and kind in ("INTEGRATION_REQUIRED", "INTEGRATED"):
            call = found[fields["emitter"], entry.payload["name"]]
            if kind == "INTEGRATED":
                call.over = entry.number
            else:
                call.called = entry.number
        elif entry.is_signal and kind == "STARTED":
            for call in found.values():
                if call.over == sys.maxsize:
                    call.members.add(fields["emitter"])
        elif kind == "PAUSE" and fields["to"] == "*":
            for (_, name), call in found.items():
                if name == entry.payload.get("barrier"):
                    call.members.update(entry.payload.get("members", ()))  # no opening: left out
        elif kind == "PROCEED" and "barrier" in entry.payload:
            found[fields["to"], entry.payload["barrier"]].opened = entry.number
    return found
