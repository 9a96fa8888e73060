"""One sender has its share of a session; what is over is refused, and others find room."""

import pytest

from fabric.core import conflicts
from fabric.core.admission import UNCOUNTED_MAX
from fabric.core.event import Decision, Outcome
from fabric.core.limits import (
    AGENT_BARRIERS_MAX,
    SEQUENCE_SKIPPED_MAX,
    SESSION_ESCALATIONS_MAX,
    SIGNAL_TASKS_MAX,
)
from fabric.core.rules import Rules
from fabric.core.session import (
    RESERVE,
    RESERVED_EACH,
    SHARE,
    SHARE_MIN,
    SessionState,
    Table,
)
from fabric.core.signal import Signal, SignalType
from tests.support.random_history import Play, signal


def say(play: Play, kind: SignalType, name: str, /, **payload: object) -> Decision:
    return play.say(signal(kind, name, payload))


def started(play: Play, name: str, **payload: object) -> str:
    return say(play, SignalType.STARTED, name, **payload).code


def plain(**rules: int) -> Play:
    return Play(rules=Rules(**{"signals_per_second_max": 0, **rules}))  # type: ignore[arg-type]  # all are numbers


def test_a_storm_is_refused_once_a_second_and_then_dropped_without_a_trace() -> None:
    play = Play(rules=Rules())
    codes = [say(play, SignalType.PROGRESS, "A", percent=1).code for _ in range(4_000)]
    limit = UNCOUNTED_MAX + play.rules.signals_per_second_max
    assert codes == [""] * limit + ["RATE"] * (4_000 - limit)
    assert play.session.log == limit + 1
    for table in (play.session.agents, play.session.tasks):
        table.take_changes()
    dropped = say(play, SignalType.INTENT, "A", writes=["x"])
    assert (dropped.outcome, dropped.code) == (Outcome.DROPPED, "RATE")
    assert not dropped.messages
    assert play.session.log == limit + 1
    assert not play.session.agents.changed
    # Others are heard, its end is too, and so is all that it sends in the next second.
    assert say(play, SignalType.INTENT, "B", writes=["x"]).code == ""
    play.pass_time(1_000)
    assert say(play, SignalType.PROGRESS, "A", percent=2).code == ""
    assert say(play, SignalType.COMPLETED, "A").code == ""


def test_after_a_long_storm_of_numbered_signals_the_agent_is_heard_again() -> None:
    play = Play(rules=Rules(signals_per_second_max=5))
    for number in range(1, 3 * SEQUENCE_SKIPPED_MAX):
        play.say(numbered(number))
    assert play.session.log < 30
    play.pass_time(1_000)
    assert play.say(numbered(3 * SEQUENCE_SKIPPED_MAX)).code == ""


def numbered(seq: int) -> Signal:
    """Return a numbered signal of A."""
    one = signal(SignalType.PROGRESS, "A", {"percent": 1})
    one.seq, one.incarnation = seq, 1
    return one


def test_an_agent_begins_with_a_thousand_dependencies_at_once() -> None:
    play = Play(rules=Rules())
    assert started(play, "A", produces=[f"p{number}" for number in range(1_000)]) == ""
    for number in range(1_000):
        assert say(play, SignalType.BLOCKED, "A", on=f"d{number}").code == ""


@pytest.mark.parametrize("kind", [SignalType.HEARTBEAT, SignalType.STARTED, SignalType.PROGRESS])
def test_names_without_anything_behind_them_make_room(kind: SignalType) -> None:
    play = plain(agents_max=300)
    assert started(play, "HONEST", task="t") == ""
    assert say(play, SignalType.INTENT, "HOLDER", writes=["a.py"]).code == ""
    for number in range(1_000):
        say(play, kind, f"name {number}")
    gone = [name for name in ("HONEST", "HOLDER") if name not in play.session.agents]
    assert not gone
    newcomer = say(play, SignalType.STARTED, "NEWCOMER", task="u")
    assert newcomer.code == ""
    assert newcomer.dismissed
    assert set(newcomer.dismissed) <= {f"name {number}" for number in range(1_000)}
    assert len(play.session.agents) <= 300


