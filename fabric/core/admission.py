"""Which signals are heard: incarnations, sequence numbers, ended agents and limits come first."""

from __future__ import annotations

from zlib import crc32

from fabric.core import identity, lifecycle, liveness, roster, run
from fabric.core.contradiction import is_from_synthesizer
from fabric.core.directive import Notice
from fabric.core.event import REPEATED, SILENCE_TIMER, Decision, Event, Outcome, SignalEvent
from fabric.core.limits import (
    INCARNATIONS_SKIPPED_MAX,
    NOTICE_PAUSE_MS,
    RHYTHM_INTERVALS,
    SEQUENCE_SKIPPED_MAX,
    SKIPPED_RANGES_MAX,
)
from fabric.core.record import ENDED, AgentRecord, AgentStatus, BarrierState, RetiredRecord
from fabric.core.session import SessionState
from fabric.core.signal import PAYLOADS, Signal, SignalType

#: A person or an outside detector may send these without being an agent of the session.
OUTSIDERS = frozenset(
    {
        SignalType.DECIDED,
        SignalType.CONFLICT_DETECTED,
        SignalType.SYNTHESIZED,
        SignalType.REFINED,
        SignalType.TASKS_ADDED,
        SignalType.TASK_DONE,
        SignalType.TASK_RETRY,
        SignalType.AGENTS_EXPECTED,
        SignalType.RENAMED,
        SignalType.SAME_AS,
        *run.OF_RUNS,
    }
)

#: These end something or say that it goes on: no limit on messages stops them.
PARTING = frozenset(
    {
        SignalType.COMPLETED,
        SignalType.FAILED,
        SignalType.HEARTBEAT,
        SignalType.INTEGRATED,
        SignalType.RELEASE,
    }
)


#: Payload → where the checksum of a signal of its type begins: a HEARTBEAT is no COMPLETED.
_MARK_SEEDS = {payload: crc32(word.value.encode()) for word, payload in PAYLOADS.items()}

#: The first signals of an agent do not count in its rate, where the rules allow as many a second.
#: It may begin with a burst, say of a thousand dependencies, and few agents need a count at all.
UNCOUNTED_MAX = 1_000


def admit(event: SignalEvent, now_ms: int) -> bool:
    """Say whether a signal may take effect; if not, the event's decision tells why.

    Sets the event's agent. A signal without an incarnation belongs to the present one; a STARTED
    without one begins the next when the last has ended. The first signal of an unknown agent
    registers it.
    """
    session, signal, name = event.session, event.signal, event.name
    # A session from before may have an agent of the synthesizer's name, which no agent gets now.
    is_synthesizers = signal.type in OUTSIDERS and is_from_synthesizer(signal)
    outside = is_synthesizers or signal.type in run.OF_RUNS
    agent = None if outside else session.agents.get(name)
    # The number alone tells most signals apart, without a call: 2 % of the hot path's byte codes.
    if agent is not None and signal.seq <= agent.seq and _is_retry(agent, signal):
        # Before the clock moves: what is not written must leave no trace in memory either.
        event.decision = REPEATED
        return False
    retired = session.retired.get(name) if agent is None else None
    heard = retired.seq if retired is not None and _goes_on(signal, retired) else 0
    if 0 < signal.seq <= heard:
        event.decision = REPEATED
        return False
    if agent is not None and agent.is_storming and _is_storm(event, agent, now_ms):
        return False
    session.tick(now_ms)
    if signal.hops >= event.rules.hops_max and signal.type not in PARTING:
        reason = (
            f"{signal.type} is the end of a chain of {signal.hops} replies to replies: "
            f"{signal.emitter} and others answer each other in a loop"
        )
        return _refuse(event, "HOPS", reason)
    if (closed := run.refusal(event)) and not is_synthesizers:
        _refuse(event, run.CLOSED, closed)
        if signal.type not in (SignalType.HEARTBEAT, *OUTSIDERS):
            run.tell(event, name, refusal_notice(signal, run.CLOSED, closed))
        return False
    if agent is None:
        if signal.type in OUTSIDERS:
            session.log += 1
            event.is_outsider = True
            return True
        agent = _newcomer(event, retired, heard)
        if agent is None:
            return False
        before = agent.incarnation
    else:
        if not _may_speak(event, agent):
            return False
        session.log += 1
        before = agent.incarnation
        if signal.incarnation > agent.incarnation or _is_restart(agent, signal):
            event.is_beginning = True
            lifecycle.begin_incarnation(event, agent, signal.incarnation or agent.incarnation + 1)
        else:
            if not agent.quiet_until_ms:  # an announced silence is not its rhythm
                rhythm = agent.intervals[1 - RHYTHM_INTERVALS :]
                agent.intervals = [*rhythm, session.clock_ms - agent.seen_ms]
    event.agent = agent
    agent.instance = signal.instance or agent.instance
    if event.is_beginning:
        liveness.watch(event, name, agent)
        roster.come(event)
    if signal.seq > agent.seq + 1 or agent.incarnation > before + 1:
        _tell_skipped(event, agent, before)
    _note_signal(event, agent)
    return True


