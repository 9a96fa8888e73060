"""Deadlocks of fifty, with twenty agents stuck behind them, and cycles that are not deadlocks."""

from collections.abc import Callable

import msgspec
import pytest

from fabric.core.directive import Cancel, DirectiveType
from fabric.core.event import Decision
from fabric.core.signal import SignalType
from tests.support.random_history import Play, signal

RING = [f"agent {number:02}" for number in range(50)]
BEHIND = [f"behind {number:02}" for number in range(20)]

Build = Callable[[Play, str], Decision]


def next_of(name: str) -> str:
    return RING[(RING.index(name) + 1) % len(RING)]


def wait_for_things(play: Play, without: str = "") -> Decision:
    """Each waits for the next one's output, except one; the last one closes the cycle."""
    for name in RING:
        play.say(signal(SignalType.STARTED, name, {"produces": [f"of {name}"]}))
    for number, name in enumerate(BEHIND):
        play.say(signal(SignalType.STARTED, name, {"produces": [f"of {name}"]}))
        # Half of them are stuck behind the ring, the others behind these.
        on = RING[number] if number < 10 else BEHIND[number - 10]
        play.say(signal(SignalType.BLOCKED, name, {"on": f"of {on}"}))
    for name in RING[:-1]:
        decision = play.say(signal(SignalType.BLOCKED, name, {"on": f"of {next_of(name)}"}))
        assert not alarms(decision), "before the cycle is closed"
    if without:
        play.say(signal(SignalType.RELEASE, without, {"resources": [f"of {next_of(without)}"]}))
    return play.say(signal(SignalType.BLOCKED, RING[-1], {"on": f"of {RING[0]}"}))


def wait_for_locks(play: Play, without: str = "") -> Decision:
    """Each holds a file and wants the next one's; one gives up its wait."""
    for name in RING:
        play.say(signal(SignalType.INTENT, name, {"writes": [name]}))
    for name in RING[:-1]:
        decision = play.say(signal(SignalType.INTENT, name, {"writes": [next_of(name)]}))
        assert not alarms(decision), "before the cycle is closed"
    for number, name in enumerate(BEHIND):
        play.say(signal(SignalType.INTENT, name, {"writes": [RING[number + 1]]}))
    if without:
        play.say(signal(SignalType.RELEASE, without, {"resources": [next_of(without)]}))
    return play.say(signal(SignalType.INTENT, RING[-1], {"writes": [RING[0]]}))


def alarms(decision: Decision) -> list[str]:
    """The recipients of a deadlock's question; "" for the log."""
    return [
        message.to
        for message in decision.messages
        if message.type in (SignalType.ESCALATE, DirectiveType.CANCEL)
    ]


def test_a_cycle_of_fifty_over_dependencies_is_named_with_all_who_are_stuck_behind_it() -> None:
    play = Play()
    decision = wait_for_things(play)
    # The log and each of the seventy, in the decision of the signal that closed it.
    assert sorted(alarms(decision)) == ["", *RING, *BEHIND]
    logged = next(m for m in decision.messages if m.type == SignalType.ESCALATE and not m.to)
    context = msgspec.json.decode(logged.payload)["context"]
    assert [link["agent"] for link in context["cycle"]] == [RING[-1], *RING[:-1]]
    for link in context["cycle"]:
        following = next_of(link["agent"])
        assert link == {
            "agent": link["agent"],
            "waits": "dependency",
            "on": f"of {following}",
            "needs": following,
        }
    assert context["affected"] == BEHIND


def test_a_cycle_of_fifty_over_locks_is_broken_at_once() -> None:
    play = Play()
    decision = wait_for_locks(play)
    assert alarms(decision) == [RING[-1]], "of equal priority, the last one that asked"
    told = next(m for m in decision.messages if m.type == DirectiveType.CANCEL)
    cancel = msgspec.json.decode(told.payload, type=Cancel)
    assert cancel.code == "DEADLOCK"
    assert cancel.cycle == [RING[-1], *RING[:-1]]
    assert cancel.affected == BEHIND
    assert cancel.resources == [RING[0]]
    # It keeps what it holds. Given back in order, every agent gets what it wanted.
    served = set()
    holders = [RING[-1]]
    while holders:
        name = holders.pop()
        after = play.say(signal(SignalType.RELEASE, name, {}))
        holders += [m.to for m in after.messages if m.type == DirectiveType.PROCEED]
        served.update(holders)
    assert served == {*RING[:-1], *BEHIND}
    assert not play.session.claims.records


def test_the_least_urgent_member_gives_way_wherever_it_stands() -> None:
    play = Play()
    for number, name in enumerate(RING):
        play.say(signal(SignalType.STARTED, name, {"priority": 1 + abs(number - 17)}))
    decision = wait_for_locks(play)
    assert alarms(decision) == [RING[17]]


@pytest.mark.parametrize("build", [wait_for_things, wait_for_locks])
def test_a_wait_that_was_given_up_before_is_no_part_of_a_cycle(build: Build) -> None:
    play = Play()
    decision = build(play, RING[31])
    assert not alarms(decision)
    assert not play.session.deadlocks
    # The wait begins again and closes the cycle that the others have left open.
    wanted = next_of(RING[31])
    if build is wait_for_things:
        decision = play.say(signal(SignalType.BLOCKED, RING[31], {"on": f"of {wanted}"}))
        assert sorted(alarms(decision)) == ["", *RING, *BEHIND]
    else:
        decision = play.say(signal(SignalType.INTENT, RING[31], {"writes": [wanted]}))
        assert alarms(decision) == [RING[31]]
