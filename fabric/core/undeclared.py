"""Waits for something that nobody has declared to produce: reported after a grace time.

Agents may start in any order, so the producer may yet come; but "wait for ever on work that nobody
does" is what the fabric exists to prevent (seeds: Rule 2, step 3).
"""

from __future__ import annotations

from fabric.core.decision import ORCHESTRATOR, Decision
from fabric.core.rules import Rules
from fabric.core.session import Session
from fabric.core.signal import Escalate, SignalType

#: The timer's key is `undeclared:<dependency>`.
TIMER = "undeclared"


def watch(session: Session, on: str, rules: Rules, decision: Decision) -> None:
    """Set the timer when a wait begins; a later wait for the same thing puts it off."""
    decision.timers[f"{TIMER}:{on}"] = session.clock_ms + rules.undeclared_grace_ms


def grace_over(session: Session, on: str, rules: Rules) -> Decision | None:
    """Escalate, to all who wait and to the log, unless a producer or the thing itself has come."""
    dependency = session.dependencies.get(on)
    if dependency is None or not dependency.waiters or dependency.producers:
        return None
    waiting = list(dependency.waiters)
    question = f"Nobody has declared to produce {on}; {', '.join(waiting)} wait for it."
    decision = Decision()
    for name in waiting:
        decision.derive(name, SignalType.ESCALATE, ORCHESTRATOR, "", Escalate(question))
    return decision
