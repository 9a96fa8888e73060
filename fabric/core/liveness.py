"""Which agents count as dead: those that are silent, against their own rhythm, and alone in it.

An agent that has sent nothing for several times its median interval is declared dead; never before
`silence_ms_min`, always after `silence_ms_max`. An agent that waits is not expected to send
anything, and one that has sent little has no rhythm yet: for them only the upper bound counts. One
timer per agent looks again when silence could first have lasted too long, so a signal costs no
timer of its own.

Many that fall silent together are probably cut off, by the network or with their host. They are
counted in their session, and again together with those of the partition's other sessions: many
sessions of one agent each can be on one host. Kubernetes slows its evictions in that case; so does
this module ("Rate limits on eviction", its docs on nodes):

    an agent is silent for too long        as many are silent              else
    no question is open                    ask a person; nobody dies       it is declared dead
    the question is open                   nobody dies, but one of those   closed; the silent have
                                           that others need, at a pace     their whole limit again
    answer "give up"                       those silent then are declared dead, as their limit ends
    answer "wait"                          for silence_ms_max nobody dies who was silent then

Each session asks its own question, and gives up at its own pace: what its agents need is in it.
Other sessions are not part of its log. So the worker counts their agents for a timer that needs
that (`peers_needed`), and writes the counts into the timer's log entry.

An agent that sends HEARTBEAT and nothing else, while others wait for it, is *wedged*: it gets a
NUDGE, and after as long again a person is asked whether to give it up.
"""

from __future__ import annotations

from typing import NamedTuple

from fabric.core import board, quota, wait_graph
from fabric.core.directive import Cancel, Nudge
from fabric.core.escalation import (
    MASS_SILENCE,
    SILENCE,
    WEDGED,
    ask,
    close_own,
    new_question,
)
from fabric.core.event import SILENCE_TIMER, Event, Peers, TimerEvent
from fabric.core.lifecycle import end
from fabric.core.limits import NAMES_SHOWN_MAX, RHYTHM_INTERVALS_MIN, listed
from fabric.core.record import ENDED, AgentRecord, AgentStatus, EscalationRecord
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import Failed
from fabric.core.task import TaskStatus

#: Beside `silence:<agent>`: while many are silent there is the timer `mass_silence:<question>`.
MASS_TIMER = "mass_silence"

#: Fewer silent agents than this are ordinary deaths, however few there are at all: of two agents,
#: one or both end without a word all the time.
MASS_AGENTS_MIN = 3

#: Answers to the question whether an agent that keeps dying may start again.
START, KEEP_OUT = "start", "keep out"

#: Answers to the question whether agents that are silent, or one without progress, are given up.
WAIT, GIVE_UP = "wait", "give up"

#: What to free first, if agents that others need are given up one by one: what one may wait for.
_URGENCY = (wait_graph.LOCK, wait_graph.DEPENDENCY, wait_graph.BARRIER, wait_graph.QUESTION)


def watch(event: Event, name: str, agent: AgentRecord) -> None:
    """Set the timer of an agent that begins: it may have a rhythm by the time of the first look."""
    first_ms = min(limit_ms(agent, event.rules), event.rules.silence_ms_min)
    event.set_timer(f"{SILENCE_TIMER}:{name}", event.session.clock_ms + first_ms)


def limit_ms(agent: AgentRecord, rules: Rules) -> int:
    """Return how long an agent may be silent, by its status and rhythm now."""
    if agent.status is not AgentStatus.ACTIVE:
        return rules.silence_ms_max
    return _by_rhythm_ms(agent, rules, RHYTHM_INTERVALS_MIN)


def silent_since_ms(session: SessionState | None, agent: AgentRecord) -> int:
    """Return the time from which an agent's silence counts, ms.

    The end of a wait excuses an agent that need not send anything meanwhile, no other: else what
    several have that were cut off together would go from one to the next, for a whole limit each.
    """
    excused_ms = agent.spared_ms if agent.heartbeat_ms else max(agent.resumed_ms, agent.spared_ms)
    return max(agent.seen_ms, excused_ms, agent.quiet_until_ms, quota.end_ms(session, agent))


