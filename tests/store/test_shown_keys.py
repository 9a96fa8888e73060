"""Locks, queues and barriers as keys of their own, which follow the claims and barriers."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.event import Outcome
from fabric.core.record import ClaimState
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import Signal, SignalType
from fabric.core.step import step
from fabric.store import state
from fabric.store.keys import Namespace
from fabric.store.keyspace import Keyspace
from fabric.store.port import ARGUMENTS_MAX, Batch, Lease
from tests.store.backend import Backend, Store, commit, hold
from tests.support.effort import examples
from tests.support.random_history import EAGER, RULES, START_MS, Play, histories, signal

KEYS = Namespace().partition(0).session("s")

#: Too many waiters for one ZADD: Lua passes at most some 8,000 arguments.
CROWD = 4_500

Said = tuple[str, SignalType, dict[str, Any]]

STARTED, INTENT, RELEASE = SignalType.STARTED, SignalType.INTENT, SignalType.RELEASE
COMPLETED, CHECKPOINT = SignalType.COMPLETED, SignalType.CHECKPOINT_REACHED


class Kept:
    """A session in a store, committed after each group of signals, a second later each time."""

    def __init__(self, backend: Backend, store: Store, lease: Lease, rules: Rules) -> None:
        self._backend = backend
        self._store = store
        self._lease = lease
        self._rules = rules
        self._version = lease.version
        self._kept = state.StoredSession(KEYS, SessionState(name="s"))
        self.now_ms = START_MS

    async def say(self, *signals: Said) -> None:
        """Let agents send signals, and commit what follows."""
        self.now_ms += 1_000
        for emitter, kind, payload in signals:
            said = signal(kind, emitter, payload)
            decision = step(self._kept.state, said, self._rules, self.now_ms)
            assert decision.outcome is Outcome.ACCEPTED, decision
        batch = Batch()
        self._kept.save(batch)
        await commit(self._store, self._lease, batch, version=self._version)
        self._version += 1

    async def restart(self) -> None:
        """Drop the session from memory, and read it again."""
        self._kept = state.restore(KEYS, await self._store.hashes(state.hashes(KEYS)))

    async def shown(self, key: str) -> Any:
        """The content of one key, None if there is none; of a sorted set, the members in order."""
        kind, content = (await self._backend.dump()).get(key, ("", None))
        if kind == "hash":
            return {name.decode(): value.decode() for name, value in content}
        if kind == "zset":
            return [name.decode() for name, _ in sorted(content, key=lambda one: one[::-1])]
        return content


async def kept(backend: Backend, rules: Rules = RULES) -> Kept:
    store = backend.open()
    return Kept(backend, store, await hold(store), rules)


def wants(agent: str, *writes: str, **more: Any) -> Said:
    return agent, INTENT, {"writes": list(writes), **more}


def reads(agent: str, *paths: str) -> Said:
    return agent, INTENT, {"reads": list(paths)}


async def test_a_lock_goes_from_one_to_the_next(backend: Backend) -> None:
    at = await kept(backend)
    await at.say(wants("A", "a.py"))
    granted_ms = at.now_ms
    assert await at.shown(KEYS.lock("a.py")) == {
        "holder": "A",
        "token": "1",
        "since": str(granted_ms),
        "expires": "0",
    }
    await at.say(wants("C", "a.py"))
    await at.say(wants("B", "a.py"))
    assert await at.shown(KEYS.queue("a.py")) == ["C", "B"]
    await at.say(("A", RELEASE, {"resources": ["a.py"]}))
    lock = await at.shown(KEYS.lock("a.py"))
    assert (lock["holder"], lock["token"], lock["since"]) == ("C", "2", str(at.now_ms))
    assert await at.shown(KEYS.queue("a.py")) == ["B"]
    await at.say(("B", RELEASE, {}))
    assert await at.shown(KEYS.queue("a.py")) is None
    await at.say(("C", COMPLETED, {}))
    assert await at.shown(KEYS.lock("a.py")) is None


async def test_the_score_is_the_effective_priority(backend: Backend) -> None:
    at = await kept(backend)
    await at.say(wants("A", "a.py"))
    await at.say(("B", STARTED, {}), ("C", STARTED, {"priority": 1}))
    await at.say(wants("B", "a.py"))
    began_ms = at.now_ms
    await at.say(wants("C", "a.py"))
    kind, queue = (await backend.dump())[KEYS.queue("a.py")]
    assert kind == "zset"
    assert dict(queue) == {b"B": began_ms, b"C": at.now_ms - RULES.ageing_ms}


async def test_a_lock_taken_and_released_within_a_commit_leaves_nothing(backend: Backend) -> None:
    at = await kept(backend)
    await at.say(wants("A", "a.py"), wants("B", "a.py"), ("B", RELEASE, {}), ("A", RELEASE, {}))
    assert not {KEYS.lock("a.py"), KEYS.queue("a.py")} & set(await backend.dump())


async def test_a_time_limit_is_shown(backend: Backend) -> None:
    at = await kept(backend, Rules(hold_ms_max=60_000))
    await at.say(wants("A", "a.py"))
    assert (await at.shown(KEYS.lock("a.py")))["expires"] == str(at.now_ms + 60_000)


async def test_readers_share_a_lock(backend: Backend) -> None:
    at = await kept(backend, Rules(serialize_reads=True))
    await at.say(reads("A", "a.py", "b.py"))
    await at.say(reads("B", "a.py"))
    await at.say(wants("C", "a.py"))
    lock = await at.shown(KEYS.lock("a.py"))
    assert (lock["holder"], lock["token"]) == ("A, B", "2")
    # A keeps the other half of its claim, and its first place in the queue.
    await at.say(("A", RELEASE, {"resources": ["b.py"]}))
    assert await at.shown(KEYS.lock("b.py")) is None
    lock = await at.shown(KEYS.lock("a.py"))
    assert (lock["holder"], lock["token"]) == ("A, B", "2")
    await at.say(("B", RELEASE, {}))
    lock = await at.shown(KEYS.lock("a.py"))
    assert (lock["holder"], lock["token"]) == ("A", "1")
    await at.say(("A", RELEASE, {}))
    lock = await at.shown(KEYS.lock("a.py"))
    assert (lock["holder"], lock["token"]) == ("C", "3")


@pytest.mark.slow
async def test_a_very_long_queue(backend: Backend) -> None:
    """Its members are added and removed in parts."""
    assert CROWD > 2 * ARGUMENTS_MAX
    at = await kept(backend)
    crowd = [f"W{number:04}" for number in range(CROWD)]
    await at.say(wants("A", "a.py"), *(wants(name, "a.py") for name in crowd))
    assert await at.shown(KEYS.queue("a.py")) == crowd
    await at.restart()
    await at.say(*((name, COMPLETED, {}) for name in crowd))
    assert await at.shown(KEYS.queue("a.py")) is None
    assert (await at.shown(KEYS.lock("a.py")))["holder"] == "A"


async def test_a_barrier_as_it_fills_and_empties(backend: Backend) -> None:
    at = await kept(backend)
    await at.say(("A", STARTED, {}), ("B", STARTED, {}), ("C", STARTED, {}))
    call = {"name": "release", "deadline_ms": 5_000}
    await at.say(("D", SignalType.INTEGRATION_REQUIRED, call))
    shown = await at.shown(KEYS.barrier("release"))
    assert shown == {
        "generation": "1",
        "leader": "D",
        "members": '["A","B","C"]',
        "deadline": str(at.now_ms + 5_000),
        "state": "gathering",
    }
    assert await at.shown(KEYS.arrived("release")) is None
    await at.say(("B", CHECKPOINT, {}))
    await at.restart()
    await at.say(("A", CHECKPOINT, {}))
    assert await at.shown(KEYS.arrived("release")) == ["B", "A"]
    await at.say(("B", COMPLETED, {}))
    assert await at.shown(KEYS.arrived("release")) == ["A"]
    await at.say(("C", CHECKPOINT, {}))
    assert (await at.shown(KEYS.barrier("release")))["state"] == "integrating"
    await at.say(("D", SignalType.INTEGRATED, {}))
    assert (await at.shown(KEYS.barrier("release")))["state"] == "over"
    await at.restart()
    # Called again: members that arrived at the last one have not arrived at this one.
    await at.say(("D", SignalType.INTEGRATION_REQUIRED, call))
    shown = await at.shown(KEYS.barrier("release"))
    assert (shown["generation"], json.loads(shown["members"])) == ("2", ["A", "C"])
    assert await at.shown(KEYS.arrived("release")) is None


async def test_a_session_read_again_goes_on_with_the_same_keys(backend: Backend) -> None:
    at = await kept(backend, Rules(serialize_reads=True))
    await at.say(wants("A", "a.py", "b.py"))
    await at.say(wants("B", "a.py"), wants("C", "b.py"), reads("D", "c.py"))
    await at.restart()
    before = await backend.dump()
    await at.say(("E", STARTED, {}))
    after = await backend.dump()
    for key in (KEYS.lock("a.py"), KEYS.queue("a.py"), KEYS.lock("c.py")):
        assert after[key] == before[key]
    await at.say(("A", RELEASE, {"resources": ["a.py"]}))
    assert (await at.shown(KEYS.lock("a.py")))["holder"] == "B"
    assert await at.shown(KEYS.queue("a.py")) is None
    await at.restart()
    await at.say(("A", COMPLETED, {}), ("B", COMPLETED, {}), ("D", COMPLETED, {}))
    assert (await at.shown(KEYS.lock("b.py")))["holder"] == "C"
    assert await at.shown(KEYS.lock("a.py")) is None
    assert await at.shown(KEYS.lock("c.py")) is None
    await at.say(("C", COMPLETED, {}))
    assert not [key for key in await backend.dump() if ":lock:" in key or ":queue:" in key]


def expected(server: Keyspace) -> dict[str, Any]:
    """The expected keys, computed from the stored claims and barriers alone."""
    made: dict[str, Any] = {}
    claims = [json.loads(value) for value in server.hash(KEYS.claims).values()]
    for claim in sorted(claims, key=lambda one: one.get("token", 0)):
        wanted = [*claim["writes"], *claim.get("reads", [])]
        if claim["state"] == ClaimState.WAITING:
            for resource in wanted:
                queue = made.setdefault(KEYS.queue(resource), {})
                score = claim.get("rank_ms", 0)
                queue[claim["agent"]] = min(score, queue.get(claim["agent"], score))
            continue
        for resource in wanted:
            lock = made.setdefault(KEYS.lock(resource), {"holder": claim["agent"]})
            if claim["agent"] not in lock["holder"].split(", "):
                lock["holder"] += f", {claim['agent']}"
            lock["token"] = claim["token"]
            lock["since"] = claim["granted_ms"]
            lock["expires"] = claim.get("expires_ms", 0)
    for name, value in server.hash(KEYS.barriers).items():
        barrier = json.loads(value)
        made[KEYS.barrier(name.decode())] = {
            "generation": barrier["generation"],
            "leader": barrier["leader"],
            "members": json.dumps(barrier.get("members", []), separators=(",", ":")),
            "deadline": barrier.get("deadline_ms", 0),
            "state": barrier["state"],
        }
        if barrier.get("arrived"):
            made[KEYS.arrived(name.decode())] = barrier["arrived"]
    return made


def found(server: Keyspace) -> dict[str, Any]:
    """The keys as they are."""
    kinds = tuple(of("") for of in (KEYS.lock, KEYS.queue, KEYS.barrier, KEYS.arrived))
    shown: dict[str, Any] = {}
    for key in server.keys:
        if key.startswith(kinds) and (kind := server.kind(key)) is not None:
            pairs = server.peek(key, kind).items()
            shown[key] = {name.decode(): _plain(value) for name, value in pairs}
    return shown


def _plain(value: bytes | int) -> str | int:
    if isinstance(value, int):
        return value
    return int(value) if value.isdigit() else value.decode()


@examples(150)
@given(
    st.lists(st.tuples(histories, st.booleans()), min_size=1, max_size=6),
    st.sampled_from([RULES, EAGER]),
)
@pytest.mark.slow
def test_the_keys_always_agree_with_the_records(
    commits: list[tuple[list[tuple[Signal, int]], bool]], rules: Rules
) -> None:
    play, server = Play(rules=rules), Keyspace()
    kept = state.StoredSession(KEYS, play.session)
    for history, is_restarted in commits:
        for one, wait_ms in history:
            play.pass_time(wait_ms)
            play.say(one)
        batch = Batch()
        kept.save(batch)
        server.apply(batch, play.now_ms)
        assert found(server) == expected(server)
        if is_restarted:
            stored = [dict(server.peek(key, "hash") or {}) for key in state.hashes(KEYS)]
            kept = state.restore(KEYS, stored)
            play.session = kept.state
