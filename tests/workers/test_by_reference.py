"""A commit copies from the input what the worker would have sent; and entries that are gone."""

import random
from collections.abc import Callable, Iterator

import pytest

from fabric.core.rules import Rules
from fabric.store.keyspace import writes
from fabric.store.port import Entry
from fabric.testing.store import MemoryStore
from fabric.wire.record import CopyingForm
from tests.support.immediate import run_now
from tests.support.in_process import settings
from tests.support.waiting import eventually
from tests.workers import hostile
from tests.workers.folding import folding, put
from tests.workers.troubled import PARTITION, TroubledStore, working
from workers.handler import COPIED_BYTES_MIN, Handler
from workers.orchestrator import Orchestrator
from workers.synthesizer import Synthesizer

START_MS = 1_767_123_000_000

#: Some entries that are rewritten, and some whose fields say the same in another way.
SPELLINGS: list[list[bytes]] = [
    [b"signal", b"PROGRESS", b"percent", b"50%"],
    [b"signal_type", b"STARTED", b"timestamp", b"2026-01-01T00:00:00Z", b"payload", b"{}"],
    [b"type", b"PROGRESS(25%)", b"payload", b"{}"],
    [b"type", b"BLOCKED(x)"],
    [b"type", b"PARTIAL_RESULT", b"payload", b'{"partial": {"n": 1}}', b"incarnation", b"0001"],
    [b"type", b"HEARTBEAT", b"payload", b""],
    [b"type", b"HEARTBEAT"],
    [b"type", b"HEARTBEAT", b"payload", b"{}", b"type", b"HEARTBEAT"],
    [b"type", b"PROGRESS", b"payload", b"[]", b"x", b"1", b"x", b"2"],
    [b"type", b"PROGRESS", b"payload", b"{", b"seq", b"0001", b"stream", b""],
    [b"type", b"PROGRESS", *(part for n in range(70) for part in (b"f%d" % n, b"v"))],
]


def _entries(chance: random.Random) -> Iterator[list[bytes]]:
    """Yield entries in any order of fields, with more of them, and in every spelling."""
    for position, flat in enumerate(hostile.entries(600, chance.randrange(10**6))):
        more = [(b"stream", b"S"), (b"seq", b"%d" % position), (b"trace", b"t"), (b"hops", b"2")]
        pairs = list(zip(flat[::2], flat[1::2], strict=True)) + chance.sample(more, 2)
        chance.shuffle(pairs)
        yield [part for pair in pairs for part in pair]
        if position % 10 == 0:
            agent = b"agent-%d" % chance.randrange(40)
            yield [b"session", b"crowded", b"emitter", agent, *chance.choice(SPELLINGS)]


@pytest.fixture(autouse=True)
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy whatever the size of the entries."""
    monkeypatch.setattr(Handler, "copied_bytes_min", 0)


def _check(make: Callable[[], Handler], flats: Iterator[list[bytes]]) -> dict[str, int]:
    """Let a handler decide entries, and one that sends all values; compare what is written.

    Returns how many of each kind of stream were copied.
    """
    copied: dict[str, int] = {}
    copying, sending = make(), make()
    sending.copied_bytes_min = 1_000_000
    for number, flat in enumerate(flats):
        entries: list[Entry] = [(b"%d-%d" % (START_MS + number, part), flat) for part in range(2)]
        batch, sent = (
            one.decide(run_now(one.prepare(entries)), START_MS + number).batch
            for one in (copying, sending)
        )
        assert batch.inputs == [entry_id for entry_id, _ in entries]
        assert not sent.copied
        assert [*writes(batch, entries)] == [*writes(sent)]
        for form in batch.forms:
            if isinstance(form, CopyingForm):
                kind = str(form[0]) + ("" if len(form) > 7 else f" {len(form)}")
                copied[kind] = copied.get(kind, 0) + 1
    return copied


@pytest.mark.parametrize("seed", range(3))
def test_an_orchestrator_copies_what_it_would_send(seed: int) -> None:
    store = MemoryStore(lambda: START_MS)
    copied = _check(
        lambda: Orchestrator(store, PARTITION, Rules(), settings("redis://unused")),
        _entries(random.Random(seed)),
    )
    # Log entries, results and dead letters; log entry and inbox entry of a forwarded signal.
    assert {"kind", "session", "code", "kind 7", "type 6"} <= {*copied}, copied


def test_a_synthesizer_copies_what_it_would_send() -> None:
    store = MemoryStore(lambda: START_MS)
    copied = _check(
        lambda: Synthesizer(store, PARTITION, Rules(), settings("redis://unused"), {}),
        hostile.results(600, 1),
    )
    assert {*copied} == {"code"}


async def _result(store: TroubledStore, number: int) -> None:
    await store.say("s", "A", "PARTIAL_RESULT", f'{{"partial": {{"n": {number}}}}}')


async def test_only_large_entries_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "copied_bytes_min", COPIED_BYTES_MIN)
    handler = Orchestrator(
        MemoryStore(lambda: START_MS), PARTITION, Rules(), settings("redis://unused")
    )
    fields = [b"session", b"s", b"type", b"PARTIAL_RESULT", b"emitter", b"A", b"payload"]
    for number, size in enumerate((COPIED_BYTES_MIN - 200, COPIED_BYTES_MIN), 1):
        payload = b'{"partial": {"x": "%s"}}' % (b"x" * size)
        entries: list[Entry] = [(b"%d-%d" % (START_MS, number), [*fields, payload])]
        handler.entry_bytes = sum(map(len, entries[0][1]))
        batch = handler.decide(await handler.prepare(entries), START_MS).batch
        assert bool(batch.copied) is (size == COPIED_BYTES_MIN)
        assert (payload.decode() in batch.operations) is not bool(batch.copied)


async def test_an_entry_that_is_deleted_between_read_and_commit_was_never_sent() -> None:
    store = TroubledStore()
    async with working(store) as work:
        store.gate.clear()
        await _result(store, 0)
        await eventually(lambda: store.under_way == 1, "a commit is under way")
        for number in (1, 2, 3):
            await _result(store, number)
        await eventually(lambda: len(work.decided) >= 2, "the others are decided")
        epoch = store.data.hash(PARTITION.lease("orchestrators"))[b"epoch"]
        ids = [row["id"].encode() for row in store.rows(PARTITION.signals)]
        assert await store.delete_entries(PARTITION.signals, [ids[0], ids[2]]) == 2
        store.gate.set()
        await eventually(store.is_settled, "all are through")
        assert store.data.hash(PARTITION.lease("orchestrators"))[b"epoch"] == epoch
    payloads = [row["payload"] for row in store.rows(PARTITION.results)]
    assert payloads == ['{"partial": {"n": 1}}', '{"partial": {"n": 3}}']
    assert store.log("s") == ["1-0 PARTIAL_RESULT", "2-0 PARTIAL_RESULT"]


async def test_a_refused_result_that_is_deleted_before_the_commit() -> None:
    store = TroubledStore()
    async with folding(store):
        store.gate.clear()
        await put(store, [[b"session", b"s"], [b"session", b"t"]])
        await eventually(lambda: store.under_way == 1, "a commit is under way")
        first = store.rows(PARTITION.results)[0]["id"].encode()
        assert await store.delete_entries(PARTITION.results, [first]) == 1
        store.gate.set()
        await eventually(store.is_folded, "all are through")
    assert [row["raw.session"] for row in store.rows(PARTITION.dead)] == ["t"]
