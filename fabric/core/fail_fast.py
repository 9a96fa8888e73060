"""Fail-fast: what one agent's failure means for the rest of its parallel group.

The others see the failure at once. The rule file says whether they are also cancelled, or a person
is asked whether they go on.
"""

from __future__ import annotations

from fabric.core.directive import Cancel
from fabric.core.escalation import GROUP, ask, new_question
from fabric.core.event import Event
from fabric.core.record import ENDED, AgentRecord, EscalationRecord, EscalationState
from fabric.core.rules import FailFast
from fabric.core.session import SessionState
from fabric.core.signal import Failed

#: Answers to the question whether a group goes on.
GO_ON, CANCEL = "go on", "cancel"


def failed(event: Event, name: str, agent: AgentRecord, error: Failed) -> None:
    """Tell the group that one of its agents has failed, and apply its policy."""
    session, rules, group = event.session, event.rules, agent.parallel_group
    if not group or agent.cancelled:
        return  # it has stopped because it was told to: the group knows why
    others = _members(session, group)
    for other in others:
        event.derive(other, error, sender=name, stream=agent.stream)
    policy = rules.fail_fast_groups.get(group, rules.fail_fast)
    reason = f"{name}, of group {group}, has failed: {error.error or 'no reason given'}"
    if policy is FailFast.CANCEL:
        _cancel(event, group, reason)
    elif policy is FailFast.ESCALATE and others and not _is_asked(session, group):
        text = f"{reason}. Does the rest of the group go on?"
        ask(event, new_question(session, GROUP, text, [GO_ON, CANCEL], about=group), told=[])


def apply_answer(event: Event, asked: EscalationRecord) -> None:
    """Cancel the rest of a group, if a person has decided that."""
    if asked.decision == CANCEL:
        _cancel(event, asked.about, f"{asked.by} has decided to cancel")


def _cancel(event: Event, group: str, reason: str) -> None:
    """Tell all agents of a group that are still at work to stop."""
    for other in _members(event.session, group):
        agent = event.session.agents.records[other]
        if not agent.cancelled:
            agent.cancelled = True
            event.session.agents.put(other, agent)
            event.direct(other, Cancel(reason, "FAIL_FAST"))


def _is_asked(session: SessionState, group: str) -> bool:
    return any(
        question.subject == GROUP
        and question.about == group
        and question.state is EscalationState.OPEN
        for question in session.escalations.records.values()
    )


def _members(session: SessionState, group: str) -> list[str]:
    """Name the agents of a group that are at work, sorted."""
    return sorted(
        name
        for name, agent in session.agents.records.items()
        if agent.parallel_group == group and agent.status not in ENDED
    )
