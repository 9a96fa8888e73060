"""The task board: how tasks come into a session, who has one, and when it is done.

A task is claimed as a file is: the first STARTED that names it has it, under a fencing token.

    event                        pending, failed   offered           in progress       completed
    TASKS_ADDED names the id     refused: DOUBLE   DOUBLE            DOUBLE            DOUBLE
    ASSIGN, when it is ready     offered           -                 -                 -
    the time of the offer ends   -                 pending; next     -                 -
    STARTED by its agent         in progress       in progress       stays             refused: DONE
    STARTED by another           in progress       in progress       refused: TAKEN    refused: DONE
    its agent COMPLETED          -                 -                 completed         -
    its agent FAILED for good    -                 -                 failed            -
    its agent ends otherwise,
      or starts another task     -                 -                 pending           -
    its agent makes no progress  -                 -                 pending           -
    TASK_DONE                    completed         completed         completed         stays
    TASK_RETRY                   pending           stays             refused: TAKEN    pending

A task is *ready* when it is pending and everything before it is complete. A ready task is offered,
by ASSIGN, to an agent that has said that it has room; no agent is made to take it. After
`attempts_max` starts a task that comes back fails instead, and a person decides whether it is tried
again; so it is when a task fails for good that others wait for.

While an agent lives, the task in its record is the one that it has in progress, or "".
"""

from __future__ import annotations

import msgspec

from fabric.core import assignment, barriers, escalation
from fabric.core.directive import Cancel, Notice
from fabric.core.event import Event, RefusedError, SignalEvent
from fabric.core.limits import (
    NOTICE_PAUSE_MS,
    RHYTHM_INTERVALS,
    RHYTHM_INTERVALS_MIN,
    SIGNAL_STEPS_MAX,
    TASK_FINDINGS_MAX,
    listed,
)
from fabric.core.policy import StragglerPolicy, TaskMode
from fabric.core.record import AgentRecord, AgentStatus, EscalationRecord
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import SignalType, TaskDone, TaskRetry, TasksAdded
from fabric.core.task import (
    TaskRecord,
    TaskSpec,
    TaskStatus,
    cycle,
    fault,
    prerequisites,
    summarise,
)

#: The timer of a task in progress is `progress:<task>`.
TIMER = "progress"

#: Answers to the question whether a task is tried again.
RETRY, GIVE_UP = "retry", "give up"
#: Answers to the question whether a slow agent goes on.
GO_ON, HAND_OVER = "go on", "hand over"

#: A task of this status can be started, and another can be put before it.
_NOT_BEGUN = frozenset({TaskStatus.PENDING, TaskStatus.OFFERED, TaskStatus.FAILED})

#: Signals that say how far an agent's own task is.
_REPORTS = frozenset(map(SignalType, ["PROGRESS", "PARTIAL_RESULT", "COMPLETED", "FAILED"]))

_decode = msgspec.json.Decoder().decode


def add(event: SignalEvent, payload: TasksAdded) -> None:
    """TASKS_ADDED: put tasks onto the board. A fault in one refuses them all, and names it."""
    session, tasks = event.session, payload.tasks
    found = fault(tasks, session.tasks)
    if found is not None:
        raise RefusedError(*found)
    _check_room(event, len(tasks))
    before = prerequisites(tasks)
    own = {spec.id for spec in tasks}
    behind = {name: session.tasks.records[name] for name in before if name not in own}
    for name, task in behind.items():
        if task.status not in _NOT_BEGUN:
            reason = f"{before[name][0]} blocks {name}, which is {task.status}"
            has = f": {task.agent} has begun it" if task.agent else ""
            raise RefusedError("TAKEN", reason + has)
    steps = sum(map(len, before.values()))
    if behind:  # only through them can the board and the list close a cycle
        known = session.tasks.records.items()
        before = {
            **{name: task.can_merge_after for name, task in known},
            **before,
            **{name: [*task.can_merge_after, *before[name]] for name, task in behind.items()},
        }
        steps += len(known)
        if circle := cycle(before):
            way = " → ".join([*circle, circle[0]])
            raise RefusedError("CYCLE", f"{way}: each waits for the next")
    if steps > SIGNAL_STEPS_MAX:
        reason = f"the tasks name {steps} others, and one signal may name {SIGNAL_STEPS_MAX}"
        raise RefusedError("LIMIT", f"{reason}: send them in several signals")
    event.spend(steps)
    added_by = "" if event.is_outsider else event.name
    for place, spec in enumerate(tasks):
        session.keep_task(spec.id, _record(spec, before[spec.id], session.log, place, added_by))
    for name, task in behind.items():
        assignment.withdraw(session, name, task)
        task.can_merge_after = list(dict.fromkeys(before[name]))
        session.keep_task(name, task)


