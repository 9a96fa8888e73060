"""What a session hands to the next one: gathered from its records and its log, and taken up again.

Nothing is asked of agents, so it works after a crash too. Two handoffs of the same state are equal:
all times are those of the records. The next session gets the tasks, what was produced, the agents'
questions, open and decided, and the reservations, as what their tasks write.
"""

from __future__ import annotations

import re

from fabric.client.session import Session, pages
from fabric.core.limits import LIST_ITEMS_MAX, TASK_DESCRIPTION_CHARS_MAX, listed
from fabric.core.record import ClaimState, DependencyStatus
from fabric.core.signal import SignalType
from fabric.core.task import TaskRecord, TaskSpec, TaskStatus, fault
from fabric.errors import CallerError
from fabric.ops.board import Board
from fabric.store.port import BEGINNING, ClientStore
from fabric.store.value import whole_number
from fabric.wire.handoff import Carried, Handoff, Output, Question, Told, note
from fabric.wire.stored import text_fields_of

#: The agent that states, in the next session, what the one before had produced and asked.
HEIR = "HANDOFF"


async def gather(session: Session, store: ClientStore) -> Handoff:
    """Return a session's handoff. Raises NotFoundError if there is no such session."""
    await session.must_exist()
    told, last = Told(), ""
    async for page in pages(store, session.keys, BEGINNING):
        for entry in page:
            last = entry[0].decode()
            note(told, last, text_fields_of(entry[1]))
    (opened,) = await store.fields(session.keys.meta, ["opened_ms"])
    return Handoff(
        session.name,
        last,
        whole_number(opened) or 0,
        await session.agents(),
        await session.tasks(),
        await session.dependencies(),
        await session.claims(),
        await session.barriers(),
        await session.escalations(),
        told,
    )


def carried(handoff: Handoff) -> Carried:
    """Return what the next session needs of a handoff."""
    ordered = sorted(handoff.tasks.items(), key=lambda item: (item[1].added, item[1].place))
    outputs = [
        Output(name, one.location)
        for name, one in handoff.dependencies.items()
        if one.status is DependencyStatus.RESOLVED
    ]
    questions = [
        Question(name, one.question, one.asker, one.options, one.decision, one.by)
        for name, one in handoff.questions.items()
        if not one.subject
    ]
    #: A list names so many tasks before one; the others name it themselves.
    blocks: dict[str, list[str]] = {}
    for name, task in ordered:
        for before in task.can_merge_after[LIST_ITEMS_MAX:]:
            blocks.setdefault(before, []).append(name)
    tasks = [_spec(handoff, name, task, blocks.get(name, [])) for name, task in ordered]
    return Carried(1, handoff.session, tasks, outputs, questions)


async def resume(carried: Carried, session: Session, person: Board, heir: Board) -> None:
    """Begin a session from a handoff. Raises NotAllowedError if a signal of it is refused.

    Raises CallerError before anything is sent, if the session exists or the tasks make no sense.

    `person` adds the tasks and the decisions, `heir` states what was produced and asked.
    """
    if await session.exists():
        raise CallerError(f"session {session.name} exists: a handoff begins a new one")
    found = fault(carried.tasks)
    if found is not None:
        raise CallerError(f"the handoff's tasks: {found.reason}")
    if carried.outputs or carried.questions:
        await heir.send(SignalType.STARTED, {"task_type": "handoff"})
        for output in carried.outputs:
            told = {"dependency_id": output.name, "output_location": output.location}
            await heir.send(SignalType.DEPENDENCY_RESOLVED, told)
        for asked in carried.questions:
            await _ask(carried, asked, person, heir)
        await heir.send(SignalType.COMPLETED, {"result": {"handoff": carried.session}})
    await person.add(carried.tasks)


async def _ask(carried: Carried, asked: Question, person: Board, heir: Board) -> None:
    # Ids that the fabric gave are log ids, which the next session counts anew.
    name = f"{carried.session}:{asked.id}" if re.fullmatch(r"\d+-\d+", asked.id) else asked.id
    question = {"id": name, "question": asked.question, "options": asked.options, "wait": False}
    context = {"handoff": carried.session, "asker": asked.asker}
    await heir.send(SignalType.ESCALATE, {**question, "context": context})
    if asked.decision:
        answer = {"escalation": name, "decision": asked.decision, "by": asked.by or person.by}
        await person.send(SignalType.DECIDED, answer)


def _spec(handoff: Handoff, name: str, task: TaskRecord, blocks: list[str]) -> TaskSpec:
    """Return a task as the next session lists it: what is not over has to be claimed again."""
    is_over = task.status in (TaskStatus.COMPLETED, TaskStatus.FAILED)
    agent = handoff.agents.get(task.agent)
    has_it = task.status is TaskStatus.IN_PROGRESS and agent is not None and agent.task == name
    held: list[str] = []
    waited = ""
    if has_it and agent is not None:
        for claim_id in agent.claims:
            claim = handoff.claims.get(claim_id)
            if claim is not None and claim.state is ClaimState.HELD:
                held += claim.writes
        if agent.waits_for:
            waited = f"Before the handoff {task.agent} waited for {listed(agent.waits_for)}."
    text = "\n".join(filter(None, (task.description, waited)))
    if len(text) > TASK_DESCRIPTION_CHARS_MAX:
        kept = TASK_DESCRIPTION_CHARS_MAX - len(waited) - len("…\n")
        text = f"{task.description[: max(kept, 0)]}…\n{waited}"[:TASK_DESCRIPTION_CHARS_MAX]
    # Where not all has room, what was held matters more than what was listed.
    held = list(dict.fromkeys(held))[:LIST_ITEMS_MAX]
    listed_too = [one for one in task.writes if one not in held]
    writes = [*listed_too[: LIST_ITEMS_MAX - len(held)], *held]
    return TaskSpec(
        name,
        task.content,
        text,
        task.active_form,
        task.status if is_over else TaskStatus.PENDING,
        task.type,
        task.priority,
        task.stream,
        task.terminal,
        task.owner,
        task.parallel_group,
        task.can_merge_after[:LIST_ITEMS_MAX],
        blocks,
        task.reads,
        writes,
        task.estimate_ms,
        task.attempts,
        task.progress_percent,
        task.last_signal,
        task.partial_findings,
    )
