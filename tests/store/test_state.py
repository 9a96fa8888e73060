"""A session's records as hash fields, and back."""

import json

import msgspec
import pytest
from msgspec import Raw

from fabric.core.record import (
    AgentRecord,
    AgentStatus,
    BarrierRecord,
    BarrierState,
    ClaimRecord,
    ClaimState,
    DependencyRecord,
    DependencyStatus,
    EscalationRecord,
    EscalationState,
)
from fabric.core.session import SessionState, Table
from fabric.core.task import TaskRecord, TaskStatus
from fabric.errors import TamperedError
from fabric.store import state
from fabric.store.keys import Namespace
from fabric.store.keyspace import Keyspace
from fabric.store.port import Batch

KEYS = Namespace().partition(0).session("s")
NOTHING: list[dict[bytes, bytes]] = [{} for _ in range(10)]


def full() -> SessionState:
    session = SessionState(
        name="s",
        log=7,
        clock_ms=1_767_123_000_000,
        opened_ms=1_767_122_000_000,
        token=3,
        rules="0a1b",
        claims=Table(
            {"5:whole": ClaimRecord("whole", ClaimState.HELD, ["x.py"], asked=5, token=3)}
        ),
        barriers=Table(
            {"b": BarrierRecord(BarrierState.GATHERING, 1, "w", ["z", "a"], {"z": 2, "a": 1})}
        ),
        escalations=Table(
            {
                "q": EscalationRecord(
                    EscalationState.OPEN, "Which?", "whole", context=Raw(b'{"n":[1, 2]}')
                )
            }
        ),
    )
    for table in (session.claims, session.barriers, session.escalations):
        table.changed |= set(table.records)
    session.order.changed.add("x.py")
    session.agents.put(
        "\u00e9",
        AgentRecord(
            AgentStatus.BLOCKED, 3, percent=62.5, waits_for=["x"], produces=["y"], eta_ms=5
        ),
    )
    session.agents.put("whole", AgentRecord(AgentStatus.ACTIVE, 1, percent=50))
    session.tasks.put(
        "t", TaskRecord("t", TaskStatus.IN_PROGRESS, progress_percent=75, partial_findings=["2 a"])
    )
    session.dependencies.put(
        "x", DependencyRecord(waiters={"\u00e9": "4-0", "a": "5-0"}, location=None)
    )
    session.dependencies.put(
        "y", DependencyRecord(DependencyStatus.RESOLVED, location="", nudged={"p": 2})
    )
    return session


def saved(session: SessionState, server: Keyspace) -> list[dict[bytes, bytes]]:
    batch = Batch()
    state.StoredSession(KEYS, session).save(batch)
    server.apply(batch, 0)
    return [dict(server.peek(key, "hash") or {}) for key in state.hashes(KEYS)]


def test_a_session_comes_back_as_it_was() -> None:
    found = state.restore(KEYS, saved(full(), Keyspace())).state
    expected = full()
    for field in ("log", "clock_ms", "opened_ms", "token", "rules"):
        assert getattr(found, field) == getattr(expected, field)
    assert found.agents.records == expected.agents.records
    assert found.tasks.records == expected.tasks.records
    assert found.dependencies.records == expected.dependencies.records
    assert found.claims.records == expected.claims.records
    assert found.barriers.records == expected.barriers.records
    assert found.escalations.records == expected.escalations.records
    assert found.order.holders("x.py") == ["5:whole"]
    # Dictionaries are equal in any order, but the first waiter must still come first.
    waiting = found.dependencies.get("x")
    assert waiting is not None
    assert list(waiting.waiters) == ["\u00e9", "a"]
    barrier = found.barriers.get("b")
    assert barrier is not None
    assert list(barrier.arrived) == ["z", "a"]


def test_a_session_saved_again_is_the_same_bytes() -> None:
    """50 stays 50, and does not become 50.0."""
    first = saved(full(), Keyspace())
    again = state.restore(KEYS, first).state
    tables = (again.agents, again.tasks, again.dependencies)
    for table in (*tables, again.claims, again.barriers, again.escalations):
        table.changed |= set(table.records)
    assert saved(again, Keyspace()) == first