def excuse(session: SessionState, outage_ms: int) -> None:
    """Move the time of each living agent's last signal by the length of an outage."""
    now_ms = session.clock_ms
    for name, agent in session.agents.records.items():
        if agent.status in ENDED:
            continue
        # Never beyond now: its next interval would be negative.
        agent.seen_ms = min(agent.seen_ms + outage_ms, now_ms)
        if agent.quiet_until_ms:
            agent.quiet_until_ms += outage_ms
        if agent.resumed_ms:
            agent.resumed_ms = min(agent.resumed_ms + outage_ms, now_ms)
        if agent.spared_ms:
            agent.spared_ms = min(agent.spared_ms + outage_ms, now_ms)
        if agent.idle_since_ms:
            agent.idle_since_ms = min(agent.idle_since_ms + outage_ms, now_ms)
        if agent.nudged_ms:
            agent.nudged_ms = min(agent.nudged_ms + outage_ms, now_ms)
        for order in agent.orders:
            order.since_ms = min(order.since_ms + outage_ms, now_ms)
            order.allowed_ms = order.allowed_ms and min(order.allowed_ms + outage_ms, now_ms)
        session.agents.put(name, agent)


def check_silence(event: TimerEvent, name: str) -> bool:
    """Declare an agent dead that has been silent for too long; look again later at any other."""
    session, rules = event.session, event.rules
    agent = session.agents.get(name)
    if agent is None or agent.status in ENDED:
        return False
    now_ms = session.clock_ms
    due_ms = silent_since_ms(session, agent) + limit_ms(agent, rules)
    # By then it may have a rhythm, or wait no more: its limit can only have become shorter.
    look_ms = now_ms + rules.silence_ms_min
    if due_ms > now_ms:
        is_event = _check_progress(event, name, agent)
        look_ms = min(due_ms, look_ms, _progress_due_ms(agent, rules, now_ms) or look_ms)
    elif is_spared(session, agent, rules):
        is_event = False
    elif _is_given_up(session, agent, rules) or not _ask_about_mass(event):
        _declare_silent(event, name, agent)
        return True
    else:
        is_event = True
    if not is_event:
        return event.postpone(f"{SILENCE_TIMER}:{name}", look_ms)
    event.set_timer(f"{SILENCE_TIMER}:{name}", look_ms)
    return True


def check_task(event: Event, name: str) -> bool:
    """Take a task from an agent that lives, and has made no progress for longer than usual.

    An agent that waits, or has announced a silence, need not make any.
    """
    session, rules = event.session, event.rules
    task = session.tasks.get(name)
    if task is None or task.status is not TaskStatus.IN_PROGRESS:
        return False
    agent, most_ms = session.agents.records[task.agent], board.progress_limit_ms(task, rules)
    if most_ms is None:
        return False
    now_ms, timer = session.clock_ms, f"{board.TIMER}:{name}"
    if agent.status is not AgentStatus.ACTIVE:
        return event.postpone(timer, now_ms + rules.progress_ms_min)
    since_ms = max(task.progressed_ms, agent.resumed_ms, agent.spared_ms, agent.quiet_until_ms)
    if since_ms + most_ms > now_ms:
        # By then its pace may be another.
        return event.postpone(timer, min(since_ms + most_ms, now_ms + rules.progress_ms_min))
    idle_s, silent_s = (now_ms - since_ms) / 1000, (now_ms - agent.seen_ms) / 1000
    reason = (
        f"{task.agent} has made no progress on {name} for {idle_s:.0f} s, and the limit is "
        f"{most_ms / 1000:.0f} s; it was heard {silent_s:.0f} s ago, and the limit of its silence "
        f"is {limit_ms(agent, rules) / 1000:.0f} s"
    )
    board.time_out(event, name, task, reason)
    return True


def check_mass_silence(event: TimerEvent, question_id: str) -> bool:
    """While many are silent, give up one that others need; close the question once few are."""
    session, rules = event.session, event.rules
    asked = session.escalations.get(question_id)
    if asked is None or not asked.is_open:
        return False
    found = _survey(session, rules, asked.asked_ms)
    # Without a least number once peers were silent too: they may have been given up meanwhile.
    least = 1 if asked.peers else MASS_AGENTS_MIN
    if not _is_mass(found, asked.given_up, rules, event.peers, least):
        close_own(event, question_id, "enough agents are heard again")
        for name in found.silent:
            # The others may be about to come back too.
            agent = session.agents.records[name]
            agent.spared_ms = session.clock_ms
            session.agents.put(name, agent)
        return True
    look_ms = session.clock_ms + rules.silence_ms_min
    needed = _most_needed(session, rules, found.silent)
    if needed is None:
        return event.postpone(f"{MASS_TIMER}:{question_id}", look_ms)
    asked.given_up += 1
    session.escalations.put(question_id, asked)
    event.set_timer(f"{MASS_TIMER}:{question_id}", look_ms)
    _declare_silent(event, needed, session.agents.records[needed])
    return True


