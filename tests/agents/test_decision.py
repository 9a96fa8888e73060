"""What a client is told, by what was found out."""

from dataclasses import replace

from fabric.agents.decision import HOLDS_MAX, Facts, Obstacle, decide
from fabric.agents.event import Action, Event, Moment

WRITE = Event("claude", Moment.BEFORE_TOOL, "PreToolUse", "1", action=Action.OVERWRITE)
READ = replace(WRITE, action=Action.READ)
AFTER = replace(WRITE, moment=Moment.AFTER_TOOL, name="PostToolUse", takes_context=True)
STOP = replace(READ, moment=Moment.TURN_END, name="Stop")
FACTS = Facts(agent="A", session="demo")


def test_a_free_file_is_written_without_a_word() -> None:
    answer = decide(WRITE, FACTS)
    assert (answer.refusal, answer.hold, answer.context) == ("", "", "")


def test_a_refusal_names_holder_host_time_place_and_what_to_do() -> None:
    held = Obstacle("a.py", "QA", "build-2", held_s=34.0, ahead=2)
    refusal = decide(WRITE, replace(FACTS, obstacles=(held,), waited_s=20.0)).refusal
    for words in ("a.py", "QA", "build-2", "34 s", "20 s", "2 agents are before you", "fabric why"):
        assert words in refusal


def test_only_a_write_is_refused() -> None:
    facts = replace(FACTS, obstacles=(Obstacle("a.py", "QA"),))
    assert not decide(READ, facts).refusal
    assert not decide(AFTER, facts).refusal


def test_a_file_that_has_changed_is_not_overwritten() -> None:
    refusal = decide(WRITE, replace(FACTS, changed=(("a.py", "QA"),))).refusal
    assert "a.py was changed by QA" in refusal
    assert "read it again" in refusal


def test_a_barrier_an_order_to_stop_and_a_deadlock_refuse_a_write() -> None:
    assert "barrier" in decide(WRITE, replace(FACTS, pause="the barrier m holds it")).refusal
    assert "told to stop: enough" in decide(WRITE, replace(FACTS, stop="enough")).refusal
    assert "A waits for B" in decide(WRITE, replace(FACTS, deadlock="A waits for B")).refusal


def test_an_outage_lets_writes_through_and_is_told_once() -> None:
    facts = replace(FACTS, outage="the server is away.")
    assert not decide(WRITE, facts).refusal
    assert "the server is away" in decide(AFTER, facts).context
    assert not decide(AFTER, replace(facts, is_told=True)).context


def test_an_outage_refuses_writes_if_so_told() -> None:
    facts = replace(FACTS, outage="the server is away.", is_closed=True)
    assert "--fail-closed" in decide(WRITE, facts).refusal
    assert not decide(READ, facts).refusal


def test_a_turn_is_held_twice_at_most() -> None:
    facts = replace(FACTS, open=("QA asks you: why?",))
    held = [decide(STOP, replace(facts, holds=number)).hold for number in range(HOLDS_MAX + 1)]
    assert [bool(one) for one in held] == [True] * HOLDS_MAX + [False]
    assert not decide(STOP, FACTS).hold


def test_what_others_say_is_marked_as_theirs() -> None:
    context = decide(AFTER, replace(FACTS, news=("QA says “hello”",))).context
    head, line = context.split("\n")
    assert "not from your user" in head
    assert line == "- QA says “hello”"
