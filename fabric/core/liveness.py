"""Silence, judged against the agent's own rhythm.

An agent that has sent nothing for several times its median interval is declared dead; never before
`silence_ms_min`, always after `silence_ms_max`. An agent that waits is not expected to send
anything, and one that has sent little has no rhythm yet: for them only the upper bound counts. One
timer per agent looks again when silence could first have lasted too long, so a signal costs no
timer of its own.
"""

from __future__ import annotations

from fabric.core.directive import Cancel
from fabric.core.escalation import SILENCE, ask, new_question
from fabric.core.event import Event
from fabric.core.lifecycle import end
from fabric.core.limits import RHYTHM_INTERVALS_MIN
from fabric.core.record import ENDED, AgentRecord, AgentStatus, EscalationRecord
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import Failed

#: The timer's key is `silence:<agent>`.
TIMER = "silence"

#: Answers to the question whether an agent that keeps dying may start again.
START, KEEP_OUT = "start", "keep out"


def watch(event: Event, name: str, agent: AgentRecord) -> None:
    """Set the timer of an agent that begins: it may have a rhythm by the time of the first look."""
    first_ms = min(limit_ms(agent, event.rules), event.rules.silence_ms_min)
    event.set_timer(f"{TIMER}:{name}", event.session.clock_ms + first_ms)


def limit_ms(agent: AgentRecord, rules: Rules) -> int:
    """Return how long an agent may be silent, by its status and rhythm now."""
    if agent.status is not AgentStatus.ACTIVE or len(agent.intervals) < RHYTHM_INTERVALS_MIN:
        return rules.silence_ms_max
    median_ms = sorted(agent.intervals)[len(agent.intervals) // 2]
    expected_ms = rules.silence_factor * median_ms
    return max(rules.silence_ms_min, min(expected_ms, rules.silence_ms_max))


def silent_since_ms(agent: AgentRecord) -> int:
    """Return the time from which an agent's silence counts, ms."""
    return max(agent.seen_ms, agent.resumed_ms, agent.quiet_until_ms)


def excuse(session: SessionState, outage_ms: int) -> None:
    """Move the time of each living agent's last signal by the length of an outage."""
    for name, agent in session.agents.records.items():
        if agent.status in ENDED:
            continue
        # Never beyond now: its next interval would be negative.
        agent.seen_ms = min(agent.seen_ms + outage_ms, session.clock_ms)
        if agent.quiet_until_ms:
            agent.quiet_until_ms += outage_ms
        if agent.resumed_ms:
            agent.resumed_ms = min(agent.resumed_ms + outage_ms, session.clock_ms)
        session.agents.put(name, agent)


def check_silence(event: Event, name: str) -> bool:
    """Declare an agent dead that has been silent for too long; look again later at any other."""
    session, rules = event.session, event.rules
    agent = session.agents.get(name)
    if agent is None or agent.status in ENDED:
        return False
    due_ms = silent_since_ms(agent) + limit_ms(agent, rules)
    if due_ms > session.clock_ms:
        # By then it may have a rhythm, or wait no more: its limit can only have become shorter.
        look_ms = min(due_ms, session.clock_ms + rules.silence_ms_min)
        return event.postpone(f"{TIMER}:{name}", look_ms)
    _declare_dead(event, name, agent)
    return True


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


def _death_count(name: str, agent: AgentRecord) -> str:
    return f"{name} was declared dead for its silence {agent.silent_deaths} times in a row"


def _declare_dead(event: Event, name: str, agent: AgentRecord) -> None:
    session = event.session
    silent_s = (session.clock_ms - agent.seen_ms) / 1000
    agent.status = AgentStatus.DEAD
    agent.error = f"silent for {silent_s:.0f} s"
    agent.silent_deaths += 1
    agent.eta_ms = None
    event.report_death(name)
    failed = Failed(agent.error, retryable=True)
    event.derive("", failed, sender=name, stream=agent.stream)
    agent.lost, waited = end(event, name, agent, failed)
    session.agents.put(name, agent)
    if agent.silent_deaths >= event.rules.silent_deaths_max:
        text = f"{_death_count(name, agent)}. May it start again?"
        question = new_question(session, SILENCE, text, [START, KEEP_OUT], about=name)
        agent.breaker = ask(event, question, told=[])
    reason = f"{name} was declared dead: {agent.error}; start again with a new incarnation"
    taken = Cancel(reason, "DEAD", incarnation=agent.incarnation, held=agent.lost, waited=waited)
    event.direct(name, taken)
