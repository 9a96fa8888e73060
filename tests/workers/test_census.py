"""Many small sessions of one partition that fall silent together are one outage.

The worker's loop is played here: entries are decided as they come, timers when they are due.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from fabric.config.settings import Settings
from fabric.core.rules import Rules
from fabric.ops.replay import Replay
from fabric.store.keys import Namespace
from fabric.testing.store import MemoryStore
from fabric.wire.stored import fields_of
from tests.support.immediate import run_now
from workers import census
from workers.orchestrator import Orchestrator

PARTITION = Namespace().partition(0)
RULES = Rules(silence_ms_min=60_000, silence_ms_max=600_000)
SILENCE_S = 60
HEARTBEAT_S = 10


class Play:
    """A partition and the worker that serves it now."""

    def __init__(self, *, cached_max: int = 1_000) -> None:
        self.now_ms = 1_767_123_000_000
        self.store = MemoryStore(lambda: self.now_ms)
        self.settings = Settings(sessions_cached_max=cached_max)
        #: Store reads of single fields, which only a census makes.
        self.looks = 0
        self._count_looks()
        self.replace_worker()

    def replace_worker(self) -> None:
        """Let a worker go on that has nothing in memory."""
        self.worker = Orchestrator(self.store, PARTITION, RULES, self.settings)

    def say(self, session: str, agent: str, kind: str, payload: str = "{}") -> None:
        flat = ["session", session, "type", kind, "emitter", agent, "payload", payload]
        entry = b"%d-0" % self.now_ms, [part.encode() for part in flat]
        self._decide(run_now(self.worker.prepare([entry])))

    def live(self, seconds: int, heard: Sequence[str]) -> None:
        """Let time pass: agent A of each of these sessions sends a heartbeat now and then."""
        for _ in range(seconds // HEARTBEAT_S):
            for place, session in enumerate(heard):
                self._pass(HEARTBEAT_S * 1_000 // len(heard) * (place > 0))
                self.say(session, "A", "HEARTBEAT")
            self._pass(HEARTBEAT_S * 1_000 // max(1, len(heard)))

    def statuses(self, sessions: Sequence[str], agent: str = "A") -> set[str]:
        return {self._records(name, "agents")[agent]["status"] for name in sessions}

    def questions(self, session: str, state: str = "open") -> list[str]:
        asked = self._records(session, "escalations")
        return [name for name, one in asked.items() if one["state"] == state]

    def dead_after_s(self, session: str, agent: str = "A") -> float:
        """Return for how long an agent was silent when it was declared dead."""
        log = [fields_of(flat) for _, flat in self._log(session)]
        (died,) = [row for row in log if row.get(b"timer") == f"silence:{agent}".encode()]
        heard = [row for row in log if row.get(b"emitter") == agent.encode()]
        return (int(died[b"ms"]) - int(heard[-1][b"ms"])) / 1000

    def asked_after_s(self, session: str) -> float:
        """Return for how long a session's only agent was silent when a person was asked."""
        (asked,) = self._records(session, "escalations").values()
        seen_ms: int = self._records(session, "agents")["A"]["seen_ms"]
        return int(asked["asked_ms"] - seen_ms) / 1000

    def replay(self, session: str) -> Replay:
        """See that the log alone gives the same session."""
        replay = Replay(PARTITION.session(session))
        for entry in self._log(session):
            assert replay.take(entry)
        replay.finish()
        for table in ("agents", "escalations"):
            made = getattr(replay.session, table).records
            encoded = {name: msgspec.json.decode(msgspec.json.encode(made[name])) for name in made}
            assert encoded == self._records(session, table)
        return replay

    def _log(self, session: str) -> list[tuple[bytes, list[bytes]]]:
        return run_now(self.store.entries(PARTITION.session(session).log, b"-", b"+", 10**6))

    def _records(self, session: str, table: str) -> dict[str, dict[str, Any]]:
        (found,) = run_now(self.store.hashes([getattr(PARTITION.session(session), table)]))
        return {name.decode(): msgspec.json.decode(value) for name, value in found.items()}

    def _pass(self, ms: int) -> None:
        end_ms = self.now_ms + ms
        timers = self.store.data.sorted_set(PARTITION.deadlines)
        while timers and (first_ms := min(timers.values())) <= end_ms:
            self.now_ms = max(self.now_ms, first_ms)
            due = sorted(member for member, at in timers.items() if at <= self.now_ms)
            self._decide(run_now(self.worker.prepare_timers(due[:100], self.now_ms)))
        self.now_ms = end_ms

    def _decide(self, inputs: list[object]) -> None:
        while inputs:
            decided = self.worker.decide(inputs, self.now_ms)
            self.store.data.apply(decided.batch, self.now_ms)
            inputs = inputs[decided.taken :]

    def _count_looks(self) -> None:
        fields: Callable[..., object] = self.store.fields

        def counted(key: str, names: Sequence[str]) -> object:
            self.looks += not key.endswith(":lease")
            return fields(key, names)

        self.store.fields = counted  # type: ignore[method-assign,assignment] # counts, no more


def names(count: int) -> list[str]:
    return [f"s{number:03}" for number in range(count)]


def started(sessions: Sequence[str], **options: int) -> Play:
    """Sessions of one agent each that have a rhythm."""
    play = Play(**options)
    for session in sessions:
        play.say(session, "A", "STARTED")
    play.live(60, sessions)
    assert play.looks == 0  # nobody was about to be given up
    return play


