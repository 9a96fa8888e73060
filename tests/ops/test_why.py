"""`fabric why` from the log alone: the important sentences for each kind of wait."""

import pytest

from fabric.errors import NotFoundError
from fabric.ops.why.snapshot import Cause
from tests.ops.logged_session import LoggedSession


def every(causes: list[Cause]) -> list[Cause]:
    """The causes and all below them."""
    return [one for cause in causes for one in [cause, *every(cause.children)]]


@pytest.fixture
def conflict() -> LoggedSession:
    """A has config.py, B wants it, then C, which is more urgent."""
    told = LoggedSession()
    for name, priority in (("A", 0), ("B", 0), ("C", 3)):
        told.say(name, "STARTED", {"priority": priority})
    told.at(20)
    told.say("A", "INTENT", {"writes": ["config.py"]})
    told.say("A", "PROGRESS", {"percent": 60})
    told.at(25)
    told.say("B", "INTENT", {"writes": ["./config.py"]})
    told.at(26)
    told.say("C", "INTENT", {"writes": ["config.py"]})
    told.at(30)
    return told


def test_a_conflict_on_one_path(conflict: LoggedSession) -> None:
    conflict.cursors["A"] = b"6-4 0-0"
    conflict.says(
        "B",
        "B is blocked, last heard of 5 s ago",
        "It depends on A, which is working as far as it has reported, last heard of 10 s ago",
        "B asked for config.py at 0:25 (6-0) and is number 2 in line, behind C",
        "→ continues when A releases it (RELEASE), ends, or is declared dead "
        "(after 10 min of silence, at 10:20); and after the agents ahead have had their turn",
        "A has held config.py since 0:20 (4-1, token 1). "
        "It was told at 0:25 (6-2) that others wait, and has read that. "
        "It is active, at 60 %, last heard of 10 s ago",
        "0:25  6-5  B waits for config.py, which A has (position 1)  (of 6-0)",
    )
    conflict.says("C", "C asked for config.py at 0:26 (7-0) and is next in line")
    conflict.says_not("C", "have had their turn")
    conflict.says(
        "A",
        "A waits for nothing",
        "A has held config.py since 0:20 (4-1, token 1), and C, B wait for it",
    )


def test_whether_the_holder_has_read_it(conflict: LoggedSession) -> None:
    conflict.says("B", "that others wait; it is not known whether it has read that")
    conflict.cursors["A"] = b"6-1 99-0"
    conflict.says("B", "that others wait, and has not read that yet")
    conflict.cursors["A"] = b"6-2 0-0"
    conflict.says("B", "that others wait, and has read that")


def test_the_next_in_line_gets_the_reason(conflict: LoggedSession) -> None:
    conflict.say("A", "RELEASE", {"resources": ["config.py"]})
    conflict.says(
        "C",
        "C waits for nothing",
        "it was last told, at 0:30 (8-2): C gets config.py (token 2)",
        "because of 8-0: A releases config.py",
    )


def test_a_deadlock_of_two_locks() -> None:
    told = LoggedSession()
    for name in "ABC":
        told.say(name, "STARTED", {"priority": int(name == "A")})
    told.say("A", "INTENT", {"writes": ["a.py"]})
    told.say("B", "INTENT", {"writes": ["b.py"]})
    told.say("A", "INTENT", {"writes": ["b.py"]})
    told.say("C", "INTENT", {"writes": ["b.py"]})
    told.say("B", "INTENT", {"writes": ["a.py"]})
    told.says(
        "B",
        "B waits for nothing",
        "B is refused a.py: deadlock: B waits for a.py, A waits for b.py, which needs B",
        "stuck behind that deadlock: C",
        "it may ask for a.py again after it has released what others wait for",
        "B has held b.py since 0:00 (5-1, token 2), and A, C wait for it",
    )
    told.says("A", "A asked for b.py at 0:00 (6-0) and is next in line")
    told.says_not("A", "is part of a deadlock")