def _record(spec: TaskSpec, before: list[str], added: int, place: int, added_by: str) -> TaskRecord:
    """Return the record of a listed task. One that was in progress elsewhere has to be claimed."""
    is_over = spec.status in (TaskStatus.COMPLETED, TaskStatus.FAILED)
    return TaskRecord(
        spec.content or spec.id,
        spec.status if is_over else TaskStatus.PENDING,
        stream=spec.stream,
        progress_percent=spec.progress_percent,
        last_signal=spec.last_signal,
        partial_findings=spec.partial_findings,
        description=spec.description,
        active_form=spec.active_form,
        type=spec.type,
        priority=spec.priority,
        terminal=spec.terminal,
        owner=spec.owner,
        parallel_group=spec.parallel_group,
        can_merge_after=before,
        reads=spec.reads,
        writes=spec.writes,
        estimate_ms=spec.estimate_ms,
        added_by=added_by,
        added=added,
        place=place,
        attempts=spec.attempts,
        is_listed=True,
    )


def _check_room(event: SignalEvent, more: int) -> None:
    """Refuse tasks beyond what a session may have, or beyond the share of an agent."""
    tasks, limit = event.session.tasks, event.rules.tasks_max
    share = "" if event.is_outsider else tasks.fault(event.name, more, limit)
    if share:
        raise RefusedError("LIMIT", f"too many tasks: {share}")
    if len(tasks) + more > limit:
        reason = f"session {event.session.name} would have {len(tasks) + more} tasks"
        raise RefusedError("LIMIT", f"{reason}; the limit is {limit}")


def check(event: SignalEvent, name: str) -> None:
    """Refuse a STARTED with a task that its sender cannot have now."""
    session = event.session
    task = session.tasks.get(name)
    if task is None:
        if name:
            _check_room(event, 1)
    elif task.status is TaskStatus.IN_PROGRESS:
        if task.agent != event.name:
            raise _refusal(name, "TAKEN", f"{task.agent} has {name}, under token {task.token}")
    elif task.status is TaskStatus.COMPLETED:
        by = f" by {task.agent}" if task.agent else ""
        reason = f"{name} was completed{by}, and stays so until somebody says `retry`"
        raise _refusal(name, "DONE", reason)
    elif task.question:
        asked = session.escalations.get(task.question)
        is_open = asked is not None and asked.is_open
        until = f"decide question {task.question}" if is_open else "somebody has to say `retry`"
        raise _refusal(name, "ATTEMPTS", f"{_trouble(name, task)}: {until} first")
    elif event.rules.task_mode is TaskMode.ENFORCE and (reason := _obstacle(event, name)):
        raise _refusal(name, "NOT_READY", reason)


def take(event: SignalEvent, name: str) -> None:
    """STARTED: give the agent the task that it names, which `check` has allowed; or none."""
    session, agent = event.session, event.agent
    if agent.task and agent.task != name:
        leave(event, event.name, agent, "its agent has started something else")
        _idle(agent)
    if not name or agent.task == name:
        return
    task = session.tasks.get(name)
    if task is None:
        task = TaskRecord(name, TaskStatus.PENDING, added_by=event.name, added=session.log)
    elif event.rules.task_mode is TaskMode.OBSERVE and (reason := _obstacle(event, name)):
        event.direct(event.name, Notice("NOT_READY", reason))
    assignment.withdraw(session, name, task, taker=event.name)
    session.token += 1
    agent.task = name
    task.status = TaskStatus.IN_PROGRESS
    task.agent, task.incarnation, task.token = event.name, agent.incarnation, session.token
    task.attempts += 1
    task.started_ms = task.progressed_ms = session.clock_ms
    _begin_anew(task)
    session.keep_task(name, task)
    _watch(event, name, task)


def task_of(session: SessionState, name: str, agent: AgentRecord) -> TaskRecord | None:
    """Return the task that this incarnation of an agent has in progress."""
    task = session.tasks.get(agent.task) if agent.task else None
    if task is None or task.status is not TaskStatus.IN_PROGRESS:
        return None
    return task if (task.agent, task.incarnation) == (name, agent.incarnation) else None


