"""No signal takes more work than a bound, whatever it names and whatever others have named."""

from typing import Any

import msgspec
import pytest

from fabric.core import claims, deadlock
from fabric.core.directive import Cancel
from fabric.core.event import Decision, Outcome
from fabric.core.limits import AGENT_RESOURCES_MAX, EVENT_GRANTS_MAX, SIGNAL_STEPS_MAX
from fabric.core.record import AgentStatus, ClaimState
from fabric.core.resource import CostlyError, Meter, matches, overlap, reading_steps
from fabric.core.rule_table import Domain, Trigger
from fabric.core.rules import Rules
from fabric.core.signal import Signal, SignalType
from fabric.core.step import fire
from fabric.core.wait_graph import WaitGraph
from tests.core.cost import lines_of
from tests.support.random_history import Play, signal

#: Lines of Python that any one signal of this module may run; a line takes some 0.1 µs.
LINES_MAX = 4_000_000


def bomb(name: str, number: int) -> str:
    """Return a glob of some 500 characters whose walk beside another takes long."""
    return ("**/**/*a/" * 60)[:480] + f"*{name}{number}"


def intent(play: Play, name: str, writes: list[str], **more: Any) -> Decision:
    return play.say(signal(SignalType.INTENT, name, {"writes": writes, **more}))


def test_thirty_costly_globs_are_refused_before_anything_has_changed() -> None:
    play = Play()
    first = signal(SignalType.INTENT, "A", {"writes": [bomb("A", n) for n in range(30)]})
    assert lines_of(play, first) < LINES_MAX
    second = intent(play, "B", [bomb("B", number) for number in range(30)])
    assert (second.outcome, second.code) == (Outcome.REFUSED, "LIMIT")
    assert f"takes over {SIGNAL_STEPS_MAX} steps" in second.reason
    assert [(message.type, message.to) for message in second.messages] == [("CANCEL", "B")]
    assert not play.session.claims.records
    assert len(play.session.order) == 0
    # The sender goes on, and so do all others.
    assert intent(play, "B", ["src/**/*.py"]).messages[0].type == "PROCEED"
    assert intent(play, "C", ["docs/**/*.md"]).messages[0].type == "PROCEED"


@pytest.mark.parametrize(
    "writes",
    [
        [f"**/x{number}*" for number in range(1_000)],
        ["[" * 495 + f"z-a]{number}" for number in range(1_000)],
        [f"*[!{number % 10}]" * 30 + "a" * 350 + str(number) for number in range(1_000)],
        ["[" + "acegikmoqsuwy" * 37 + f"]/*{number}" for number in range(1_000)],
    ],
    ids=["own pairs", "brackets", "classes", "long classes"],
)
def test_a_signal_of_a_thousand_globs_is_refused_quickly(writes: list[str]) -> None:
    play = Play()
    assert lines_of(play, signal(SignalType.INTENT, "A", {"writes": writes})) < LINES_MAX
    assert not play.session.claims.records


def test_a_thousand_paths_and_some_tens_of_globs_are_ordinary() -> None:
    play = Play()
    assert intent(play, "A", [f"lib/{number}.py" for number in range(1_000)]).code == ""
    assert intent(play, "B", [f"src/**/part{number}_*.py" for number in range(50)]).code == ""
    assert intent(play, "C", [f"src/**/*_{number}.py" for number in range(50)]).code == ""
    assert intent(play, "D", [f"app/[user-id]/{number}.tsx" for number in range(500)]).code == ""
    assert intent(play, "E", ["**"]).code == ""


def test_a_queue_that_is_met_everywhere_counts() -> None:
    """A thousand files that hundreds of agents want: each more costs as much as all before."""
    play = Play()
    writes = [f"lib/{number}.py" for number in range(1_000)]
    answers = [intent(play, f"agent {number}", writes).code for number in range(70)]
    assert answers[:20] == [""] * 20
    assert answers[-1] == "LIMIT"
    # What frees them is never refused, and the next agent gets its turn.
    done = play.say(signal(SignalType.COMPLETED, "agent 0", {}))
    assert ("PROCEED", "agent 1") in [(message.type, message.to) for message in done.messages]


