"""Limits that would make a scenario too long."""

import msgspec
import pytest

from fabric.core.event import Outcome
from fabric.core.limits import AGENT_WAITS_MAX, TASK_FINDING_CHARS_MAX, TASK_FINDINGS_MAX
from fabric.core.record import AgentStatus
from fabric.core.signal import SignalType
from tests.support.random_history import Play, signal


def test_an_agent_waits_for_so_many_and_no_more() -> None:
    play = Play()
    for number in range(AGENT_WAITS_MAX):
        decision = play.say(signal(SignalType.BLOCKED, "A", {"on": f"x{number}"}))
        assert decision.outcome is Outcome.ACCEPTED
    decision = play.say(signal(SignalType.BLOCKED, "A", {"on": "one more"}))
    assert decision.code == "LIMIT"
    assert (
        decision.reason == f"A already waits for {AGENT_WAITS_MAX} dependencies, the most allowed"
    )
    assert "one more" not in play.session.dependencies
    # It may repeat a wait that it has, and another agent has room.
    assert play.say(signal(SignalType.BLOCKED, "A", {"on": "x0"})).outcome is Outcome.ACCEPTED
    assert play.say(signal(SignalType.BLOCKED, "B", {"on": "x0"})).outcome is Outcome.ACCEPTED
    play.say(signal(SignalType.RELEASE, "A", {}))
    agent = play.session.agents.get("A")
    assert agent is not None
    assert agent.status is AgentStatus.ACTIVE


def test_a_task_keeps_the_last_findings_each_in_a_short_line() -> None:
    play = Play()
    play.say(signal(SignalType.STARTED, "A", {"task": "t"}))
    for number in range(TASK_FINDINGS_MAX + 5):
        partial = {"text": f"{number} " + "x" * 1_000}
        play.say(signal(SignalType.PARTIAL_RESULT, "A", {"partial": partial}))
    many = {f"n{number}": number for number in range(3)}
    play.say(signal(SignalType.PARTIAL_RESULT, "A", {"partial": many}))
    task = play.session.tasks.get("t")
    assert task is not None
    assert len(task.partial_findings) == TASK_FINDINGS_MAX
    assert {len(line) for line in task.partial_findings[:-3]} == {TASK_FINDING_CHARS_MAX}
    assert task.partial_findings[0].startswith("text: 8 xxx")
    assert task.partial_findings[-3:] == ["0 n0", "1 n1", "2 n2"]


@pytest.mark.slow
def test_each_of_thousands_of_waiters_is_told_in_a_few_bytes() -> None:
    """A list of all of them in each message would grow as the square of their number."""
    play = Play()
    play.say(signal(SignalType.STARTED, "P", {"produces": ["x"]}))
    for number in range(2_000):
        play.say(signal(SignalType.BLOCKED, f"agent {number}", {"on": "x"}))
        play.say(signal(SignalType.BLOCKED, f"agent {number}", {"on": "nobody's"}))
    done = play.say(signal(SignalType.COMPLETED, "P", {}))
    assert len(done.messages) == 2_000
    sizes = [len(message.payload) for message in done.messages]
    play.watch = lambda decision, _: sizes.extend(len(m.payload) for m in decision.messages)
    play.pass_time(60_000)
    assert len(sizes) == 4_001  # and the question itself
    assert max(sizes) < 300
    assert msgspec.json.decode(done.messages[0].payload)["consumers"] == ["agent 0"]