def leave(event: Event, name: str, agent: AgentRecord, why: str, *, may_help: bool = True) -> None:
    """Take an agent's task from it, if it has one: it is completed if that is the agent's status.

    `why` it is not completed, and whether trying again may help.
    """
    task = task_of(event.session, name, agent)
    if task is not None and agent.status is AgentStatus.COMPLETED:
        _complete(event, agent.task, task)
    elif task is not None:
        _give_back(event, agent.task, task, why, may_help=may_help)


def taken_meanwhile(session: SessionState, name: str, agent: AgentRecord) -> str:
    """Say why an agent that was cut off cannot go on with its task; "" when it can."""
    task = session.tasks.get(agent.task)
    if task is None or task.status in (TaskStatus.PENDING, TaskStatus.OFFERED):
        return ""
    if task.status is TaskStatus.FAILED:
        return _trouble(agent.task, task)
    verb = "has completed" if task.status is TaskStatus.COMPLETED else "has taken over"
    return f"{task.agent} {verb} {agent.task}" if task.agent != name else f"{agent.task} is done"


def time_out(event: Event, name: str, task: TaskRecord, reason: str) -> None:
    """Take a task from an agent that lives without making progress, and tell it."""
    _take_away(event, name, task, reason, "TIMEOUT")
    _give_back(event, name, task, reason, may_help=True)


def done(event: SignalEvent, payload: TaskDone) -> None:
    """TASK_DONE: complete a task: the sender's own, one that nobody has, or by a person any."""
    session, name = event.session, payload.task or event.signal.task
    task = _known(session, name)
    if payload.token not in (0, task.token):
        reason = f"{name} was started again since token {payload.token}: the last is {task.token}"
        raise RefusedError("TAKEN", reason, Cancel(reason, "TAKEN", task=name))
    if task.status is TaskStatus.COMPLETED:
        return
    is_own = task.status is TaskStatus.IN_PROGRESS and task.agent == event.name
    if is_own and not event.is_outsider:
        _idle(event.agent)
    elif task.status is TaskStatus.IN_PROGRESS:
        if not event.is_outsider:
            raise _refusal(name, "TAKEN", f"{task.agent} has {name}, under token {task.token}")
        _take_away(
            event, name, task, f"{payload.by or event.name} says that {name} is done", "DONE"
        )
    else:
        task.agent = payload.by or event.name
    assignment.withdraw(session, name, task)
    task.last_signal = SignalType.TASK_DONE.value
    _complete(event, name, task)
    barriers.trigger(event, [name], None)


def retry(event: SignalEvent, payload: TaskRetry) -> None:
    """TASK_RETRY: have a task done again that is completed, or that nobody tries any more."""
    name = payload.task or event.signal.task
    task = _known(event.session, name)
    if task.status is TaskStatus.IN_PROGRESS:
        raise RefusedError("TAKEN", f"{task.agent} has {name}, under token {task.token}")
    escalation.close_own(event, task.question, f"{payload.by or event.name} has said `retry`")
    _reopen(event.session, name, task)


def apply_answer(event: Event, asked: EscalationRecord) -> None:
    """Try a task again, if a person has decided that."""
    task = event.session.tasks.get(asked.about)
    if task is not None and task.status is TaskStatus.FAILED and asked.decision == RETRY:
        _reopen(event.session, asked.about, task)
    elif task is not None and task.status is TaskStatus.IN_PROGRESS and asked.decision == HAND_OVER:
        reason = f"{asked.by} has decided that another agent does {asked.about}"
        _take_away(event, asked.about, task, reason, "STRAGGLER")
        _give_back(event, asked.about, task, reason, may_help=True)