def _note_signal(event: SignalEvent, agent: AgentRecord) -> None:
    """Count an accepted signal, and note when and with what its agent was heard."""
    session, signal = event.session, event.signal
    agent.signals += 1
    if signal.type is not SignalType.HEARTBEAT:
        agent.last_signal = str(signal.type)
        agent.quiet_until_ms = 0
        if agent.idle_since_ms:
            liveness.note_progress(event, agent)
    else:
        agent.idle_since_ms = agent.idle_since_ms or agent.seen_ms
        if agent.quiet_until_ms <= session.clock_ms:
            agent.quiet_until_ms = 0
    agent.seen_ms = session.clock_ms
    _note_number(agent, signal)
    agent.stream = signal.stream or agent.stream


def _why_stale(signal: Signal, retired: RetiredRecord) -> tuple[str, str] | None:
    """Return code and reason when a signal is of an incarnation whose record is gone."""
    name, last = signal.emitter, f"incarnation {retired.incarnation}"
    if signal.incarnation > retired.incarnation or _goes_on(signal, retired):
        return None
    if signal.incarnation:
        reason = f"incarnation {signal.incarnation} of {name} is over: the last one was {last}"
        return "STALE_INCARNATION", f"{reason}, and it ended before log id {retired.log}-0"
    if signal.type is SignalType.STARTED:
        return None
    reason = f"{name} has ended as {last}: it must send STARTED before anything else"
    return "ENDED", reason


def _goes_on(signal: Signal, retired: RetiredRecord) -> bool:
    """Whether a signal is of an incarnation that made room without having ended."""
    return retired.seq > 0 and signal.incarnation in (0, retired.incarnation)


def _newcomer(event: SignalEvent, retired: RetiredRecord | None, heard: int) -> AgentRecord | None:
    """Register the agent of a signal, or refuse that; `heard`: it goes on after that number."""
    session, signal, name = event.session, event.signal, event.name
    last = retired.incarnation if retired is not None else 0
    if retired is not None and (why := _why_stale(signal, retired)):
        _refuse(event, *why)
        run.tell(event, name, refusal_notice(signal, *why))
    elif far := _leap(name, signal, last, heard):
        _refuse(event, "LEAP", far)
    elif len(session.agents) >= event.rules.agents_max and not _make_room(event):
        _refuse_newcomer(event)
    else:
        agent = _register(event, last - 1 if heard else last)
        agent.seq = heard
        return agent
    return None


def _register(event: SignalEvent, last: int) -> AgentRecord:
    """Return the record of a new agent, or of a name whose `last` incarnation is over."""
    session, signal = event.session, event.signal
    if event.name in session.retired:
        session.retired.drop(event.name)
    agent = AgentRecord(
        AgentStatus.ACTIVE,
        signal.incarnation or last + 1,
        started_ms=session.clock_ms,
        seen_ms=session.clock_ms,
        stream=signal.stream,
        priority=event.rules.priorities.get(event.name, 0),
    )
    session.log += 1
    session.agents.put(event.name, agent)
    event.is_beginning = True
    return agent


def _may_speak(event: SignalEvent, agent: AgentRecord) -> bool:
    """Refuse numbers out of order, an ended agent, and one that sends too often."""
    signal, name = event.signal, event.name
    if signal.seq <= agent.seq and _is_repeated(agent, signal):
        why = _why_no_repeat(agent, signal)
        if why:
            return _refuse(event, *why)
    incarnation = signal.incarnation
    if (
        agent.instance
        and signal.instance != agent.instance
        and (signal.instance or incarnation > agent.incarnation)
        and identity.is_taken(event, agent)
    ):
        return _refuse_second(event, agent)
    if incarnation and incarnation < agent.incarnation:
        return _refuse(
            event,
            "STALE_INCARNATION",
            f"incarnation {incarnation} of {name} was replaced by incarnation {agent.incarnation}",
        )
    is_beginning = incarnation > agent.incarnation or _is_restart(agent, signal)
    if far := _leap(name, signal, agent.incarnation, 0 if is_beginning else agent.seq):
        return _refuse(event, "LEAP", far)
    if is_beginning:
        kept_out = liveness.refusal(event.session, name, agent)
        return not kept_out or _refuse(event, "BREAKER", kept_out)
    if agent.status in ENDED:
        how = "was declared dead" if agent.status is AgentStatus.DEAD else f"has {agent.status}"
        return _refuse(
            event,
            "ENDED",
            f"{name} {how} as incarnation {agent.incarnation}: "
            f"it must send STARTED with a higher incarnation before anything else",
        )
    is_limited = event.rules.signals_per_second_max and signal.type not in PARTING
    return not is_limited or _is_in_rate(event, agent)


