"""`fabric status`: what holds a session up stands in its tables, or below them."""

from fabric.core.record import (
    AgentRecord,
    AgentStatus,
    EscalationRecord,
    EscalationState,
    LeftRecord,
)
from fabric.view.status import session_lines

#: What the server's clock shows.
NOW_MS = 1_700_000_000_000


def lines_of(
    agents: dict[str, AgentRecord], questions: dict[str, EscalationRecord] | None = None
) -> list[str]:
    return session_lines("s", NOW_MS, agents, {}, [], {}, {}, questions or {}, {})


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


def test_what_agents_left_unfinished() -> None:
    agent = AgentRecord(AgentStatus.FAILED, 1, left={"a.py": LeftRecord("failed", 60_000)})
    lines = session_lines("s", 90_000, {"A": agent}, {}, [], {}, {}, {}, {})
    at = next(number for number, line in enumerate(lines) if line == "Unfinished")
    assert lines[at + 1].split() == ["RESOURCE", "LEFT", "BY", "WHICH", "SINCE"]
    assert lines[at + 2].split() == ["a.py", "A", "failed", "30", "s", "ago"]


def test_hosts_are_named_where_there_are_several() -> None:
    agents = {
        "A": AgentRecord(AgentStatus.ACTIVE, 1, instance="build-7/431/12-99-1"),
        "B": AgentRecord(AgentStatus.ACTIVE, 1, instance="mine", workspace="build-8:/src/shop"),
        "C": AgentRecord(AgentStatus.ACTIVE, 1, instance="mine"),
    }
    _, header, *rows = lines_of(agents)
    assert header.split()[-1] == "HOST"
    assert [row.split()[-1] for row in rows[:2]] == ["build-7", "build-8"]
    assert "HOST" not in "".join(lines_of({"A": agents["A"], "C": agents["C"]}))


def test_unread_messages_by_age() -> None:
    rows = [("A", "100 or more", "PAUSE", NOW_MS - 90_000), ("B", "1", "NUDGE", NOW_MS - 5_000)]
    lines = session_lines("s", NOW_MS, {}, {}, [], {}, {}, {}, {}, {}, rows)
    assert lines[0] == "Unread messages"
    assert [line.split() for line in lines[2:]][-2:] == [
        ["A", "100", "or", "more", "PAUSE", "90", "s", "ago"],
        ["B", "1", "NUDGE", "5", "s", "ago"],
    ]
