"""One sender has its share of a session; what is over is refused, and others find room."""

import pytest

from fabric.core.admission import UNCOUNTED_MAX
from fabric.core.event import Decision, Outcome
from fabric.core.limits import (
    AGENT_BARRIERS_MAX,
    SEQUENCE_SKIPPED_MAX,
    SESSION_ESCALATIONS_MAX,
    SIGNAL_TASKS_MAX,
)
from fabric.core.rules import Rules
from fabric.core.session import SHARE, SHARE_MIN, SessionState, Table
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


def test_open_questions_of_one_agent_have_a_share() -> None:
    play = plain()
    share = SESSION_ESCALATIONS_MAX // SHARE
    codes = [
        say(play, SignalType.ESCALATE, "A", question="?", wait=False).code for _ in range(1_500)
    ]
    assert codes == [""] * share + ["LIMIT"] * (1_500 - share)
    assert say(play, SignalType.ESCALATE, "B", question="?").code == ""


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