def _refuse_second(event: SignalEvent, agent: AgentRecord) -> bool:
    """Refuse a signal of a second process under the agent's name."""
    event.session.log += 1
    notice = identity.refusal(event, agent)
    event.refuse(notice.code, notice.reason)
    if event.signal.type is SignalType.STARTED:
        agent.told_ms = 0  # told at any rate: it must not believe that it has started
    tell_refusal(event, event.name, notice)
    return False


def _leap(name: str, signal: Signal, incarnation: int, seq: int) -> str:
    """Say which number of a signal is too far above the last one heard; "" when none is."""
    if signal.incarnation > incarnation + INCARNATIONS_SKIPPED_MAX + 1:
        found = f"incarnation {signal.incarnation} of {name}: the last one heard is {incarnation}"
        return f"{found}, and at most {INCARNATIONS_SKIPPED_MAX} may be skipped"
    if signal.seq > seq + SEQUENCE_SKIPPED_MAX + 1:
        found = f"signal {signal.seq} of {name}: the last number heard is {seq}"
        return f"{found}, and at most {SEQUENCE_SKIPPED_MAX} may be skipped"
    return ""


def _tell_skipped(event: SignalEvent, agent: AgentRecord, incarnation: int) -> None:
    """Tell an agent that the fabric has not heard the numbers before this signal's.

    Someone else may have spoken in its name: then its own next signals would count as repeats.
    """
    signal, name = event.signal, event.name
    parts = []
    if agent.incarnation > incarnation + 1:
        parts.append(f"incarnation {agent.incarnation} of {name} follows {incarnation}")
    if signal.seq > agent.seq + 1:
        parts.append(f"signal {signal.seq} of {name} follows {agent.seq}")
        missing = (agent.seq + 1, signal.seq - 1)
        agent.skipped = [*agent.skipped[1 - SKIPPED_RANGES_MAX :], missing]
    reason = f"{' and '.join(parts)}: none between was accepted, and none will be"
    skipped = Notice(
        "SKIPPED", reason, seq=signal.seq, incarnation=agent.incarnation, after=agent.seq
    )
    event.direct(name, skipped)


def _is_storm(event: SignalEvent, agent: AgentRecord, now_ms: int) -> bool:
    """Refuse a signal of an agent that is storming: refused for its rate in this second already.

    Only `dead` has it: the log and the records stay as they are, so that a storm costs little.
    """
    signal, limit = event.signal, event.rules.signals_per_second_max
    if not (agent.second_signals > limit > 0) or signal.type in PARTING:
        return False
    if max(now_ms, event.session.clock_ms) // 1000 != agent.second or agent.status in ENDED:
        return False
    if signal.incarnation not in (0, agent.incarnation):
        return False
    if signal.seq > agent.seq + SEQUENCE_SKIPPED_MAX // 2:
        return False  # refused with a trace now and then: the next second goes on from its number
    reason = f"{event.name} sends more than {limit} signals a second"
    event.decision = Decision(Outcome.DROPPED, code="RATE", reason=reason)
    return True