def test_a_deadlock_of_a_lock_and_a_dependency_with_an_agent_behind_it() -> None:
    told = LoggedSession()
    told.say("A", "STARTED", {"produces": ["schema"]})
    told.say("B", "INTENT", {"writes": ["a.py"]})
    told.say("B", "BLOCKED", {"on": "schema"})
    told.say("C", "BLOCKED", {"on": "schema"})
    told.at(4)
    told.say("A", "INTENT", {"writes": ["a.py"]})
    told.says(
        "B",
        "B is part of a deadlock: B waits for schema, A waits for a.py, which needs B",
        "C is stuck behind it",
        'the orchestrator has asked a person, at 0:04 (5-6): "Deadlock:',
        "It depends on a person: fabric decide 5-6 ANSWER (ANSWER is one of: A, B)",
        "This closes a cycle: B → A → B",
    )
    told.says(
        "C",
        "C is stuck behind a deadlock: A waits for a.py, B waits for schema, which needs A",
        "It depends on a person: fabric decide 5-6 ANSWER",
    )
    told.say("HUMAN", "DECIDED", {"escalation": "5-6", "decision": "A", "by": "anna"})
    told.says_not("B", "is part of a deadlock", "closes a cycle")
    told.says("A", "A is refused a.py: anna has decided that A gives way")


def test_a_deadlock_of_a_dependency_a_question_and_a_barrier() -> None:
    told = LoggedSession()
    told.say("A", "STARTED", {"produces": ["x"]})
    for name in "BLS":
        told.say(name, "STARTED")
    told.say("L", "INTEGRATION_REQUIRED", {"name": "m"})
    told.say("B", "CHECKPOINT_REACHED", {"checkpoint": "c"})
    told.say("S", "CHECKPOINT_REACHED", {"checkpoint": "c"})
    told.say("A", "ESCALATE", {"question": "which?", "to": "B"})
    told.say("L", "BLOCKED", {"on": "x"})
    told.says(
        "L",
        "L is part of a deadlock: L waits for x, A waits for the answer to question 8-0, "
        "B waits at the barrier m, which needs L",
        "S is stuck behind it",
        "This closes a cycle: L → A → B → L",
        "A arrived at the barrier m at 0:00 and is held there (explained above)",
    )
    told.says(
        "B",
        "B is part of a deadlock: B waits at the barrier m, L waits for x, "
        "A waits for the answer to question 8-0, which needs B",
        'the orchestrator has asked a person, at 0:00 (9-2): "Deadlock: L waits for x',
        "It depends on a person: fabric decide 9-2 ANSWER",
        "A waits for its answer to question 8-0",
    )
    told.says("S", "S is stuck behind a deadlock")


def test_a_cycle_of_fifty_is_cut() -> None:
    told = LoggedSession()
    for number in range(50):
        told.say(f"a{number}", "STARTED", {"produces": [f"x{number}"]})
    for number in range(50):
        told.say(f"a{number}", "BLOCKED", {"on": f"x{(number + 1) % 50}"})
    for number in range(20):
        told.say(f"s{number}", "BLOCKED", {"on": "x0"})
    told.says(
        "a0",
        "a0 is part of a deadlock",
        "and 40 more, which needs a0",
        "s0, s1, s10, s11, s12 and 15 more are stuck behind it",
        "(continue with: fabric why a6)",
        "a49, s0, s1, s2, s3 and 16 more wait for x0, which it is to produce",
    )
    assert len(told.why("s3").splitlines()) < 40


def test_a_cycle_that_another_agent_can_break() -> None:
    told = LoggedSession()
    told.say("A", "STARTED", {"produces": ["x"]})
    told.say("B", "STARTED", {"produces": ["x"]})
    told.say("C", "STARTED", {"produces": ["z"]})
    told.say("A", "BLOCKED", {"on": "z"})
    told.say("C", "BLOCKED", {"on": "x"})
    told.says(
        "C",
        "continues when A or B resolves x",
        "This closes a cycle: C → A → C; other agents can break it",
        "It depends on B",
    )
    told.says_not("C", "deadlock")


