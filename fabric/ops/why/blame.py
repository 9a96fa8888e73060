"""Whom an agent waits for, and whom that one waits for, down to who or what can end it.

One function a kind of wait. An agent is explained once: where it comes up again, the chain ends,
with "that closes the circle" when it is among those who wait for this one.
"""

from __future__ import annotations

from difflib import get_close_matches

from fabric.core import deadlock
from fabric.core.record import (
    Claim,
    ClaimState,
    Dependency,
    DependencyStatus,
    Escalation,
    EscalationState,
)
from fabric.ops.why.gathering import Relation, barrier_waits
from fabric.ops.why.scene import WIDTH_MAX, Cause, Scene, line, names, open_question

#: Agents explained below one another, and in all.
DEPTH_MAX = 6
AGENTS_MAX = 20


class Blame:
    """Follows the waits of a session's agents."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._session = scene.session
        self._explained: set[str] = set()
        self._barriers: set[str] = set()

    def waits(self, name: str, path: tuple[str, ...] = ()) -> list[Cause]:
        """Return a cause for each wait of an agent. `path` are those who wait for it."""
        scene, agent = self._scene, self._session.agents.get(name)
        if agent is None or not scene.is_at_work(name):
            return []
        self._explained.add(name)
        path = (*path, name)
        found = [self._dependency(name, on, path) for on in agent.waits_for]
        for claim_id in agent.claims:
            claim = self._session.claims.records[claim_id]
            if claim.state is ClaimState.WAITING:
                found.append(self._lock(name, claim_id, claim, path))
        for question_id in agent.asks:
            question = self._session.escalations.get(question_id)
            if question is not None and question.state is EscalationState.OPEN:
                found.append(self._question(name, question_id, question, path))
        held = barrier_waits(
            scene, name, self._barriers, lambda others, say: self._agents(others, path, say)
        )
        return [*_cut(found), *held]

    def _dependency(self, name: str, on: str, path: tuple[str, ...]) -> Cause:
        scene, dependency = self._scene, self._session.dependencies.get(on) or Dependency()
        began = dependency.waiters.get(name, "")
        text = f"{name} has waited for {on} since {scene.of(began)}"
        cause = Cause("dependency", line(text), name, began, scene.chronicle.time_of(began) or 0)
        at_work = [one for one in dependency.producers if scene.is_at_work(one)]
        if not at_work:
            self._nobody(on, dependency, cause)
            return cause
        makers = " or ".join(at_work[:WIDTH_MAX])
        cause.frees = f"goes on when {makers} resolves {on} (DEPENDENCY_RESOLVED) or completes"

        def relation(other: str) -> str:
            said = f"{other} has declared to produce {on}"
            return f"{said}. {scene.aware(other, ('NUDGE',), (on,))}"

        cause.children = self._agents(at_work, path, relation)
        return cause

    def _nobody(self, on: str, dependency: Dependency, cause: Cause) -> None:
        """A wait that no agent at work can end."""
        scene = self._scene
        if dependency.status is DependencyStatus.FAILED:
            by, why = dependency.failed_by, dependency.error or "no reason given"
            text = f"{by} was to produce {on} and has failed: {why}"
            if dependency.retryable:
                text += " (it says that trying again may help)"
            again = f"{by} starts again and resolves it"
        else:
            ended = f": {names(dependency.producers)} has ended" if dependency.producers else ""
            text = f"nobody at work has declared to produce {on}{ended}"
            told = scene.chronicle.told(cause.agent, "ESCALATE", on)
            if told is not None:
                text += f"; who waits was told so at {scene.when(told.ms, told.id)}"
            elif dependency.report_ms > scene.now_ms:
                text += f"; that is reported at {scene.at(dependency.report_ms)}"
            again = f'an agent starts that declares it (STARTED with produces ["{on}"])'
        end = self._end_of(dependency.failed_by)
        cause.frees = f"goes on when {again}, or anybody sends DEPENDENCY_RESOLVED for {on}"
        cause.children = [Cause("nobody", line(text), dependency.failed_by, *end)]
        made = [k for k, other in self._session.dependencies.records.items() if other.producers]
        for near in get_close_matches(on, [other for other in made if other != on], n=1):
            producers = self._session.dependencies.records[near].producers
            hint = f"is {near} meant? {names(producers)} has declared to produce that"
            cause.children.append(Cause("note", line(hint)))

    def _end_of(self, name: str) -> tuple[str, int]:
        end = self._scene.chronicle.life(name).end if name else None
        return (end.fact.id, end.fact.ms) if end is not None else ("", 0)

    def _lock(self, name: str, claim_id: str, claim: Claim, path: tuple[str, ...]) -> Cause:
        scene, order = self._scene, self._session.order
        wanted = names([*claim.writes, *claim.reads])
        asked = f"{claim.asked}-0"
        before, first = order.position(claim_id, claim)
        place = "is next in line"
        if before:
            shown = list(dict.fromkeys(one.agent for one in first))[:WIDTH_MAX]
            more = f" and {before - len(shown)} more" if before > len(shown) else ""
            place = f"is number {before + 1} in line, behind {', '.join(shown)}{more}"
        when = scene.when(claim.asked_ms, asked)
        finder = scene.chronicle.conflicts.get(asked)
        text = f"{name} asked for {wanted} at {when} and {place}"
        if finder is not None:
            text = f"{name} {place} for {wanted}: {finder} saw a conflict there at {when}"
        cause = Cause("lock", line(text), name, asked, claim.asked_ms)
        holders: dict[str, Claim] = {}
        for holder_id in order.blockers(claim_id, claim):
            holder = self._session.claims.records[holder_id]
            holders.setdefault(holder.agent, holder)
        ahead = dict.fromkeys(one.agent for one in order.before(claim_id, claim))
        others = [*holders, *(one for one in ahead if one not in holders)]
        if holders:
            # Who only stands in the same line is named above, and adds nothing.
            others = [one for one in others if one in holders or self._has_more(one, claim)]
        cause.frees = line(self._way_out(holders, names(others), is_first=not before))

        def relation(other: str) -> str:
            holder = holders.get(other)
            if holder is None:
                return f"{other} stands before it in line"
            has = names([*holder.writes, *holder.reads])
            told = scene.aware(other, ("NUDGE", "PAUSE"), [*claim.writes, *claim.reads])
            return f"{other} has held {has} since {scene.granted(holder)}. {told}"

        cause.children = self._agents(others, path, relation)
        return cause

    def _way_out(self, holders: dict[str, Claim], others: str, *, is_first: bool) -> str:
        """Say what would give an agent its turn."""
        if not holders:
            return f"goes on when those before it have had their turn: {others}"
        ends = [self._scene.silent_until(one) for one in holders] if len(holders) == 1 else []
        ends += [
            f"it is taken back, at {self._scene.at(one.expires_ms)}"
            for one in holders.values()
            if one.expires_ms
        ]
        told = f"goes on when {names(list(holders))} gives it back (RELEASE), ends"
        told += "".join(f", or {end}" for end in ends if end)
        return told if is_first else f"{told}; and those before it have had their turn"

    def _has_more(self, name: str, claim: Claim) -> bool:
        """Whether an agent waits for anything but what a claim is for."""
        agent, wanted = self._session.agents.records[name], {*claim.writes, *claim.reads}
        waiting = [self._session.claims.records[one] for one in agent.claims]
        return bool(agent.waits_for or agent.asks) or any(
            one.state is ClaimState.WAITING and not wanted.issuperset([*one.writes, *one.reads])
            for one in waiting
        )

    def _question(
        self, name: str, question_id: str, question: Escalation, path: tuple[str, ...]
    ) -> Cause:
        scene = self._scene
        asked = scene.when(question.asked_ms, question.cause)
        text = f"{name} waits for the answer to question {question_id}, asked at {asked}"
        cause = Cause("question", line(text), name, question.cause, question.asked_ms)
        if question.to:
            cause.frees = f"goes on when {question.to}, or a person, answers (DECIDED)"

            def relation(other: str) -> str:
                told = scene.aware(other, ("ESCALATE",), (question_id,))
                return f'{other} is asked: "{question.question}". {told}'

            cause.children = self._agents([question.to], path, relation)
        else:
            cause.frees = "goes on when somebody answers"
            cause.children = [open_question(scene, question_id, question)]
        return cause

    def _agents(self, others: list[str], path: tuple[str, ...], relation: Relation) -> list[Cause]:
        """Return a cause for each agent that is needed, and why that one does not go on."""
        found = []
        for other in others[:WIDTH_MAX]:
            text = f"{relation(other)}. {self._scene.standing(other)}"
            cause = Cause("agent", line(text), other)
            found.append(cause)
            if other in path:
                circle = " → ".join([*path[path.index(other) :], other])
                way_out = "" if deadlock.find(self._session, other) else "; others can open it"
                cause.text = line(f"{relation(other)}. That closes the circle: {circle}{way_out}")
                cause.kind = "cycle"
            elif other in self._explained:
                if not self._scene.is_active(other):
                    cause.text += " (see where it comes up first)"
            elif len(path) >= DEPTH_MAX or len(self._explained) >= AGENTS_MAX:
                cause.text += f" (go on with: fabric why {other})"
            else:
                cause.children = self.waits(other, path)
        return _more(found, len(others))


def _more(found: list[Cause], count: int) -> list[Cause]:
    """Say how many more there are."""
    if count > len(found):
        found.append(Cause("note", f"and {count - len(found)} more"))
    return found


def _cut(found: list[Cause]) -> list[Cause]:
    return _more(found[:WIDTH_MAX], len(found))
