"""What keeps an agent at a barrier: who is missing, who leads it, and what its deadline brings."""

from __future__ import annotations

from collections.abc import Callable

from fabric.core import standing
from fabric.core.question import BARRIER
from fabric.core.record import Barrier, BarrierState, EscalationState
from fabric.core.rules import BarrierPolicy
from fabric.core.standing import in_force
from fabric.ops.why.scene import Cause, Scene, line, names, open_question

#: What an agent has to do with a wait, in words.
Relation = Callable[[str], str]

#: Returns a cause for each of these agents, and why that one does not go on.
Follow = Callable[[list[str], Relation], list[Cause]]

#: What happens at a barrier's deadline.
_POLICIES = {
    BarrierPolicy.WAIT: "a person is asked whether to go on waiting",
    BarrierPolicy.RELEASE: "the others go on without them",
    BarrierPolicy.FAIL: "the integration is called off",
}


def barrier_waits(scene: Scene, name: str, explained: set[str], follow: Follow) -> list[Cause]:
    """Return a cause for each barrier that an agent waits at, or waits to lead.

    One that is `explained` is only named; what is explained here is added.
    """
    found: list[Cause] = []
    current = in_force(scene.session)
    if current is not None and (name, BarrierState.INTEGRATING) == (
        current[1].leader,
        current[1].state,
    ):
        return found  # it may go on, whatever it has called besides
    is_held = current is not None and _is_held(name, current[1])
    if current is not None and is_held:
        found.append(_held_at(scene, name, *current, explained, follow))
    for called, barrier in scene.session.barriers.records.items():
        if current is None or barrier.state is not BarrierState.QUEUED or barrier.leader != name:
            continue
        log = f"{barrier.called}-0"
        said = scene.when(barrier.called_ms, log)
        text = f"{name} called the barrier {called} at {said}; {current[0]} is in force before it"
        frees = f"begins when {current[0]} is over"
        found.append(Cause("barrier", line(text), name, log, barrier.called_ms, line(frees)))
        if not is_held:
            found.append(_held_at(scene, name, *current, explained, follow))
    return found


def _held_at(
    scene: Scene, name: str, called: str, barrier: Barrier, explained: set[str], follow: Follow
) -> Cause:
    log = f"{barrier.called}-0"
    by = f"called by {barrier.leader or 'the rule file'} at {scene.when(barrier.called_ms, log)}"
    cause = Cause("barrier", "", name, log, barrier.called_ms)
    if called in explained:
        cause.text = line(f"{_place(scene, name, called, barrier)} (see where it comes up first)")
        return cause
    explained.add(called)
    place = f"{_place(scene, name, called, barrier)} ({by})"
    if barrier.state is BarrierState.INTEGRATING:
        cause.text = line(place)
        cause.frees = line(f"goes on when {barrier.leader} says INTEGRATED, or ends")
        told = scene.chronicle.told(barrier.leader, "PROCEED", called)
        since = f" since {scene.when(told.ms, told.id)}" if told is not None else ""
        relation = f"all have arrived; {barrier.leader} has been integrating{since}"
        cause.children = follow([barrier.leader], lambda _: relation)
        return cause
    missing = standing.missing(barrier)
    count = f"{len(barrier.arrived)} of {len(barrier.members)} have arrived"
    cause.text = line(f"{place}; {count}, missing: {names(missing)}")
    cause.frees = _way_out(scene, name, barrier, missing)
    others = [one for one in missing if one != name]
    cause.children = follow(others, lambda other: _missing(scene, called, other))
    cause.children.append(_deadline(scene, called, barrier))
    return cause


def _place(scene: Scene, name: str, called: str, barrier: Barrier) -> str:
    if name == barrier.leader:
        return f"{name} leads the barrier {called} and waits until all have arrived"
    if name in barrier.held:
        return f"{name} came while the barrier {called} was in force, and is held until it ends"
    if name in barrier.arrived:
        when = scene.at(barrier.arrived[name])
        return f"{name} arrived at the barrier {called} at {when} and is held there"
    return f"{name} has to wait until the barrier {called} is over"


def _way_out(scene: Scene, name: str, barrier: Barrier, missing: list[str]) -> str:
    frees = f"goes on when {names(missing)} reaches a checkpoint (CHECKPOINT_REACHED), "
    frees += "begins to wait, ends"
    silent = scene.silent_until(missing[0]) if len(missing) == 1 else ""
    frees += f", or {silent}" if silent else ""
    if name != barrier.leader and scene.is_at_work(barrier.leader):
        frees += f"; and {barrier.leader} has integrated"
    return line(frees)


def _missing(scene: Scene, called: str, other: str) -> str:
    told = scene.chronicle.told(other, "PAUSE", called)
    if told is None:
        return f"{other} has not arrived. It was not told of the barrier"
    when = scene.when(told.ms, told.id)
    return f"{other} has not arrived. It was told of the barrier at {when}" + scene.has_read(
        other, told
    )


def _deadline(scene: Scene, called: str, barrier: Barrier) -> Cause:
    at = scene.at(barrier.deadline_ms)
    for question_id, question in reversed(scene.session.escalations.records.items()):
        if question.subject != BARRIER or question.about != called:
            continue
        if question.state is EscalationState.OPEN:
            return open_question(scene, question_id, question)
        if question.asked_ms >= barrier.called_ms:
            when = scene.at(question.decided_ms)
            text = f"its deadline was {at}; {question.by} decided at {when}: {question.decision}"
            return Cause("note", line(text), at_ms=question.decided_ms)
    if not barrier.deadline_ms:
        return Cause("note", "it has no deadline")
    policy = _POLICIES[scene.rules.barrier_policy]
    text = f"its deadline is {at}: then the missing are named, and {policy}"
    return Cause("note", text, at_ms=barrier.deadline_ms)


def _is_held(name: str, barrier: Barrier) -> bool:
    """Whether a barrier in force keeps an agent from going on."""
    is_gathering = barrier.state is BarrierState.GATHERING
    is_leader = name == barrier.leader and is_gathering
    return is_leader or name in barrier.arrived or name in barrier.held