def update(event: SignalEvent) -> None:
    """Bring the sender's task up to what it has just said, as a todo list shows it."""
    session, agent, signal = event.session, event.agent, event.signal
    task = session.tasks.get(agent.task)
    if task is None or signal.type is SignalType.HEARTBEAT:
        return
    is_end = signal.type in (SignalType.COMPLETED, SignalType.FAILED)
    is_own = (task.agent, task.incarnation) == (event.name, agent.incarnation)
    if not is_own or (task.status is not TaskStatus.IN_PROGRESS and not is_end):
        return
    percent, checkpoint = agent.percent or 0, agent.checkpoint
    peak = task.peak_percent or task.progress_percent  # going back and forth is no progress
    is_progress = percent > peak or checkpoint != task.checkpoint
    task.peak_percent = peak if percent < peak else 0
    if (is_progress or signal.type is SignalType.PARTIAL_RESULT) and not is_end:
        _note_progress(event, task)
    task.stream = agent.stream
    task.last_signal = signal.type.value
    task.progress_percent, task.checkpoint = percent, checkpoint
    if signal.type is SignalType.PARTIAL_RESULT:
        partial = _decode(signal.raw).get("partial")
        task.partial_findings = (task.partial_findings + summarise(partial))[-TASK_FINDINGS_MAX:]
    session.tasks.put(agent.task, task)
    session.backlog.touched.add(agent.task)
    if is_progress and not is_end:
        _check_pace(event, agent.task, task)


def tell_other(event: SignalEvent) -> None:
    """Tell an agent that the task which its report names is not its own: nothing changes there."""
    session, agent, name = event.session, event.agent, event.signal.task
    task = session.tasks.get(name)
    if task is None or task.agent == event.name or event.signal.type not in _REPORTS:
        return
    if session.clock_ms - agent.told_ms < NOTICE_PAUSE_MS:
        return
    agent.told_ms = session.clock_ms
    has = task.status.value.replace("_", " ")
    if task.status is TaskStatus.IN_PROGRESS:
        has = f"{has}: {task.agent} has it, under token {task.token}"
    reason = f"{event.name} has not begun {name}, which is {has}; this report changes nothing of it"
    event.direct(event.name, Notice("NOT_YOURS", reason, event.signal.type.value))


def _check_pace(event: SignalEvent, name: str, task: TaskRecord) -> None:
    """Apply the policy to a task that is far slower than others of its group, once an attempt."""
    session, rules = event.session, event.rules
    policy = rules.straggler
    if policy is StragglerPolicy.OFF or not task.is_listed or task.straggler:
        return
    usual = assignment.balance_of(session, rules).slowness_beside(name)
    if not usual or task.slowness <= rules.straggler_factor * usual:
        return
    left_ms = task.left_ms
    if left_ms < rules.straggler_ms_min:
        return
    times = task.slowness / usual
    reason = f"{name} is {times:.1f} times as slow as others of {task.group or 'no stream'}, and"
    reason += f" has {left_ms / 1000:.0f} s to go"
    if policy is StragglerPolicy.SECOND:
        active = AgentStatus.ACTIVE
        others = (one for one in session.spare.names() if one != task.agent)
        if any(session.agents.records[one].status is active for one in others):
            _take_away(event, name, task, reason, "STRAGGLER")
            _give_back(event, name, task, reason, may_help=True)
        return
    task.straggler = "told"
    if policy is StragglerPolicy.NUDGE:
        event.direct(task.agent, Notice("STRAGGLER", reason))
    else:
        text = f"{reason}. Does {task.agent} go on with it?"
        question = escalation.new_question(
            session, escalation.TASK, text, [GO_ON, HAND_OVER], about=name
        )
        task.straggler = escalation.ask(event, question, told=[])
    session.tasks.put(name, task)


def move_limits(event: Event, outage_ms: int) -> None:
    """Move the times of offers and of progress by the length of an outage."""
    session = event.session
    for name, task in session.tasks.records.items():
        if task.status is TaskStatus.OFFERED and task.offered_until_ms:
            task.offered_until_ms += outage_ms
            event.set_timer(f"{assignment.TIMER}:{name}", task.offered_until_ms)
        elif task.status is TaskStatus.IN_PROGRESS:
            task.progressed_ms = min(task.progressed_ms + outage_ms, session.clock_ms)
        else:
            continue
        session.tasks.put(name, task)


def progress_limit_ms(task: TaskRecord, rules: Rules) -> int | None:
    """Return how long a task may be without progress, by its own pace or else its estimate.

    None: it has neither, and the rules set no limit for that.
    """
    step_ms = task.step_ms
    if step_ms is None:
        return rules.progress_ms_max or None
    limit_ms = max(rules.progress_ms_min, rules.progress_factor * step_ms)
    return min(limit_ms, rules.progress_ms_max or limit_ms)


