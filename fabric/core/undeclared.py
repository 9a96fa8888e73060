"""Waits for something that nobody has declared to produce: reported after a grace time.

Agents may start in any order, so the producer may yet come; but "wait for ever on work that nobody
does" is what the fabric exists to prevent (seeds: Rule 2, step 3).
"""

from __future__ import annotations

from fabric.core.decision import ORCHESTRATOR, Decision
from fabric.core.phrase import listed
from fabric.core.record import ENDED, Dependency, DependencyStatus
from fabric.core.rules import Rules
from fabric.core.session import Session
from fabric.core.signal import Escalate, SignalType

#: The timer's key is `undeclared:<dependency>`.
TIMER = "undeclared"


def producer(session: Session, dependency: Dependency, ended: str = "") -> str | None:
    """Name the first declared producer that is still at work; `ended` is one that is not."""
    for name in dependency.producers:
        agent = session.agents.get(name)
        if name != ended and agent is not None and agent.status not in ENDED:
            return name
    return None


def watch(
    session: Session, on: str, dependency: Dependency, rules: Rules, decision: Decision
) -> None:
    """Set the timer when a wait begins; a later wait for the same thing does not put it off."""
    if dependency.report_ms > session.clock_ms:
        return
    dependency.report_ms = session.clock_ms + rules.undeclared_grace_ms
    decision.timers[f"{TIMER}:{on}"] = dependency.report_ms


def grace_over(session: Session, on: str, rules: Rules) -> Decision | None:
    """Escalate, to all who wait and to the log, unless a producer or the thing itself has come.

    Of a failure the waiters have been told when it came.
    """
    dependency = session.dependencies.get(on)
    if dependency is None or not dependency.waiters:
        return None
    if dependency.status is not DependencyStatus.PENDING or producer(session, dependency):
        return None
    waiting = list(dependency.waiters)
    question = f"Nobody at work has declared to produce {on}; waiting for it: {listed(waiting)}."
    decision = Decision()
    for name in waiting:
        decision.derive(name, SignalType.ESCALATE, ORCHESTRATOR, "", Escalate(question))
    return decision