def apply_mass_answer(event: Event, asked: EscalationRecord) -> None:
    """Look at once at those that a person has given up."""
    if asked.decision == GIVE_UP:
        session = event.session
        for name in _survey(session, event.rules, session.clock_ms).silent:
            event.set_timer(f"{SILENCE_TIMER}:{name}", session.clock_ms)


def note_progress(event: Event, agent: AgentRecord) -> None:
    """An agent has sent something else than HEARTBEAT: it is not wedged."""
    agent.idle_since_ms = agent.nudged_ms = 0
    if agent.wedged:
        close_own(event, agent.wedged, "it has gone on")
        agent.wedged = ""


def apply_wedged_answer(event: Event, asked: EscalationRecord) -> None:
    """Give up an agent that lives without progress, or ask again after as long again."""
    session, name = event.session, asked.about
    agent = session.agents.get(name)
    if agent is None or not agent.wedged:
        return
    agent.wedged = ""
    if asked.decision == GIVE_UP:
        declare_dead(event, name, agent, f"given up by {asked.by}: {_idle(session, agent)}")
    else:
        agent.nudged_ms = session.clock_ms
        session.agents.put(name, agent)


def refusal(session: SessionState, name: str, agent: AgentRecord) -> str:
    """Say why an agent may not start again; "" when it may."""
    question = session.escalations.get(agent.breaker)
    if question is not None and question.is_open:
        return f"{_death_count(name, agent)}: decide question {agent.breaker} first"
    if question is not None and question.decision == KEEP_OUT:
        return f"{question.by} has decided in {agent.breaker} to keep {name} out"
    return ""


def allow_start(event: Event, asked: EscalationRecord) -> None:
    """Let an agent that kept dying start again, as a person has decided."""
    agent = event.session.agents.get(asked.about)
    if agent is not None and asked.decision != KEEP_OUT:
        agent.breaker = ""
        agent.silent_deaths = 0
        event.session.agents.put(asked.about, agent)


class Since(NamedTuple):
    """From when on agents of other sessions count: as silent, by their last signal; as heard."""

    silent_ms: int
    heard_ms: int


