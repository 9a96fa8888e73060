"""The order of checkpoints, and pauses that were ignored (seeds: "Checkpoint Enforcement").

A task type names its checkpoints in order; an agent passes them one after the other, and may report
the one it is at again. What is out of order is noted (`observe`) or refused (`enforce`): the seeds'
adoption phases 2 and 3. An agent without a task type passes what it likes.
"""

from __future__ import annotations

from fabric.core.decision import Decision, refuse
from fabric.core.directive import DirectiveType, Notice
from fabric.core.record import Agent, AgentStatus, ClaimState
from fabric.core.rules import CheckpointMode, Rules
from fabric.core.session import Session
from fabric.core.standing import in_force


def advance(
    session: Session, name: str, agent: Agent, checkpoint: str, rules: Rules
) -> tuple[Decision | None, list[Notice]]:
    """Note where an agent is; return the refusal, or what is to be said about it."""
    notices = []
    disorder = out_of_order(agent, checkpoint, rules)
    ignored = ignores_pause(session, name, agent, checkpoint)
    if rules.checkpoints is CheckpointMode.ENFORCE and (disorder or ignored):
        return refuse("CHECKPOINT", disorder or ignored), []
    if disorder:
        notices.append(Notice("CHECKPOINT", disorder))
    if ignored:
        notices.append(Notice("PAUSED", ignored))
    agent.checkpoint = checkpoint
    agent.next_checkpoint = rules.checkpoint_after(agent.task_type, checkpoint)
    return None, notices


def out_of_order(agent: Agent, checkpoint: str, rules: Rules) -> str:
    """Say what is wrong with passing a checkpoint now; "" when nothing is."""
    order = rules.task_types.get(agent.task_type)
    if order is None or checkpoint == agent.checkpoint:
        return ""
    known = " → ".join(order)
    if checkpoint not in order:
        return f"{checkpoint} is no checkpoint of {agent.task_type}: {known}"
    at = order.index(agent.checkpoint) if agent.checkpoint in order else -1
    if order.index(checkpoint) == at + 1:
        return ""
    last = agent.checkpoint or "the start"
    return f"{checkpoint} does not follow {last} in {agent.task_type}: {known}"


def ignores_pause(session: Session, name: str, agent: Agent, checkpoint: str) -> str:
    """Say which pause an agent ignores by passing a checkpoint; "" when it ignores none."""
    if checkpoint == agent.checkpoint:
        return ""
    if agent.status is AgentStatus.PAUSED:
        current = in_force(session)
        if current is not None and name != current[1].leader:
            return f"{name} passes {checkpoint} while {current[0]} holds it"
    for claim_id in agent.claims:
        claim = session.claims.records[claim_id]
        if claim.state is ClaimState.WAITING and claim.contended:
            wanted = ", ".join([*claim.writes, *claim.reads][:3])
            return f"{name} passes {checkpoint} while it is to wait for {wanted}"
    return ""


def say(decision: Decision, name: str, notices: list[Notice], leader: str = "") -> None:
    """Tell an agent, and the leader of the barrier it ignores, what was noted."""
    for notice in notices:
        decision.direct(name, DirectiveType.NOTICE, notice)
        if leader and notice.code == "PAUSED":
            decision.direct(leader, DirectiveType.NOTICE, notice)
