"""`fabric status`: what holds a session up stands in its tables, or below them."""

from fabric.core.record import AgentRecord, AgentStatus, EscalationRecord, EscalationState
from fabric.view.status import session_lines

#: What the server's clock shows.
NOW_MS = 1_700_000_000_000


def lines_of(
    agents: dict[str, AgentRecord], questions: dict[str, EscalationRecord] | None = None
) -> list[str]:
    return session_lines("s", NOW_MS, agents, {}, {}, {}, {}, questions or {})


def test_an_agent_that_sends_only_heartbeats_while_others_wait() -> None:
    agent = AgentRecord(AgentStatus.ACTIVE, 1, seen_ms=NOW_MS - 5_000)
    agent.idle_since_ms = NOW_MS - 20 * 60_000
    assert lines_of({"A": agent})[-1].endswith("5 s ago")
    agent.nudged_ms = NOW_MS - 60_000
    assert lines_of({"A": agent})[-1].endswith("5 s ago, only heartbeats for 20 min")
    agent.status = AgentStatus.COMPLETED
    assert lines_of({"A": agent})[-1].endswith("5 s ago")


def test_a_question_about_many_silent_agents_is_told_in_full() -> None:
    text = "4 of 5 agents at work have been silent for about as long"
    many = EscalationRecord(EscalationState.OPEN, text, "", subject="mass_silence")
    other = EscalationRecord(EscalationState.OPEN, "which port?", "A")
    assert lines_of({}, {"9-1": many, "3-0": other}) == [
        text,
        "2 open questions: fabric escalations s",
    ]
    many.state = EscalationState.DECIDED
    assert lines_of({}, {"9-1": many, "3-0": other}) == ["1 open question: fabric escalations s"]