@pytest.mark.parametrize("cached_max", [1_000, 1])
def test_small_sessions_cut_off_together_lose_nobody(cached_max: int) -> None:
    """For three times the silence that would end one of them; then they return."""
    sessions = names(12)
    play = started(sessions, cached_max=cached_max)
    play.live(3 * SILENCE_S, [])
    assert play.statuses(sessions) == {"active"}
    assert [len(play.questions(name)) for name in sessions] == [1] * 12
    play.live(2 * SILENCE_S, sessions)
    assert play.statuses(sessions) == {"active"}
    assert not any(play.questions(name) for name in sessions)
    for name in sessions:
        replay = play.replay(name)
        assert [one.peers for one in replay.session.escalations.records.values()] == [11]


def test_one_that_dies_alone_is_given_up_on_time() -> None:
    sessions = names(12)
    play = started(sessions)
    play.live(2 * SILENCE_S, sessions[1:])
    assert play.statuses(sessions[:1]) == {"dead"}
    assert SILENCE_S <= play.dead_after_s("s000") <= SILENCE_S + 1
    assert not play.questions("s000")
    assert play.statuses(sessions[1:]) == {"active"}
    play.replay("s000")
    # One look into each session, for the only one that was about to be given up.
    assert play.looks == len(sessions)


def test_a_worker_that_takes_over_knows_of_sessions_that_it_has_not_loaded() -> None:
    sessions = names(12)
    play = started(sessions)
    play.live(SILENCE_S - 20, [])
    play.replace_worker()
    play.live(2 * SILENCE_S, [])
    assert play.statuses(sessions) == {"active"}
    play.replace_worker()
    play.live(2 * SILENCE_S, sessions)
    assert play.statuses(sessions) == {"active"}
    for name in sessions:
        play.replay(name)


def test_cut_off_for_good_somebody_is_asked_until_the_answer() -> None:
    sessions = names(4)
    play = started(sessions)
    play.live(100 * SILENCE_S, [])
    assert play.statuses(sessions) == {"active"}
    for name in sessions:
        assert SILENCE_S <= play.asked_after_s(name) <= SILENCE_S + 1
        (question,) = play.questions(name)
        answer = f'{{"escalation": "{question}", "decision": "give up"}}'
        play.say(name, "PERSON", "DECIDED", answer)
        play.live(SILENCE_S, [])
        assert play.statuses([name]) == {"dead"}
        play.replay(name)
    assert play.store.data.sorted_set(PARTITION.deadlines).keys() == {b":retention"}


def test_those_lost_for_good_are_given_up_once_others_are_heard_again() -> None:
    """Nobody has answered: most agents have started again elsewhere, in sessions of their own."""
    lost, fresh = names(4), [f"t{number}" for number in range(6)]
    play = started(lost)
    play.live(10 * SILENCE_S, [])
    for session in fresh:
        play.say(session, "A", "STARTED")
    play.live(4 * SILENCE_S, fresh)
    assert play.statuses(lost) == {"dead"}
    assert play.statuses(fresh) == {"active"}
    for name in lost:
        play.replay(name)


def test_agents_lost_long_ago_do_not_excuse_one_that_dies_now() -> None:
    lost, fresh = names(6), ["t0", "t1"]
    play = started(lost)
    play.live(30 * SILENCE_S, [])
    for session in fresh:
        play.say(session, "A", "STARTED")
    play.live(2 * SILENCE_S, fresh)
    play.live(2 * SILENCE_S, fresh[1:])
    assert play.statuses(lost) == {"active"}  # two are too few to close six questions
    assert play.statuses(["t0"]) == {"dead"}
    assert SILENCE_S <= play.dead_after_s("t0") <= SILENCE_S + 1


def test_a_contested_lock_is_freed_in_each_session_while_the_question_is_open() -> None:
    """The holders' host is cut off; those that wait for their locks are on another one."""
    sessions = names(6)
    play = started(sessions)
    for session in sessions:
        play.say(session, "H", "INTENT", '{"writes": ["a.py"]}')
        for _ in range(4):
            play.say(session, "H", "HEARTBEAT")
        play.say(session, "A", "INTENT", '{"writes": ["a.py"]}')
    play.live(13 * SILENCE_S, sessions)
    assert play.statuses(sessions, "H") == {"dead"}
    assert play.statuses(sessions) == {"active"}
    for name in sessions:
        assert play.dead_after_s(name, "H")
        assert len(play.questions(name, "decided")) == 1
        play.replay(name)


def test_a_share_of_a_large_partition_is_told_by_a_sample() -> None:
    """Every third session is cut off: fewer than half, so each of these agents is given up."""
    sessions = names(3 * census.AGENTS_MAX)
    play = started(sessions)
    play.live(SILENCE_S + 20, [name for n, name in enumerate(sessions) if n % 3])
    assert play.statuses(sessions[::3]) == {"dead"}
    assert play.looks <= 10 * census.AGENTS_MAX


def test_a_session_with_spoilt_records_stops_no_census() -> None:
    sessions = names(12)
    play = started(sessions)
    agents = play.store.data.hash(PARTITION.session("s003").agents)
    agents[b"A"] = b"no record"
    play.live(2 * SILENCE_S, sessions[4:])
    assert play.statuses(sessions[:3]) == {"dead"}