def test_only_what_has_changed_is_written() -> None:
    session, server = full(), Keyspace()
    saved(session, server)
    batch = Batch()
    state.StoredSession(KEYS, session).save(batch)
    assert batch.keys == [KEYS.meta]
    session.tasks.drop("t")
    session.agents.put("new", AgentRecord(AgentStatus.ACTIVE, 1))
    batch = Batch()
    state.StoredSession(KEYS, session).save(batch)
    assert batch.keys == [KEYS.meta, KEYS.agents, KEYS.tasks]
    server.apply(batch, 0)
    assert server.kind(KEYS.tasks) is None
    assert set(server.hash(KEYS.agents)) == {"\u00e9".encode(), b"whole", b"new"}


def test_what_redis_cli_shows_is_json() -> None:
    agents = saved(full(), Keyspace())[1]
    assert json.loads(agents[b"whole"]) == {"status": "active", "incarnation": 1, "percent": 50}


def test_no_records_are_a_new_session() -> None:
    found = state.restore(KEYS, NOTHING).state
    assert (found.log, found.token, found.rules) == (0, 0, "")
    assert (len(found.agents), len(found.tasks), len(found.dependencies)) == (0, 0, 0)
    assert (len(found.claims), len(found.barriers), len(found.escalations)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("place", "field", "value"),
    [
        (0, b"log", b"many"),
        (0, b"clock_ms", b""),
        (0, b"log", b"1.5"),
        (1, b"A", b"{"),
        (1, b"A", b"{}"),
        (1, b"A", b'{"status":"asleep","incarnation":1}'),
        (1, b"A", b'{"status":"active","incarnation":"one"}'),
        (1, b"\xff", b'{"status":"active","incarnation":1}'),
        (1, b"A", b"[" * 100_000),
        (2, b"t", b"null"),
        (3, b"x", b'{"waiters":["A"]}'),
        (0, b"token", b"one"),
        (4, b"5:A", b'{"agent":"A","state":"held"}'),
        (4, b"6:A", b'{"agent":"A","state":"held","writes":["a"],"asked":5}'),
        (4, b"5:B", b'{"agent":"A","state":"waiting","writes":["a"],"asked":5}'),
        (5, b"b", b'{"state":"open","generation":1,"leader":""}'),
        (6, b"q", b'{"state":"open"}'),
        (7, b"A", b"3"),
        (0, b"run", b"two"),
        (0, b"log", b"-1"),
        (0, b"log", b"9" * 19),
        (0, b"clock_ms", b"9" * 5_000),
        (4, b"5:A", b'{"agent":"A","state":"held","writes":["a"],"rank_ms":%s}' % (b"9" * 400)),
        (5, b"b", b'{"state":"over","generation":1,"leader":"","arrived":{"A":1%030d}}' % 0),
        (1, b"A", b'{"status":"active","incarnation":1,"intervals":[-1%018d]}' % 0),
    ],
)
def test_an_error_in_a_damaged_field_names_its_key(place: int, field: bytes, value: bytes) -> None:
    stored = [dict(part) for part in NOTHING]
    stored[place][field] = value
    with pytest.raises(TamperedError) as caught:
        state.restore(KEYS, stored)
    assert caught.value.key == state.hashes(KEYS)[place]


def test_a_long_number_from_an_agent_is_kept() -> None:
    """In a text, or in JSON from an agent, it is not one of our numbers."""
    question = b'{"state":"open","question":"9%030d","asker":"A","context":{"id":9%030d}}' % (0, 0)
    task = b'{"content":"9%030d","status":"pending"}' % 0
    stored = [dict(part) for part in NOTHING]
    stored[0][b"log"], stored[2][b"t"], stored[6][b"q"] = b"1", task, question
    found = state.restore(KEYS, stored).state
    assert msgspec.json.encode(found.escalations.records["q"]) == question
    assert msgspec.json.encode(found.tasks.records["t"]) == task


def test_the_keys_of_a_barrier_that_made_room_go_too() -> None:
    keys = KEYS
    stored = state.StoredSession(keys, SessionState(name="s"))
    barrier = BarrierRecord(BarrierState.OVER, 1, "A", members=["B"], arrived={"B": 5})
    stored.state.barriers.put("release", barrier)
    stored.save(Batch())
    stored.state.barriers.drop("release")
    batch = Batch()
    stored.save(batch)
    removed = {keys.barrier("release"), keys.arrived("release"), keys.barriers}
    assert removed <= set(batch.keys)
    assert not stored.shown