def test_a_dependency_that_no_agent_produces() -> None:
    told = LoggedSession()
    told.say("P", "STARTED", {"produces": ["schema-change"]})
    told.say("A", "BLOCKED", {"on": "schema-chnage"})
    told.says(
        "A",
        "depends on an agent that produces schema-chnage: none has declared that it does",
        'an agent starts that declares it (STARTED with produces ["schema-chnage"])',
        "no active agent has declared that it produces schema-chnage; this is reported at 0:30",
        "was schema-change meant? P has declared that",
    )
    told.at(40)
    told.says("A", "the agents that wait were told at 0:30 (3-2)")


def test_a_dependency_whose_producer_failed() -> None:
    told = LoggedSession()
    told.say("P", "STARTED", {"produces": ["s"]})
    told.say("A", "BLOCKED", {"on": "s"})
    told.say("P", "FAILED", {"error": "disk full", "retryable": True})
    told.says(
        "A",
        "P was to produce s and has failed: disk full (it says that a retry may help)",
        "→ continues when P starts again and resolves it, or any agent sends DEPENDENCY_RESOLVED",
    )
    told.says("P", "P ended with FAILED at 0:00 (3-0): disk full", "then, in 3-1: P fails")


def test_a_chain_of_three_ends_at_a_person() -> None:
    told = LoggedSession()
    told.say("P", "STARTED", {"produces": ["schema"]})
    told.say("A", "INTENT", {"writes": ["a.py"]})
    told.say("A", "BLOCKED", {"on": "schema"})
    told.say("B", "INTENT", {"writes": ["a.py"]})
    told.say("P", "ESCALATE", {"question": "v1\x1b[2J or v2?", "options": ["v1", "v2"]})
    answer = told.explain("B")
    assert answer.up_to == ["a person: fabric decide 5-0 ANSWER (ANSWER is one of: v1, v2)"]
    kinds = [(cause.kind, cause.agent, cause.log) for cause in every(answer.causes)]
    assert kinds == [
        ("lock", "B", "4-0"),
        ("agent", "A", ""),
        ("dependency", "A", "3-0"),
        ("agent", "P", ""),
        ("question", "P", "5-0"),
        ("person", "", "5-0"),
    ]
    assert "\x1b" not in told.why("B")
    told.say("HUMAN", "DECIDED", {"escalation": "5-0", "decision": "v1"})
    told.says("B", "It depends on P, which is working as far as it has reported")


def test_many_causes_are_counted() -> None:
    told = LoggedSession()
    for number in range(9):
        told.say("A", "BLOCKED", {"on": f"x{number}"})
    text = told.why("A")
    assert "and 4 more" in text
    assert "x8 since" not in text


def test_a_conflict_that_another_agent_reported() -> None:
    told = LoggedSession()
    told.say("A", "STARTED")
    told.say("B", "STARTED")
    told.at(25)
    seen = {"resources": ["config.py"], "agents": ["A", "B"]}
    told.say("DETECTOR", "CONFLICT_DETECTED", seen)
    told.say("B", "BLOCKED", {"on": "config.py"})
    told.says(
        "B",
        "B is next in line for config.py: DETECTOR reported a conflict at 0:25 (3-0)",
        "A has held config.py since 0:25 (3-3, token 1)",
    )
    told.at(30)
    told.say("A", "DEPENDENCY_RESOLVED", {"dependency_id": "config.py"})
    told.says("B", "B waits for nothing", "because of 5-0: A completes config.py")


def test_a_long_queue_is_counted_not_listed() -> None:
    told = LoggedSession()
    told.say("H", "INTENT", {"writes": ["hot.py"]})
    for number in range(30):
        told.say(f"a{number}", "INTENT", {"writes": ["hot.py"]})
    told.say("a7", "BLOCKED", {"on": "x"})
    text = told.why("a29")
    assert "is number 30 in line, behind a0, a1, a2, a3, a4 and 24 more" in text
    # Of those before it only who waits for something else as well is a cause of its own.
    assert text.count("is ahead of it in line") == 1
    told.says(
        "a29",
        "a7 is ahead of it in line. It is blocked",
        "a7 has waited for x since 0:00 (32-0)",
        "last heard of 0 s ago; an agent that produces x: none has declared that it does",
    )


def test_an_unknown_agent(conflict: LoggedSession) -> None:
    with pytest.raises(NotFoundError, match=r"no agent X in session demo; agents: A, B, C"):
        conflict.explain("X")