def _make_room(event: SignalEvent) -> bool:
    """Let agents go that have ended, or have sent one signal and left nothing; oldest first.

    Names cost nothing, so a sender of thousands could keep all others out. A HEARTBEAT makes no
    room: an agent begins by saying something. Several go at once, so that few look for them.
    """
    session = event.session
    if event.signal.type is SignalType.HEARTBEAT or session.full_log == session.log:
        return False
    records = session.agents.records
    idle = [name for name, agent in records.items() if _is_idle(agent)]
    idle.sort(key=lambda name: (_worth(records[name]), records[name].seen_ms, name))
    # Those that nobody has named either: a question, a barrier or a wait may need the record.
    needed = _needed(session) if idle else set()
    gone = [name for name in idle if name not in needed]
    for name in gone[: max(1, event.rules.agents_max // 100)]:
        agent = records[name]
        if agent.status not in ENDED:
            lifecycle.end(event, name, agent)
            agent.error = "it made room for other agents"
            event.dismiss(name, agent)
            event.set_timer(f"{SILENCE_TIMER}:{name}", None)
            if agent.seq:
                run.retire(session, name, agent.incarnation, agent.seq)
        else:
            run.retire(session, name, agent.incarnation)
        session.agents.drop(name)
    if not gone:
        session.full_log = session.log
    return bool(gone)


def _refuse_newcomer(event: SignalEvent) -> bool:
    """Refuse an agent too many; if no other can make room, that still holds after the refusal."""
    session, limit = event.session, event.rules.agents_max
    is_known_full = session.full_log == session.log
    reason = f"session {session.name} would have {len(session.agents) + 1} agents"
    _refuse(event, "LIMIT", f"{reason}; the limit is {limit}")
    session.full_log = session.log if is_known_full else -1
    return False


def _worth(agent: AgentRecord) -> int:
    """Rank an idle agent: first those go that have ended, last those that have said more."""
    return 0 if agent.status in ENDED else min(agent.signals, 2)


def _is_idle(agent: AgentRecord) -> bool:
    """Whether nothing is lost with an agent's record."""
    if agent.breaker or agent.claims or agent.asks or agent.waits_for or agent.offers:
        return False
    if agent.status in ENDED:
        return True
    declared = agent.task or agent.produces or agent.reads or agent.writes or agent.parallel_group
    return not declared


def _needed(session: SessionState) -> set[str]:
    """Name the agents that barriers and open questions name."""
    found: set[str] = set()
    for barrier in session.barriers.records.values():
        if barrier.state is not BarrierState.OVER:
            found.update((barrier.leader, *barrier.held, *barrier.arrived))
    for asked in session.escalations.records.values():
        if asked.is_open:
            # Not its asker: one that waits for the answer is not idle.
            found.update((asked.to, asked.about, *asked.waiting))
    return found


def _is_in_rate(event: SignalEvent, agent: AgentRecord) -> bool:
    """Count the agent's signals of this second; refuse those over its limit."""
    if agent.signals < UNCOUNTED_MAX <= event.rules.signals_per_second_max:
        return True
    second = event.session.clock_ms // 1000
    agent.second_signals = agent.second_signals + 1 if agent.second == second else 1
    agent.second = second
    event.session.agents.put(event.name, agent)
    limit = event.rules.signals_per_second_max
    agent.is_storming = agent.second_signals > limit
    if not agent.is_storming:
        return True
    if event.signal.seq > agent.seq:
        _note_number(agent, event.signal)
    return _refuse(event, "RATE", f"{event.name} sends more than {limit} signals a second")


def _is_repeated(agent: AgentRecord, signal: Signal) -> bool:
    """Recognise a retry by incarnation and sequence number."""
    if not signal.seq or signal.seq > agent.seq or _is_restart(agent, signal):
        return False
    return signal.incarnation in (0, agent.incarnation)


def _is_retry(agent: AgentRecord, signal: Signal) -> bool:
    """Whether a signal is the very one that was heard before under its number."""
    return _is_repeated(agent, signal) and not _why_no_repeat(agent, signal)


def _why_no_repeat(agent: AgentRecord, signal: Signal) -> tuple[str, str] | None:
    """Return code and reason when a signal has a number of the past and is no repeat."""
    seq, name = signal.seq, signal.emitter
    if any(first <= seq <= last for first, last in agent.skipped):
        return "SKIPPED", f"signal {seq} of {name} comes too late: {agent.seq} was heard before it"
    if seq == agent.seq and agent.mark and agent.mark != _mark(signal):
        reason = f"signal {seq} of {name} was heard before with other content: someone else may"
        return "REUSED", f"{reason} speak in its name, or two processes share it"
    return None


def _mark(signal: Signal) -> int:
    """Return a checksum of what a signal says: two different ones hardly ever share it."""
    return crc32(signal.raw, _MARK_SEEDS[type(signal.payload)])


def _note_number(agent: AgentRecord, signal: Signal) -> None:
    """Keep the number of a signal, and what it stands for."""
    if signal.seq:
        agent.seq, agent.mark = signal.seq, _mark(signal)


def _is_restart(agent: AgentRecord, signal: Signal) -> bool:
    """Whether an agent starts again without a number: it has ended, or is taken over."""
    if signal.type is not SignalType.STARTED or signal.incarnation:
        return False
    is_other = signal.instance and agent.instance and signal.instance != agent.instance
    return agent.status in ENDED or bool(is_other)


def _refuse(event: SignalEvent, code: str, reason: str) -> bool:
    """Refuse the signal and return False; the refusal takes a log number like any other event."""
    event.session.log += 1
    event.refuse(code, reason)
    tell_refusal(event, event.name, refusal_notice(event.signal, code, reason))
    return False


def refusal_notice(signal: Signal, code: str, reason: str) -> Notice:
    """Return the NOTICE that says which signal was refused, and why."""
    return Notice(code, reason, signal.type.value, signal.seq, signal.incarnation)


def tell_refusal(event: Event, name: str, notice: Notice) -> None:
    """Tell an agent of a refusal, if it was not told of one just now."""
    agent = event.session.agents.get(name)
    now_ms = event.session.clock_ms
    if agent is not None and now_ms - agent.told_ms >= NOTICE_PAUSE_MS:
        agent.told_ms = now_ms
        event.session.agents.put(name, agent)
        event.direct(name, notice)