def test_agents_that_have_ended_make_room_first() -> None:
    play = plain(agents_max=3)
    started(play, "NEW")
    started(play, "DONE", task="t")
    started(play, "BUSY", task="u")
    say(play, SignalType.COMPLETED, "DONE")
    assert started(play, "D", task="v") == ""
    assert sorted(play.session.agents.records) == ["BUSY", "D", "NEW"]
    assert started(play, "E", task="w") == ""
    assert sorted(play.session.agents.records) == ["BUSY", "D", "E"]
    assert started(play, "F", task="x") == "LIMIT"
    assert say(play, SignalType.HEARTBEAT, "G").code == "LIMIT"


def test_a_name_that_made_room_goes_on_without_numbers_too() -> None:
    play = plain(agents_max=2)
    started(play, "BUSY", task="t")
    play.say(numbered(1))
    started(play, "B", task="u")
    say(play, SignalType.COMPLETED, "B")
    assert say(play, SignalType.PROGRESS, "A", percent=2).code == ""
    agent = play.session.agents.records["A"]
    assert (agent.incarnation, agent.seq) == (1, 1)


def test_a_name_that_makes_room_before_its_end_goes_on_after_its_last_number() -> None:
    play = plain(agents_max=2)
    started(play, "BUSY", task="t")
    play.say(numbered(1))
    assert play.say(numbered(1)).outcome is Outcome.REPEATED
    assert list(say(play, SignalType.STARTED, "B", task="u").dismissed) == ["A"]
    say(play, SignalType.COMPLETED, "B")
    log = play.session.log
    # What it sends again has had its effect; what it sends next has one. B has ended.
    assert play.say(numbered(1)).outcome is Outcome.REPEATED
    assert play.session.log == log
    following = play.say(numbered(2))
    assert (following.outcome, following.code) == (Outcome.ACCEPTED, "")
    assert not following.messages
    assert play.session.agents.records["A"].seq == 2
    assert play.say(numbered(1)).outcome is Outcome.REPEATED
    assert say(play, SignalType.PROGRESS, "B", percent=1).code == "ENDED"


def test_open_questions_of_one_agent_have_a_share() -> None:
    play = plain()
    share = SESSION_ESCALATIONS_MAX // SHARE
    codes = [
        say(play, SignalType.ESCALATE, "A", question="?", wait=False).code for _ in range(1_500)
    ]
    assert codes == [""] * share + ["LIMIT"] * (1_500 - share)
    assert say(play, SignalType.ESCALATE, "B", question="?").code == ""


def test_a_hundred_names_with_a_hundred_questions_each_keep_nobody_out() -> None:
    play = plain()
    assert started(play, "MAKER", task="t") == ""
    assert say(play, SignalType.ESCALATE, "MAKER", question="?", id="real", wait=False).code == ""
    assert say(play, SignalType.ESCALATE, "WAITS", question="?", id="waited").code == ""
    made_room = []
    for number in range(SESSION_ESCALATIONS_MAX + 100):
        asked = say(play, SignalType.ESCALATE, f"n{number % 100}", question="?", wait=False)
        assert asked.code == ""
        made_room += [message for message in asked.messages if message.type == "NOTICE"]
    # The oldest ones that nobody stands behind went, and their askers were told.
    assert len(play.session.escalations) <= SESSION_ESCALATIONS_MAX
    assert {message.to for message in made_room} == {f"n{number}" for number in range(100)}
    assert b"made room for others: 4-0" in made_room[0].payload
    assert {"real", "waited"} <= set(play.session.escalations.records)
    honest = [say(play, SignalType.ESCALATE, "HONEST", question="?").code for _ in range(50)]
    assert honest == [""] * 50