def peers_needed(session: SessionState, timer: str, rules: Rules, now_ms: int) -> Since | None:
    """Say which agents of other sessions count for a timer; None if it gives nobody up.

    Agents that were lost long before, and that nobody has given up since, are no part of what is
    going on now.
    """
    kind, _, subject = timer.partition(":")
    if kind == SILENCE_TIMER:
        agent = session.agents.get(subject)
        if agent is None or agent.status in ENDED:
            return None
        if silent_since_ms(session, agent) + limit_ms(agent, rules) > now_ms:
            return None
        silent_ms, until_ms = agent.seen_ms - rules.silence_ms_max, now_ms
    elif kind == MASS_TIMER:
        asked = session.escalations.get(subject)
        if asked is None or not asked.is_open:
            return None
        silent_ms, until_ms = asked.asked_ms - 2 * rules.silence_ms_max, asked.asked_ms
    else:
        return None
    return Since(silent_ms, until_ms - rules.silence_ms_min // 2)


class _Survey(NamedTuple):
    """The agents of a session that are silent, how many were heard, and how many are at work."""

    silent: list[str]
    heard: int
    at_work: int


def _survey(session: SessionState, rules: Rules, until_ms: int) -> _Survey:
    """Name the agents that are silent for over half of what is usual for them.

    Of the others those count as heard that have sent something since shortly before `until_ms`. An
    agent that is neither, because it waits say, tells nothing about the network.
    """
    silent: list[str] = []
    heard = at_work = 0
    since_ms = until_ms - rules.silence_ms_min // 2
    for name, agent in session.agents.records.items():
        if agent.status in ENDED:
            continue
        at_work += 1
        if is_silent(session, agent, rules, session.clock_ms):
            silent.append(name)
        elif agent.seen_ms > since_ms:
            heard += 1
    return _Survey(silent, heard, at_work)


def is_silent(session: SessionState | None, agent: AgentRecord, rules: Rules, now_ms: int) -> bool:
    """Whether an agent at work has been silent for over half of what is usual for it."""
    # The end of a wait excuses an agent that sent nothing; not one that sent heartbeats.
    heartbeats = agent.idle_since_ms > 0
    last_ms = max(agent.seen_ms, agent.quiet_until_ms, quota.end_ms(session, agent))
    silent_ms = 2 * (now_ms - (last_ms if heartbeats else silent_since_ms(session, agent)))
    return silent_ms >= rules.silence_ms_min and silent_ms >= _usual_ms(agent, rules)


def _usual_ms(agent: AgentRecord, rules: Rules) -> int:
    """Return how long an agent would be silent at most if all was well."""
    if agent.idle_since_ms:  # it sends heartbeats, while it waits too
        return _by_rhythm_ms(agent, rules, 1)
    if agent.status is AgentStatus.ACTIVE:
        return limit_ms(agent, rules)
    # Nothing is expected of an agent that waits, unless it is about to be declared dead as well.
    return 2 * (rules.silence_ms_max - rules.silence_ms_min)


def _by_rhythm_ms(agent: AgentRecord, rules: Rules, intervals_min: int) -> int:
    if len(agent.intervals) < intervals_min:
        return rules.silence_ms_max
    median_ms = sorted(agent.intervals)[len(agent.intervals) // 2]
    expected_ms = rules.silence_factor * median_ms
    return max(rules.silence_ms_min, min(expected_ms, rules.silence_ms_max))


def _is_mass(found: _Survey, given_up: int, rules: Rules, peers: Peers, least: int) -> bool:
    """Whether so many are silent that the network or their host is the likely cause."""
    count, share = len(found.silent) + given_up, rules.mass_silence_percent
    is_alone = count >= MASS_AGENTS_MIN and 100 * count >= share * (count + found.heard)
    both = count + peers.silent
    all_known = both + found.heard + peers.heard
    is_together = both >= least and 100 * both >= share * all_known
    return bool(share and found.silent) and (is_alone or is_together)


def _ask_about_mass(event: TimerEvent) -> bool:
    """Ask a person if many have fallen silent together; False if they have not."""
    session, rules, peers = event.session, event.rules, event.peers
    found = _survey(session, rules, session.clock_ms)
    if not _is_mass(found, 0, rules, peers, MASS_AGENTS_MIN):
        return False
    text = (
        f"{len(found.silent)} of {found.at_work} agents at work have been silent for about as "
        f"long: {listed(sorted(found.silent))}. "
    )
    if peers.silent:
        text += f"In other sessions about {peers.silent} are silent too and {peers.heard} heard. "
    text += "The network or their host may be down. Wait for them, or give them up?"
    question = new_question(session, MASS_SILENCE, text, [WAIT, GIVE_UP])
    question.peers = peers.silent
    question_id = ask(event, question, told=[])
    event.set_timer(f"{MASS_TIMER}:{question_id}", session.clock_ms + rules.silence_ms_min)
    return True


def is_spared(session: SessionState, agent: AgentRecord, rules: Rules) -> bool:
    """Whether the question about many keeps a silent agent from being declared dead."""
    asked = session.escalations.get(session.mass_silence)
    if asked is None or asked.is_open:
        return asked is not None
    is_over = session.clock_ms >= asked.decided_ms + rules.silence_ms_max
    return asked.decision == WAIT and _is_meant(session, asked, agent, rules) and not is_over


def _is_given_up(session: SessionState, agent: AgentRecord, rules: Rules) -> bool:
    """Whether a person has decided to give up the agents that were silent, and it was."""
    asked = session.escalations.get(session.mass_silence)
    return (
        asked is not None and asked.decision == GIVE_UP and _is_meant(session, asked, agent, rules)
    )


def _is_meant(
    session: SessionState, asked: EscalationRecord, agent: AgentRecord, rules: Rules
) -> bool:
    """Whether an agent was silent when a question about many was decided."""
    return silent_since_ms(session, agent) + rules.silence_ms_min // 2 <= asked.decided_ms


def _most_needed(session: SessionState, rules: Rules, silent: list[str]) -> str | None:
    """Name the agent past its limit that agents which are heard need most; None without one."""
    found: list[tuple[int, int, str]] = []
    lost = set(silent)
    for name in silent:
        agent = session.agents.records[name]
        if silent_since_ms(session, agent) + limit_ms(agent, rules) > session.clock_ms:
            continue
        for need in wait_graph.needs(session, name):
            waiting = sum(one not in lost for one in need.waiting)
            if waiting:
                found.append((_URGENCY.index(need.kind), -waiting, name))
    return min(found)[2] if found else None


def idle_from_ms(agent: AgentRecord) -> int:
    """Return the time from which an agent has been at work without progress, ms."""
    last_ms = agent.idle_since_ms or agent.seen_ms
    return max(last_ms, agent.resumed_ms, agent.spared_ms, agent.quiet_until_ms)


def _progress_due_ms(agent: AgentRecord, rules: Rules, now_ms: int) -> int | None:
    """Return when an agent could next be nudged, or a person be asked; None if not later."""
    due_ms = (agent.nudged_ms or idle_from_ms(agent)) + rules.wedged_ms_max
    return due_ms if rules.wedged_ms_max and due_ms > now_ms else None


def _check_progress(event: Event, name: str, agent: AgentRecord) -> bool:
    """Nudge an agent that is wedged, and ask about it later. Returns whether it did anything."""
    session, most_ms = event.session, event.rules.wedged_ms_max
    is_idle = most_ms and agent.idle_since_ms and agent.status is AgentStatus.ACTIVE
    is_long = is_idle and idle_from_ms(agent) + most_ms <= session.clock_ms
    needs = wait_graph.needs(session, name) if is_long else []
    if not needs:
        was_nudged = bool(agent.nudged_ms)
        if was_nudged:
            close_own(event, agent.wedged, "nobody waits for it any more")
            agent.wedged, agent.nudged_ms = "", 0
            session.agents.put(name, agent)
        return was_nudged
    if not agent.nudged_ms:
        agent.nudged_ms = session.clock_ms
        for need in needs[:NAMES_SHOWN_MAX]:
            event.direct(name, Nudge(need.on, list(need.waiting)))
    elif not agent.wedged and agent.nudged_ms + most_ms <= session.clock_ms:
        waits = [f"{listed(list(need.waiting))} for {need.on}" for need in needs]
        text = f"{name} lives, but {_idle(session, agent)}. Waiting: {listed(waits)}."
        text += f" Wait for {name} too, or give it up?"
        question = new_question(session, WEDGED, text, [WAIT, GIVE_UP], about=name)
        agent.wedged = ask(event, question, told=[])
    else:
        return False
    session.agents.put(name, agent)
    return True


def _idle(session: SessionState, agent: AgentRecord) -> str:
    idle_s = (session.clock_ms - idle_from_ms(agent)) / 1000
    return f"it has sent nothing but heartbeats for {idle_s:.0f} s"


def _death_count(name: str, agent: AgentRecord) -> str:
    return f"{name} was declared dead for its silence {agent.silent_deaths} times in a row"


def _declare_silent(event: Event, name: str, agent: AgentRecord) -> None:
    """Declare an agent dead for its silence; after several such deaths, ask about the next."""
    agent.silent_deaths += 1
    silent_s = (event.session.clock_ms - agent.seen_ms) / 1000
    is_last = agent.silent_deaths >= event.rules.silent_deaths_max
    declare_dead(event, name, agent, f"silent for {silent_s:.0f} s", is_last=is_last)


def declare_dead(
    event: Event, name: str, agent: AgentRecord, error: str, *, is_last: bool = False
) -> None:
    """End an agent and tell it; `is_last`: a person decides whether it may start again."""
    session = event.session
    agent.status = AgentStatus.DEAD
    agent.error = error
    agent.eta_ms = None
    event.report_death(name)
    failed = Failed(agent.error, retryable=True)
    event.derive("", failed, sender=name, stream=agent.stream)
    agent.lost, waited = end(event, name, agent, failed)
    session.agents.put(name, agent)
    if is_last:
        text = f"{_death_count(name, agent)}. May it start again?"
        question = new_question(session, SILENCE, text, [START, KEEP_OUT], about=name)
        agent.breaker = ask(event, question, told=[])
    reason = f"{name} was declared dead: {agent.error}; start again with a new incarnation"
    taken = Cancel(reason, "DEAD", incarnation=agent.incarnation, held=agent.lost, waited=waited)
    event.direct(name, taken)