def _note_progress(event: SignalEvent, task: TaskRecord) -> None:
    """Count the time since the last progress, without waits and pauses, in the task's pace."""
    since_ms = max(task.progressed_ms, event.agent.resumed_ms, event.agent.spared_ms)
    task.progressed_ms = event.session.clock_ms
    task.paces = [*task.paces[1 - RHYTHM_INTERVALS :], task.progressed_ms - since_ms]
    if len(task.paces) == RHYTHM_INTERVALS_MIN:
        _watch(event, event.agent.task, task)


def _watch(event: Event, name: str, task: TaskRecord) -> None:
    """Look for progress of a task that has a limit, when it could first have passed it."""
    if progress_limit_ms(task, event.rules) is not None:
        first_ms = event.session.clock_ms + event.rules.progress_ms_min
        event.set_timer(f"{TIMER}:{name}", first_ms)


def _begin_anew(task: TaskRecord) -> None:
    task.progress_percent = task.peak_percent = 0
    task.checkpoint = task.last_signal = ""
    task.partial_findings = []
    task.paces = []


def _idle(agent: AgentRecord) -> None:
    """Let an agent go on without a task; what it reported was about the task."""
    agent.task = agent.checkpoint = agent.next_checkpoint = ""
    agent.percent = agent.eta_ms = None


def _complete(event: Event, name: str, task: TaskRecord) -> None:
    task.status = TaskStatus.COMPLETED
    task.progress_percent = 100
    escalation.close_own(event, task.question, f"{name} is completed")
    task.question = ""
    _end_attempt(event, name, task)
    event.session.keep_task(name, task)


def _end_attempt(event: Event, name: str, task: TaskRecord) -> None:
    """Close the question whether a slow agent goes on: it does not, or need not."""
    if task.straggler not in ("", "told"):
        escalation.close_own(event, task.straggler, f"{task.agent} is not at work on {name} now")
    task.straggler = ""


def _give_back(event: Event, name: str, task: TaskRecord, why: str, *, may_help: bool) -> None:
    """Make a task pending again; or failed, when it was tried too often or that cannot help."""
    session, most = event.session, event.rules.attempts_max
    _end_attempt(event, name, task)
    is_last = 0 < most <= task.attempts
    task.status = TaskStatus.PENDING if may_help and not is_last else TaskStatus.FAILED
    waiting = [] if may_help else session.backlog.followers(name)
    if is_last or waiting:
        text = f"{_trouble(name, task)}; last by {task.agent}: {why or 'no reason given'}."
        text += f" {listed(waiting)} cannot begin before." if waiting else ""
        question = escalation.new_question(
            session, escalation.TASK, f"{text} Is it tried again?", [RETRY, GIVE_UP], about=name
        )
        task.question = escalation.ask(event, question, told=[])
    session.keep_task(name, task)


def _reopen(session: SessionState, name: str, task: TaskRecord) -> None:
    """Make a task pending that is completed or failed; one that was offered stays so."""
    assignment.withdraw_after(session, name)
    if task.status is not TaskStatus.OFFERED:
        task.status = TaskStatus.PENDING
    task.attempts = 0
    task.question = ""
    _begin_anew(task)
    session.keep_task(name, task)


def _take_away(event: Event, name: str, task: TaskRecord, reason: str, code: str) -> None:
    """Tell an agent that it no longer has its task."""
    agent = event.session.agents.records[task.agent]
    _idle(agent)
    event.session.agents.put(task.agent, agent)
    event.session.spare.note(task.agent, agent)
    event.direct(task.agent, Cancel(reason, code, task=name))


def _known(session: SessionState, name: str) -> TaskRecord:
    task = session.tasks.get(name)
    if task is None:
        named = f"task {name}" if name else "task without a name"
        raise RefusedError("UNKNOWN", f"there is no {named} in session {session.name}")
    return task


def _refusal(name: str, code: str, reason: str) -> RefusedError:
    return RefusedError(code, reason, Cancel(reason, code, task=name))


def _trouble(name: str, task: TaskRecord) -> str:
    times = "once" if task.attempts == 1 else f"{task.attempts} times"
    return f"{name} was begun {times} and is not done"


def _obstacle(event: SignalEvent, name: str) -> str:
    """Say why a task cannot begin now; "" if it can."""
    is_late = bool(event.session.backlog.missing(name))
    return _missing(event.session, name) if is_late else assignment.obstacle(event, name)


def _missing(session: SessionState, name: str) -> str:
    records = session.tasks.records
    waits = [f"{other} ({records[other].status})" for other in session.backlog.missing(name)]
    return f"{name} comes after {listed(waits)}"