def test_the_rest_of_a_full_table_is_for_those_with_few_questions() -> None:
    play = plain()
    most = SESSION_ESCALATIONS_MAX
    kept = most - most // RESERVE
    codes = []
    for name in range(11):
        started(play, f"n{name}", task=f"t{name}")
        for _ in range(most // SHARE):
            asked = say(play, SignalType.ESCALATE, f"n{name}", question="?", wait=False)
            codes.append(asked.code)
    assert codes.count("") == kept + 3 * RESERVED_EACH
    assert say(play, SignalType.ESCALATE, "HONEST", question="?").code == ""
    assert say(play, SignalType.ESCALATE, "n0", question="?").code == "LIMIT"


def test_ten_names_with_a_whole_share_of_dependencies_or_tasks_keep_nobody_out() -> None:
    play = plain(dependencies_max=10_000, tasks_max=10_000)
    for name in range(11):
        for lot in range(10):
            produces = [f"d{name}.{lot}.{number}" for number in range(100)]
            say(play, SignalType.STARTED, f"n{name}", produces=produces)
            for on in produces:
                say(play, SignalType.DEPENDENCY_RESOLVED, f"n{name}", dependency_id=on)
        for number in range(1_000):
            started(play, f"n{name}", task=f"t{name}.{number}")
    assert len(play.session.dependencies) >= 10_000 - 10_000 // RESERVE - 100
    assert len(play.session.tasks) >= 10_000 - 10_000 // RESERVE
    assert started(play, "HONEST", task="mine", produces=["a", "b"]) == ""
    assert say(play, SignalType.BLOCKED, "OTHER", on="a thing").code == ""
    assert started(play, "n0", task="one more") == "LIMIT"


def test_names_with_all_their_claims_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflicts, "SESSION_CLAIMS_MAX", SHARE_MIN)
    play = plain()
    for number in range(SHARE_MIN):
        say(play, SignalType.INTENT, f"n{number % 10}", writes=[f"f{number}"])
    kept = SHARE_MIN - SHARE_MIN // RESERVE
    assert len(play.session.claims) == kept
    more = say(play, SignalType.INTENT, "n0", writes=["more"])
    assert more.code == "LIMIT"
    assert f"kept for agents that have {RESERVED_EACH} or fewer" in more.reason
    named = {"resources": ["x"], "agents": ["n1", "n2"]}
    assert say(play, SignalType.CONFLICT_DETECTED, "X", **named).code == "LIMIT"
    assert say(play, SignalType.INTENT, "HONEST", writes=["mine"]).messages[0].type == "PROCEED"


def test_names_with_claims_on_all_resources_keep_nobody_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conflicts, "SESSION_RESOURCES_MAX", SHARE_MIN)
    play = plain()
    for number in range(20):
        writes = [f"{number}/{file}" for file in range(50)]
        say(play, SignalType.INTENT, f"n{number}", writes=writes)
    assert len(play.session.order) == SHARE_MIN - SHARE_MIN // RESERVE
    assert say(play, SignalType.INTENT, "HONEST", writes=["mine"]).code == ""


def test_barriers_that_are_over_make_room() -> None:
    play = plain()
    for leader in range(11):
        for number in range(AGENT_BARRIERS_MAX):
            name = f"b{leader}.{number}"
            called = say(play, SignalType.INTEGRATION_REQUIRED, f"n{leader}", name=name)
            assert called.code == ""
            say(play, SignalType.INTEGRATED, f"n{leader}", name=name, ok=False)
    assert "b0.0" not in play.session.barriers
    assert say(play, SignalType.INTEGRATION_REQUIRED, "HONEST", name="mine").code == ""


def test_names_that_have_said_more_than_one_thing_make_room_last() -> None:
    play = plain(agents_max=4)
    started(play, "BUSY", task="t")
    for name in ("TWO", "ONE"):
        say(play, SignalType.PROGRESS, name, percent=1)
    say(play, SignalType.ESCALATE, "ASKS", question="?", wait=False)
    say(play, SignalType.PROGRESS, "TWO", percent=2)
    for gone, newcomer in (("ASKS", "C"), ("ONE", "D"), ("TWO", "E")):
        assert gone in play.session.agents
        assert started(play, newcomer, task=newcomer) == ""
        assert gone not in play.session.agents
    assert started(play, "F", task="f") == "LIMIT"
    assert "BUSY" in play.session.agents


