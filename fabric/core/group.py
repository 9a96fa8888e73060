"""Fail-fast: what one agent's failure means for the rest of its parallel group.

Early failure is seen by the others at once (seeds: RESULT_STREAMING, "Early failure detection").
"""

from __future__ import annotations

from fabric.core.decision import Decision
from fabric.core.directive import Cancel, DirectiveType
from fabric.core.escalation import GROUP, note, pose
from fabric.core.record import ENDED, AgentRecord, EscalationState
from fabric.core.rules import FailFast, Rules
from fabric.core.session import SessionState
from fabric.core.signal import Failed, SignalType

#: Answers to the question whether a group goes on.
GO_ON, CANCEL = "go on", "cancel"


def failed(
    session: SessionState,
    name: str,
    agent: AgentRecord,
    error: Failed,
    rules: Rules,
    decision: Decision,
) -> None:
    """Tell the group that one of it has failed, and apply its policy."""
    group = agent.parallel_group
    if not group or agent.cancelled:
        return  # it has stopped because it was told to: the group knows why
    others = members(session, group)
    for other in others:
        decision.derive(other, SignalType.FAILED, name, agent.stream, error)
    policy = rules.fail_fast_groups.get(group, rules.fail_fast)
    reason = f"{name} of the group {group} has failed: {error.error or 'no reason given'}"
    if policy is FailFast.CANCEL:
        cancel(session, group, reason, decision)
    elif policy is FailFast.ESCALATE and others and not _is_asked(session, group):
        text = f"{reason}. Does the rest of the group go on?"
        question = pose(session, GROUP, text, [GO_ON, CANCEL], about=group)
        note(session, decision, question, rules, told=[])


def cancel(session: SessionState, group: str, reason: str, decision: Decision) -> None:
    """Tell all of a group that is still at work to stop."""
    for other in members(session, group):
        agent = session.agents.records[other]
        if not agent.cancelled:
            agent.cancelled = True
            session.agents.put(other, agent)
            decision.direct(other, DirectiveType.CANCEL, Cancel(reason, "FAIL_FAST"))


def _is_asked(session: SessionState, group: str) -> bool:
    return any(
        question.subject == GROUP
        and question.about == group
        and question.state is EscalationState.OPEN
        for question in session.escalations.records.values()
    )


def members(session: SessionState, group: str) -> list[str]:
    """Name who of a group is at work, sorted."""
    return sorted(
        name
        for name, agent in session.agents.records.items()
        if agent.parallel_group == group and agent.status not in ENDED
    )
