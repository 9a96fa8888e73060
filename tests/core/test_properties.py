"""What holds for every history, sensible or not (see tests/support/random_history.py)."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.event import Decision, Outcome
from fabric.core.record import AgentStatus
from fabric.core.rules import Rules
from fabric.core.signal import GIVING, Signal, SignalType
from fabric.store import state
from fabric.store.keys import Namespace
from fabric.store.keyspace import Keyspace
from fabric.store.port import Batch
from tests.support.effort import examples
from tests.support.invariant import check
from tests.support.random_history import (
    AGENTS,
    EAGER,
    NARROW,
    PAYLOADS,
    RULES,
    START_MS,
    THINGS,
    Notifications,
    Play,
    asks,
    histories,
    resumed,
    signal,
    written,
)

History = list[tuple[Signal, int]]

KEYS = Namespace().partition(0).session("s")
ROOT = Path(__file__).resolve().parent.parent.parent

rules = st.sampled_from([RULES, NARROW, EAGER])


def played(history: History, rules: Rules) -> Play:
    play = Play(rules=rules)
    for one, wait_ms in history:
        play.pass_time(wait_ms)
        play.say(one)
    return play


@examples(60)
@given(histories, rules)
def test_the_same_signals_give_the_same_decisions(history: History, rules: Rules) -> None:
    first, second = played(history, rules), played(history, rules)
    assert first.outcome == second.outcome
    assert written(first.session) == written(second.session)


@examples(150)
@given(histories, rules)
def test_the_records_agree_after_every_event(history: History, rules: Rules) -> None:
    play = Play(rules=rules)
    for one, wait_ms in history:
        play.pass_time(wait_ms)
        check(play.session)
        play.say(one)
        check(play.session)


@examples(100)
@given(histories, rules)
def test_log_numbers_are_dense(history: History, rules: Rules) -> None:
    play = Play(rules=rules)
    for one, wait_ms in history:
        before, events = play.session.log, len(play.outcome)
        play.pass_time(wait_ms)
        assert play.session.log == before + len(play.outcome) - events
        before = play.session.log
        repeated = play.say(one).outcome is Outcome.REPEATED
        assert play.session.log == before + (not repeated)


@examples(100)
@given(histories, rules)
def test_who_is_told_to_resume_was_blocked(history: History, rules: Rules) -> None:
    play = Play(rules=rules)
    for one, wait_ms in history:
        play.pass_time(wait_ms)
        blocked = {
            name
            for name, agent in play.session.agents.records.items()
            if agent.status is AgentStatus.BLOCKED
        }
        told = resumed(play.say(one))
        assert len(set(told)) == len(told)
        for name in told:
            assert name in blocked or (name == one.emitter and asks(one))
            agent = play.session.agents.get(name)
            assert agent is not None
            # What it waited for may have called a barrier in the same event.
            is_led = bool(rules.triggers) and agent.status is AgentStatus.PAUSED
            assert agent.status is AgentStatus.ACTIVE or is_led


@examples(200)
@given(histories)
def test_nobody_waits_unknowing_for_what_nobody_makes(history: History) -> None:
    play = Play()
    ledger = Notifications(play)
    play.watch = ledger.note
    for one, wait_ms in history:
        play.pass_time(wait_ms)
        ledger.check()
        play.say(one)
        ledger.check()


@examples(100)
@given(histories, rules, st.data())
def test_a_restored_session_decides_as_the_one_it_was_saved_from(
    history: History, rules: Rules, data: st.DataObject
) -> None:
    server = Keyspace()

    whole, other = Play(rules=rules), Play(rules=rules)

    kept = state.StoredSession(KEYS, other.session)

    def commit(decision: Decision, _: str) -> None:
        if decision.outcome is not Outcome.REPEATED:
            batch = Batch()
            kept.save(batch)
            server.apply(batch, other.now_ms)

    other.watch = commit
    for one, wait_ms in history:
        for play in (whole, other):
            play.pass_time(wait_ms)
            play.say(one)
        if data.draw(st.booleans()):
            # A worker that takes over knows only what was committed; and a server's hashes have an
            # order of their own.
            stored = [
                dict(sorted((server.peek(key, "hash") or {}).items(), reverse=True))
                for key in state.hashes(KEYS)
            ]
            kept = state.restore(KEYS, stored)
            other.session = kept.state
    assert whole.outcome == other.outcome
    assert written(whole.session) == written(other.session)


@examples(100)
@given(histories, rules, st.data())
def test_a_repeat_changes_nothing(history: History, rules: Rules, data: st.DataObject) -> None:
    play = Play(rules=rules)
    seen: list[Signal] = []
    for one, wait_ms in history:
        play.pass_time(wait_ms)
        accepted = play.say(one).outcome is Outcome.ACCEPTED
        # An outsider (a person, a conflict detector) has no record to count its signals by.
        if accepted and one.seq and one.incarnation and one.emitter in play.session.agents:
            seen.append(one)
        for again in data.draw(st.lists(st.sampled_from(seen), max_size=3)) if seen else []:
            play.pass_time(data.draw(st.integers(0, 10_000)))
            before = written(play.session)
            decision = play.say(again)
            assert not decision.timers
            assert not decision.to_results
            if decision.outcome is Outcome.REPEATED:
                assert not decision.messages
                assert written(play.session) == before
            else:
                assert decision.code in ("STALE_INCARNATION", "CLOSED", "OPEN", "ENDED")
                assert {message.type for message in decision.messages} <= {"NOTICE"}


@examples(100)
@given(st.data())
def test_in_whatever_order_waits_and_results_come_everybody_goes_on(data: st.DataObject) -> None:
    waits = data.draw(
        st.sets(st.tuples(st.sampled_from(AGENTS), st.sampled_from(THINGS)), min_size=1)
    )
    declares, completes = data.draw(st.booleans()), data.draw(st.booleans())
    events = [signal(SignalType.BLOCKED, name, {"on": on}) for name, on in sorted(waits)]
    events += [
        signal(SignalType.COMPLETED, f"maker of {on}", {})
        if declares and completes
        else signal(SignalType.DEPENDENCY_RESOLVED, f"maker of {on}", {"dependency_id": on})
        for on in THINGS
    ]
    play = Play()
    if declares:
        for on in THINGS:
            play.say(signal(SignalType.STARTED, f"maker of {on}", {"produces": [on]}))
    inboxes: dict[str, list[str]] = {name: [] for name in AGENTS}
    for one in data.draw(st.permutations(events)):
        for message in play.say(one).messages:
            inboxes.setdefault(message.to, []).append(message.type)
    for name, asked in ((name, [on for who, on in waits if who == name]) for name in AGENTS):
        if asked:
            agent = play.session.agents.get(name)
            assert agent is not None
            assert agent.status is AgentStatus.ACTIVE
            assert inboxes[name].count("DEPENDENCY_RESOLVED") == len(asked)
            assert inboxes[name][-1] == "RESUME"


def arbitrary(seed: int, number: int = 1_500) -> bytes:
    """Return the decisions and records of a long history that a seed determines."""
    chance = random.Random(seed)
    play = Play()
    many = [f"part {number}" for number in range(12)]
    play.say(signal(SignalType.STARTED, "P", {"produces": many}))
    play.say(signal(SignalType.STARTED, "Q", {"produces": many}))
    for on in many:
        play.say(signal(SignalType.BLOCKED, "W", {"on": on}))
    play.say(signal(SignalType.STARTED, "P", {}))
    play.say(signal(SignalType.STARTED, "Q", {}))
    for _ in range(number):
        kind = chance.choice([*PAYLOADS, SignalType.BLOCKED, SignalType.STARTED])
        payload = {
            "produces": chance.sample(THINGS, chance.randint(0, 3)),
            "on": chance.choice(THINGS),
            "dependency_id": chance.choice(THINGS),
            "consumers": chance.choices(AGENTS, k=3),
            "resources": chance.choices(THINGS, k=2),
            "percent": chance.randint(0, 100),
            "partial": {} if kind in GIVING else None,
            "agents": chance.sample(AGENTS, 2),
            "question": "?",
            "escalation": "1-0",
            "decision": "!",
            "refiner": "R",
            "value": 1,
            "task": chance.choice(THINGS),
            "tasks": [{"id": chance.choice(THINGS)}],
            "from": "a",
            "to": "b",
            "keys": ["a", "b"],
        }
        play.pass_time(chance.randint(0, 2_000))
        play.say(signal(kind, chance.choice(AGENTS), payload, incarnation=chance.choice([0, 0, 9])))
    return hashlib.sha256(b"".join([*play.outcome, written(play.session)])).digest()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_processes_agree_whatever_the_order_of_their_sets(seed: int) -> None:
    program = "from tests.core.test_properties import arbitrary; import sys;"
    program += f"sys.stdout.write(arbitrary({seed}).hex())"
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in (1, 2, 3)
    }
    assert found == {arbitrary(seed).hex()}


def test_a_clock_that_goes_back_is_ignored() -> None:
    play = Play()
    play.say(signal(SignalType.PROGRESS, "A", {"percent": 10}))
    play.now_ms = START_MS - 60_000
    play.say(signal(SignalType.PROGRESS, "A", {"percent": 20}))
    agent = play.session.agents.get("A")
    assert agent is not None
    assert agent.seen_ms == play.session.clock_ms == START_MS


@pytest.mark.parametrize("percent", [5e-324, 1e-300, 1e-9, 99.99999999999999])
def test_no_rate_is_beyond_what_can_be_written_down(percent: float) -> None:
    play = Play()
    play.say(signal(SignalType.STARTED, "A", {}))
    play.pass_time(86_400_000)
    play.say(signal(SignalType.PROGRESS, "A", {"percent": percent}))
    assert msgspec.json.decode(written(play.session))