def test_an_agent_claims_so_many_resources_and_no_more() -> None:
    play = Play()
    for lot in range(AGENT_RESOURCES_MAX // 1_000):
        assert intent(play, "A", [f"{lot}/{number}" for number in range(1_000)]).code == ""
    assert intent(play, "A", ["one more"]).code == "LIMIT"
    assert intent(play, "B", ["one more"]).code == ""


def test_a_detector_that_names_no_agents_is_refused_rather_than_searched_for() -> None:
    play = Play()
    for number in range(200):
        writes = [f"lib/{number}/{name}.py" for name in range(1_000)]
        play.say(signal(SignalType.STARTED, f"agent {number}", {"writes": writes}))
    found = signal(SignalType.CONFLICT_DETECTED, "X", {"resources": ["a", "b"]})
    assert lines_of(play, found) < LINES_MAX
    members = [f"agent {number}" for number in range(200)]
    named = {"resources": [f"r{number}" for number in range(1_000)], "agents": members}
    assert play.say(signal(SignalType.CONFLICT_DETECTED, "X", named)).code == "LIMIT"
    assert not play.session.claims.records


def fan(play: Play) -> None:
    """Let a hundred agents each wait for one of a holder's resources, and for many of their own."""
    intent(play, "H", [f"lib/{number}.py" for number in range(100)])
    for number in range(100):
        own = [f"own/{number}/{name}" for name in range(99)]
        assert intent(play, f"agent {number}", [f"lib/{number}.py", *own]).code == ""


def test_what_very_many_wait_for_is_granted_in_several_events() -> None:
    play = Play()
    fan(play)
    done = play.say(signal(SignalType.COMPLETED, "H", {}))
    proceeds = [message for message in done.messages if message.type == "PROCEED"]
    assert len(proceeds) == EVENT_GRANTS_MAX // 100
    assert done.timers == {claims.REST_TIMER: play.session.clock_ms}
    play.pass_time(1)
    states = {claim.state for claim in play.session.claims.records.values()}
    assert states == {ClaimState.HELD}


def test_holders_that_wait_in_one_queue_do_not_cost_their_square() -> None:
    play = Play(rules=Rules(signals_per_second_max=0))
    names = [f"agent {number}" for number in range(1_000)]
    for name in names:
        assert intent(play, name, [f"lib/{name}.py"]).code == ""
    for name in ("X", *names):
        assert intent(play, name, ["x.py"]).code == ""
    closing = signal(SignalType.INTENT, "X", {"writes": [f"lib/{name}.py" for name in names]})
    assert lines_of(play, closing) < LINES_MAX / 4
    assert len(play.session.claims) == 2_001  # it was refused: it closes cycles


def crossed(play: Play, agents: int) -> Signal:
    """Let agents that each hold a file wait for X's; return X's INTENT, which wants all theirs."""
    play.say(signal(SignalType.STARTED, "X", {"priority": 9}))
    intent(play, "X", ["x.py"])
    names = [f"agent {number}" for number in range(agents)]
    for name in names:
        intent(play, name, [f"lib/{name}.py"])
    for name in names:
        intent(play, name, ["x.py"])
    return signal(SignalType.INTENT, "X", {"writes": [f"lib/{name}.py" for name in names]})


def cancelled(decision: Decision) -> list[str]:
    return [message.to for message in decision.messages if message.type == "CANCEL"]


def test_a_signal_that_closes_a_thousand_cycles_of_locks_leaves_most_to_a_timer() -> None:
    play = Play(rules=Rules(signals_per_second_max=0))
    closing = crossed(play, 1_000)
    assert lines_of(play, closing) < LINES_MAX / 3
    assert play.timers["deadlock:X"] == play.session.clock_ms


def test_no_event_searches_for_longer_than_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 2_000
    monkeypatch.setattr(deadlock, "SEARCH_STEPS_MAX", most)
    play = Play(rules=Rules(signals_per_second_max=0))
    decision = play.say(crossed(play, 60))
    events = 0
    while any(timer.startswith("deadlock:") for timer in play.timers):
        assert 0 < len(cancelled(decision)) < 10
        del play.timers["deadlock:X"]
        found = fire(play.session, "deadlock:X", play.rules, play.now_ms)
        if found is None:
            break
        decision = found
        play.timers.update({key: due for key, due in found.timers.items() if due is not None})
        events += 1
    assert events > 5
    # X outranks them: each of them has lost its wait, and X has not.
    waiting = [c for c in play.session.claims.records.values() if c.state is ClaimState.WAITING]
    assert [claim.agent for claim in waiting] == ["X"]
    assert not any(WaitGraph(play.session).find_cycle(one) for one in play.session.agents.records)


@pytest.mark.parametrize("kind", ["locks", "outputs"])
def test_a_wait_that_is_too_much_to_look_at_is_refused(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty agents that each wait for all before them: their last wait would close a cycle."""
    play = Play(rules=Rules(signals_per_second_max=0))
    names = [f"a{number:02}" for number in range(60)]
    word, field = (SignalType.INTENT, "writes") if kind == "locks" else (SignalType.BLOCKED, "on")
    for name in names:
        play.say(signal(SignalType.STARTED, name, {"produces": [f"of {name}"]}))
        if kind == "locks":
            intent(play, name, [f"of {name}"])
    for number, name in enumerate(names):
        for other in names[:number]:
            on = f"of {other}"
            play.say(signal(word, name, {field: [on] if kind == "locks" else on}))
    monkeypatch.setattr(deadlock, "SEARCH_STEPS_MAX", 2_000)
    on = f"of {names[-1]}"
    refused = play.say(signal(word, names[0], {field: [on] if kind == "locks" else on}))
    last = refused.messages[-1]
    assert (last.type, last.to) == ("CANCEL", names[0])
    told = msgspec.json.decode(last.payload, type=Cancel)
    assert told.code == "LIMIT"
    assert told.resources == [on] if kind == "locks" else told.dependency == on
    agent = play.session.agents.records[names[0]]
    assert (agent.status, agent.waits_for) == (AgentStatus.ACTIVE, [])
    assert not play.session.waiting_claims(agent)
    assert not WaitGraph(play.session).find_cycle(names[-1])
    # An agent that waits for none of them is not concerned.
    intent(play, "B", ["b.py"])
    assert intent(play, "C", ["b.py"]).messages[-1].type == "WAIT"


def test_an_open_question_about_a_dense_deadlock_costs_other_signals_little() -> None:
    play = Play(rules=Rules(signals_per_second_max=0))
    names = [f"agent {number}" for number in range(60)]
    for name in names:
        play.say(signal(SignalType.STARTED, name, {"produces": [name]}))
    for number, name in enumerate(names):
        for other in names[:number]:
            play.say(signal(SignalType.BLOCKED, name, {"on": other}))
    play.say(signal(SignalType.BLOCKED, names[0], {"on": names[-1]}))
    assert play.session.deadlocks
    assert lines_of(play, signal(SignalType.STARTED, "bystander", {})) < 3_000


def test_a_deadlock_of_thousands_is_told_in_few_bytes() -> None:
    """Each of thousands is told of it: not all the names of thousands."""
    play = Play(rules=Rules(signals_per_second_max=0))
    for number in range(3_000):
        play.say(signal(SignalType.STARTED, f"agent {number}", {"produces": [f"d{number}"]}))
    for number in range(3_000):
        on = f"d{(number + 1) % 3_000}"
        closing = play.say(signal(SignalType.BLOCKED, f"agent {number}", {"on": on}))
    told = {message.to for message in closing.messages if message.type == "ESCALATE"}
    assert len(told) == 3_001
    assert sum(len(message.payload) for message in closing.messages) < 2_000_000
    (question,) = play.session.escalations.records.values()
    assert len(question.options) == 3_000


def test_a_domain_of_the_rules_is_compared_under_the_same_bound() -> None:
    play = Play(rules=Rules(domains=tuple(Domain(bomb("D", n), exclusive=True) for n in range(10))))
    writes = [bomb("A", number) for number in range(30)]
    assert lines_of(play, signal(SignalType.INTENT, "A", {"writes": writes})) < LINES_MAX
    assert not play.session.claims.records


@pytest.mark.parametrize(
    "payload",
    [
        {"dependency_id": "d", "output_location": "*a" * 200_000},
        {"dependency_id": "d", "output_location": "[" * 4_000},
        {"dependency_id": "[" * 500},
    ],
    ids=["long", "brackets", "id"],
)
def test_a_location_or_an_id_does_not_cost_its_square(payload: dict[str, Any]) -> None:
    rules = Rules(triggers=(Trigger("t", ("schema-*",), ("alembic/**/*_v.py",)),))
    resolved = signal(SignalType.DEPENDENCY_RESOLVED, "A", payload)
    assert lines_of(Play(rules=rules), resolved) < LINES_MAX


def test_an_id_is_a_name_and_no_glob() -> None:
    meter = Meter()
    assert matches("schema-*", "schema-users", meter)
    assert matches("schema-*", "schema-*", meter)
    assert not matches("schema-v1", "schema-*", meter)


def test_a_meter_stops_a_comparison() -> None:
    meter = Meter()
    meter.steps_max = reading_steps("[" * 100) - 1
    with pytest.raises(CostlyError):
        overlap("[" * 100, "b", meter)
