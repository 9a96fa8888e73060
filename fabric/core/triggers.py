"""Integration points that call for a barrier by themselves (seeds: "Level 3 Integration Points").

The rule file names them: by the id of what was resolved, by where it is, by the task completed.
"""

from __future__ import annotations

from fabric.core import barriers
from fabric.core.decision import EVERYONE, ORCHESTRATOR, Decision
from fabric.core.directive import DirectiveType, Notice
from fabric.core.resource import normalise, overlap
from fabric.core.rules import Rules, Trigger
from fabric.core.session import Session
from fabric.core.signal import IntegrationRequired, SignalType

#: The level of integration at which all agents meet.
LEVEL = 3


def pull(
    session: Session, tags: list[str], location: str | None, rules: Rules, decision: Decision
) -> None:
    """Call the barriers of all triggers that these tags, or this location, set off."""
    for trigger in rules.triggers:
        if not _is_met(trigger, tags, location):
            continue
        reason = barriers.fault(session, trigger.name)
        if reason is not None:
            notice = Notice("BARRIER", reason)
            decision.direct("", DirectiveType.NOTICE, notice)
            continue
        limit_ms = trigger.deadline_ms
        called = IntegrationRequired(trigger.name, LEVEL, limit_ms)
        decision.derive(EVERYONE, SignalType.INTEGRATION_REQUIRED, ORCHESTRATOR, "", called)
        barriers.call(
            session,
            trigger.name,
            trigger.leader,
            rules.barrier_deadline_ms if limit_ms is None else limit_ms,
            decision,
            level=LEVEL,
        )


def _is_met(trigger: Trigger, tags: list[str], location: str | None) -> bool:
    if any(overlap(pattern, tag) for pattern in trigger.tags for tag in tags):
        return True
    if location is None:
        return False
    place = normalise(location)
    return any(overlap(normalise(path), place) for path in trigger.paths)
