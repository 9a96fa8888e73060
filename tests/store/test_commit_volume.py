"""Commits of thousands of records, fields, forms and keys, on every store."""

import pytest

from fabric.core.record import AgentRecord, AgentStatus
from fabric.core.session import SessionState
from fabric.store import state
from fabric.store.keys import Namespace
from fabric.store.port import BEGINNING, Batch, Lease
from fabric.wire import record
from tests.store.backend import LONG_MS, ORCHESTRATORS, Backend, commit, hold

NAMES = Namespace().partition(0)
KEYS = NAMES.session("s")


@pytest.mark.slow
async def test_thousands_of_records_go_into_one_commit(backend: Backend) -> None:
    """Lua passes at most some 8,000 arguments to one command."""
    store = backend.open()
    lease = await hold(store)
    session = SessionState(name="s", log=7)
    kept = state.StoredSession(KEYS, session)
    for number in range(9_000):
        session.agents.put(f"agent {number}", AgentRecord(AgentStatus.ACTIVE, 1))
    batch = Batch()
    kept.save(batch)
    await commit(store, lease, batch)
    stored = await store.hashes(state.hashes(KEYS))
    found = state.restore(KEYS, stored).state
    assert found.log == 7
    assert found.agents.records == session.agents.records
    for name in list(session.agents.records):
        session.agents.drop(name)
    batch = Batch()
    kept.save(batch)
    await commit(store, lease, batch, version=1)
    assert KEYS.agents not in await backend.dump()


async def test_a_dead_letter_holds_thousands_of_fields(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    fields = [part for n in range(5_000) for part in (b"field %d" % n, b"\xff%d" % n)]
    letter = record.dead_letter(fields, "LIMIT", "too many fields", NAMES.signals, b"5-0")
    batch = Batch()
    batch.append(NAMES.dead, "*", *letter)
    await commit(store, lease, batch)
    ((_, kept),) = await store.entries(NAMES.dead, b"-", b"+", 10)
    assert record.sent_fields(kept) == fields
    assert kept[:4] == [b"code", b"LIMIT", b"reason", b"too many fields"]


async def test_a_dead_letter_may_have_as_many_fields_as_a_signal(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    batch = Batch()
    letters = []
    for number in (0, 1, 64):
        fields = [part for n in range(number) for part in (b"f%d" % n, b"\x00")]
        letters.append(fields)
        letter = record.dead_letter(fields, "LIMIT", "reason", NAMES.signals, b"5-0")
        batch.append(NAMES.dead, "*", *letter)
    await commit(store, lease, batch)
    found = await store.entries(NAMES.dead, b"-", b"+", 10)
    assert [record.sent_fields(kept) for _, kept in found] == letters


async def test_a_batch_with_many_forms_and_keys(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    batch = Batch()
    for number in range(200):
        form = tuple(f"field {n}" for n in range(number % 12 + 1))
        for turn in (1, 2):
            batch.append(KEYS.inbox(f"{number}"), f"{turn}-0", form, [turn] * len(form))
    await commit(store, lease, batch)
    for number in range(200):
        found = await store.entries(KEYS.inbox(f"{number}"), b"-", b"+", 10)
        assert [i for i, _ in found] == [b"1-0", b"2-0"]
        assert [len(fields) for _, fields in found] == [2 * (number % 12 + 1)] * 2
        assert set(found[1][1][1::2]) == {b"2"}


async def test_groups_read_and_commit_apart(backend: Backend) -> None:
    """The orchestrator's commits append the synthesizer's input."""
    store = backend.open()
    lease = await hold(store)
    batch = Batch()
    batch.append(NAMES.results, "*", ("n",), (1,))
    await commit(store, lease, batch)
    folding = await store.acquire(0, "synthesizers", "fold", "n", LONG_MS)
    assert isinstance(folding, Lease)
    ((entry_id, _),) = await store.read(0, "synthesizers", folding.committed, 10, 0)
    await commit(store, folding, upto=entry_id)
    assert await backend.position(NAMES.results, "synthesizers") == entry_id
    assert await backend.position(NAMES.signals, ORCHESTRATORS) == BEGINNING
    await commit(store, lease, version=1)