def test_decided_questions_make_room() -> None:
    play = plain()
    for number in range(SESSION_ESCALATIONS_MAX + 1):
        asked = say(play, SignalType.ESCALATE, "A", question="?", id=f"q{number}", wait=False)
        assert asked.code == ""
        say(play, SignalType.DECIDED, "PERSON", escalation=f"q{number}", decision="yes")
    assert "q0" not in play.session.escalations
    assert f"q{SESSION_ESCALATIONS_MAX}" in play.session.escalations


def test_dependencies_and_tasks_of_one_agent_have_a_share() -> None:
    play = plain(dependencies_max=20_000, tasks_max=20_000)
    share = 20_000 // SHARE
    for number in range(share):
        assert say(play, SignalType.DEPENDENCY_RESOLVED, "A", dependency_id=f"d{number}").code == ""
        assert started(play, "B", task=f"t{number}") == ""
    assert say(play, SignalType.DEPENDENCY_RESOLVED, "A", dependency_id="more").code == "LIMIT"
    assert say(play, SignalType.DEPENDENCY_RESOLVED, "A", dependency_id="d0").code == ""
    assert started(play, "B", task="more") == "LIMIT"
    assert started(play, "C", task="more", produces=["more"]) == ""


def test_tasks_count_in_the_share_of_the_agent_that_added_them_and_of_no_person() -> None:
    play = plain(tasks_max=20_000)
    say(play, SignalType.HEARTBEAT, "A")
    share = 20_000 // SHARE

    def add(name: str, first: int) -> str:
        tasks = [{"id": f"t{number}"} for number in range(first, first + SIGNAL_TASKS_MAX)]
        return say(play, SignalType.TASKS_ADDED, name, tasks=tasks).code

    codes = [add("A", first) for first in range(0, share + 1, SIGNAL_TASKS_MAX)]
    assert codes == [""] * (share // SIGNAL_TASKS_MAX) + ["LIMIT"]
    # Others work on them: that is no part of their share, nor is what A works on of its own.
    assert started(play, "B", task="t0") == ""
    codes = [add("PERSON", first) for first in range(share, 20_001, SIGNAL_TASKS_MAX)]
    assert codes == [""] * (len(codes) - 1) + ["LIMIT"]
    assert len(play.session.tasks) == 20_000


def test_dependencies_that_nobody_waits_for_any_more_make_room() -> None:
    play = plain(dependencies_max=SHARE_MIN)
    for number in range(SHARE_MIN):
        say(play, SignalType.BLOCKED, "A", on=f"d{number}")
        say(play, SignalType.RELEASE, "A")
    assert say(play, SignalType.BLOCKED, "B", on="honest").code == ""
    assert list(play.session.dependencies.records) == ["honest"]


def test_barriers_of_one_leader_have_a_share() -> None:
    play = plain()
    for number in range(AGENT_BARRIERS_MAX):
        say(play, SignalType.INTEGRATION_REQUIRED, "A", name=f"b{number}")
        say(play, SignalType.INTEGRATED, "A", name=f"b{number}", ok=False)
    assert say(play, SignalType.INTEGRATION_REQUIRED, "A", name="more").code == "BARRIER"
    assert say(play, SignalType.INTEGRATION_REQUIRED, "A", name="b0").code == ""
    assert say(play, SignalType.INTEGRATION_REQUIRED, "B", name="more").code == ""


def test_the_shares_follow_from_the_records() -> None:
    play = plain()
    started(play, "A", produces=["x"], task="t")
    started(play, "B", task="t")
    say(play, SignalType.BLOCKED, "B", on="y")
    say(play, SignalType.ESCALATE, "B", question="?", id="q")
    say(play, SignalType.DECIDED, "PERSON", escalation="q", decision="yes")
    session = play.session
    tables = ("agents", "tasks", "dependencies", "claims", "barriers", "escalations")
    kept = {name: getattr(session, name) for name in tables}
    copies = {name: Table(dict(table.records)) for name, table in kept.items()}
    SessionState(name="s", **copies)  # type: ignore[arg-type]  # tables, and no other field
    for name in tables:
        assert +copies[name].owned == +kept[name].owned, name
    assert session.tasks.owned["A"] == 1
