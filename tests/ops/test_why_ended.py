"""`fabric why` of agents that have ended, have started again, or are refused."""

import pytest

from fabric.core.record import AgentStatus
from fabric.core.rules import Rules
from tests.ops.logged_session import LoggedSession


@pytest.fixture
def died() -> LoggedSession:
    """A was declared dead while it had a file that B waits for."""
    told = LoggedSession(Rules(silence_ms_min=1_000, silence_ms_max=30_000, silent_deaths_max=2))
    told.say("A", "STARTED", {"task": "t"}, incarnation=1, seq=1)
    told.say("B", "STARTED")
    told.say("A", "INTENT", {"writes": ["a.py"]}, seq=2)
    told.at(5)
    told.say("B", "INTENT", {"writes": ["a.py"]})
    told.at(29)
    told.say("B", "HEARTBEAT")
    told.at(31)
    return told


def test_an_agent_that_is_dead(died: LoggedSession) -> None:
    died.says(
        "A",
        "A is dead",
        "A was declared dead at 0:30 (7-1): silent for 30 s",
        "→ can come back with STARTED and a higher incarnation",
        "it held a.py: released",
        "then, in 7-3: B gets a.py (token 3)",
        "its task t is not done: pending to any agent with capacity",
    )
    died.says("B", "because of 7-0: nothing was heard of A for too long")


def test_a_restart_after_death_and_a_late_signal(died: LoggedSession) -> None:
    died.at(33)
    died.say("A", "STARTED", {"task": "t"}, incarnation=2, seq=1)
    died.say("A", "COMPLETED", {}, incarnation=1, seq=3)
    assert died.session.agents.records["A"].status is AgentStatus.ACTIVE
    died.says(
        "A",
        "A is active, last heard of 0 s ago; this is its incarnation 2",
        "A continues: started again as incarnation 2",
        "the one before ended at 0:30 (7-1): A is declared dead: silent for 30 s",
        "Refused recently",
        "9-0  COMPLETED of A: incarnation 1 of A was replaced by incarnation 2 [STALE_INCARNATION]",
    )


def test_an_agent_that_keeps_dying_is_kept_out(died: LoggedSession) -> None:
    died.say("A", "STARTED", {}, incarnation=2, seq=1)
    died.at(50)
    died.say("B", "HEARTBEAT")
    died.at(70)
    died.say("A", "STARTED", {}, incarnation=3, seq=1)
    died.says(
        "A",
        "A may not start again: it has died in silence 2 times",
        "→ may start again after: fabric decide 10-2 ANSWER (ANSWER is one of: start, keep out)",
        "[BREAKER]",
    )
    died.say("HUMAN", "DECIDED", {"escalation": "10-2", "decision": "keep out", "by": "anna"})
    died.says("A", "anna decided at 1:10 whether A may start again: keep out")


def test_a_message_loop_is_cut() -> None:
    told = LoggedSession(Rules(hops_max=3))
    told.say("A", "STARTED")
    told.say("A", "PROGRESS", {"percent": 2}, hops=3)
    told.says(
        "A",
        "Refused recently",
        "PROGRESS is the end of a chain of 3 replies to replies",
        "A and others answer each other in a loop [HOPS]",
    )


def test_an_agent_that_has_completed() -> None:
    told = LoggedSession()
    told.say("A", "STARTED", {"produces": ["x"]})
    told.say("B", "BLOCKED", {"on": "x"})
    told.say("A", "COMPLETED")
    told.say("A", "PROGRESS", {"percent": 3})
    told.says("A", "A ended with COMPLETED at 0:00 (3-0)", "then, in 3-2: B continues", "[ENDED]")
    told.says("B", "because of 3-0: A is done")


def test_an_agent_that_held_too_long() -> None:
    told = LoggedSession(Rules(hold_ms_max=4_000))
    told.say("A", "INTENT", {"writes": ["a.py"]})
    told.say("B", "INTENT", {"writes": ["a.py"]})
    told.says("B", "or it is taken back, at 0:04")
    told.at(5)
    told.says(
        "A",
        "A pauses: held for over 4000 ms (a.py)",
        "because of 4-0: what A asked for in 2-0 is taken back: A held it for too long",
    )


def test_the_index_is_bounded() -> None:
    told = LoggedSession()
    told.say("A", "STARTED")
    for number in range(30):
        told.say("A", "PROGRESS", {"percent": number})
    # Of several reports of progress in a row the last is history, and no more.
    assert [cause.log for cause in told.explain("A").history] == ["31-0", "1-0"]
    for number in range(30):
        told.say("A", "PROGRESS", {"percent": number})
        told.say("A", "CHECKPOINT_REACHED", {"checkpoint": f"c{number}"})
    assert len(told.explain("A").history) == 10


def test_a_question_to_an_agent_that_has_ended() -> None:
    told = LoggedSession()
    told.say("D", "STARTED")
    told.say("A", "ESCALATE", {"question": "which?", "id": "q", "to": "D"})
    told.says(
        "A",
        "It depends on D, which is working",
        "continues when D, or a person, answers",
        "It was told at 0:00 (2-1) that others wait",
    )
    told.say("D", "FAILED")
    told.says(
        "A",
        "It depends on a person: fabric decide q ANSWER",
        "A has asked a person",
        "D has ended without answering q",
    )
