"""The synthesizer in the real loop: what it folds, and in which commits and revisions."""

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from fabric.core.rule_table import Merge
from fabric.core.rules import Rules
from fabric.store.redis import RedisStore
from tests.support.folding import entry
from tests.support.servers import RunningServer
from tests.support.waiting import eventually
from tests.workers.folding import (
    KEYS,
    expected,
    folded,
    folding,
    of,
    outcome,
    part,
    put,
    rows,
)
from tests.workers.troubled import PARTITION, TroubledStore
from workers import extension, synthesizer


def finding(key: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"findings": [{"key": key, "value": value, **more}]}


#: Three agents agree, contradict, supersede, retract, restart and end; a document grows meanwhile.
STORY = [
    entry("A", 1, finding("port", 80), percent=10),
    entry("B", 2, finding("port", 81), percent=20),
    entry("A", 3, {"files": ["a.py", "b.py"], "seen": {"lines": {"$total": 5}}}),
    entry("B", 4, {"files": ["b.py", "c.py"], "seen": {"lines": {"$total": 7}}}),
    entry("A", 5, finding("host", "h", supersedes="port")),
    entry("B", 6, {"findings": [{"key": "port", "withdrawn": True}]}),
    entry("B", 7, finding("host", "h")),
    entry("C", 8, {"seen": {"lines": {"$total": 1}}, "files": ["d/e~f.py"]}),
    entry("C", 9, kind="STARTED", incarnation=2),
    entry("C", 10, finding("host", "i"), incarnation=2),
    entry("A", 11, kind="COMPLETED"),
    entry("B", 12, kind="COMPLETED"),
    entry("C", 13, kind="FAILED", incarnation=2, payload={"error": "out of luck"}),
]

#: Those that start no sweep: only results are committed.
CALM = [*STORY[:8], *STORY[10:12]]


async def test_results_become_parts_and_revisions() -> None:
    store = TroubledStore()
    async with folding(store):
        for fields in STORY:
            await put(store, [fields])
            await folded(store)
    found = await outcome(store)
    assert found.content() == expected(STORY)
    document = found.document()
    assert document["complete"]["final"] is True
    assert document["document"]["/seen/lines"]["value"] == 12, "C's is stale: not confirmed"
    assert sorted({log for causes in found.causes for log in causes}) == list(range(1, 14))
    assert document["findings"]["port"]["state"] == "superseded"


async def test_it_is_the_same_on_a_server(server: RunningServer) -> None:
    store = RedisStore(server.url)
    try:
        async with folding(store):
            await put(store, STORY[:6])
            await folded(store)
            await put(store, STORY[6:])
            await folded(store)
        assert (await outcome(store)).content() == expected(STORY)
    finally:
        await store.close()


async def test_many_in_one_batch_are_one_revision() -> None:
    store = TroubledStore()
    entries = [entry("A", n, finding(f"k{n % 3}", n)) for n in range(1, 31)]
    await put(store, entries)
    async with folding(store):
        await folded(store)
    found = await outcome(store)
    assert found.causes == [list(range(1, 31))]
    assert found.content() == expected(entries)


async def test_a_result_that_comes_twice_changes_nothing() -> None:
    store = TroubledStore()
    await put(store, STORY)
    async with folding(store):
        await folded(store)
        before = await outcome(store)
        await put(store, STORY)
        await folded(store)
    assert (await outcome(store)).content() == before.content()


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_state_that_is_lost_between_batches_is_read_again(size: int) -> None:
    store = TroubledStore()
    async with folding(store, is_forgetful=True):
        for start in range(0, len(STORY), size):
            await put(store, STORY[start : start + size])
            await eventually(lambda: not store.rows(PARTITION.results), "they are taken")
        await folded(store)
    assert (await outcome(store)).content() == expected(STORY)


async def test_one_commit_takes_no_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesizer, "COMMIT_BYTES_MAX", 4_000)
    store = TroubledStore()
    entries = [entry("A", n, finding(f"k{n}", "x" * 500)) for n in range(1, 21)]
    await put(store, entries)
    async with folding(store) as handlers:
        await folded(store)
    taken = [count for handler in handlers for count in handler.taken if count]
    # Each counts three times its bytes, some 700, plus its statement: two fit, the third does not.
    assert taken == [2] * 10
    found = await outcome(store)
    assert [len(causes) for causes in found.causes] == taken
    assert found.content() == expected(entries)


async def test_slices_that_touch_the_same_part_follow_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(synthesizer, "COMMIT_BYTES_MAX", 1)
    store = TroubledStore()
    await put(store, STORY)
    async with folding(store):
        await folded(store)
    found = await outcome(store)
    assert found.content() == expected(STORY)
    assert max(map(len, found.causes)) == 1


@pytest.mark.parametrize("bytes_max", [0, 600, 10**9])
async def test_dropped_records_are_read_again(
    bytes_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next batch is prepared while the last one is still being committed (`gate`)."""
    monkeypatch.setattr(synthesizer, "CACHED_BYTES_MAX", bytes_max)
    store = TroubledStore()
    other = [entry("D", 100 + n, finding("port", n)) for n in range(len(CALM))]
    async with folding(store) as handlers:
        for pair in zip(CALM, other, strict=True):
            store.gate.clear()
            await put(store, pair[:1])
            await eventually(lambda: store.under_way == 1, "its commit is under way")
            count = len(handlers[0].taken)
            await put(store, pair[1:])

            def is_decided(count: int = count) -> bool:
                return len(handlers[0].taken) > count

            await eventually(is_decided, "the next is decided")
            store.gate.set()
            await eventually(store.is_folded, "both are through")
    assert (await outcome(store)).content() == expected([*CALM, *other])


@pytest.mark.slow
async def test_memory_does_not_grow_with_what_was_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesizer, "CACHED_BYTES_MAX", 5_000)
    store = TroubledStore()
    entries = [entry("A", n, finding(f"k{n}", "x" * 100)) for n in range(1, 201)]
    largest = 0
    async with folding(store) as handlers:
        for fields in entries:
            await put(store, [fields])
            await folded(store)
            synthesis = handlers[0]._cache.get("demo")
            largest = max(largest, len(synthesis.records) if synthesis is not None else 0)
    assert largest < 50
    assert (await outcome(store)).content() == expected(entries)


async def test_sessions_beyond_the_limit_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    store = TroubledStore()
    async with folding(store, sessions_cached_max=1):
        for number in range(1, 4):
            for name in ("a", "b", "c"):
                fields = entry("A", number, {"n": [number]})
                await put(store, [of(name, fields)])
                await folded(store)
    for name in ("a", "b", "c"):
        assert (await outcome(store, name)).causes == [[1], [2], [3]]
        assert (await part(store, "document:/n", name))["value"] == [3]


async def test_a_session_with_a_commit_under_way_is_not_dropped() -> None:
    """The server does not hold yet what was decided."""
    store = TroubledStore()
    fields = [entry("A", number, {"n": [number]}) for number in (1, 2)]
    async with folding(store, sessions_cached_max=1) as handlers:
        await put(store, [of("b", fields[0])])
        await folded(store)
        store.gate.clear()
        await put(store, [of("b", fields[1]), of("c", fields[1])])
        await eventually(lambda: store.under_way == 1, "its commit is under way")
        count = len(handlers[0].taken)
        await put(store, [of("b", entry("A", 3, {"n": [3]}))])
        await eventually(lambda: len(handlers[0].taken) > count, "the next is decided")
        store.gate.set()
        await folded(store)
    assert (await outcome(store, "b")).causes == [[1], [2], [3]]


async def test_its_signals_are_written_with_their_revision() -> None:
    """One commit has both: no signal without its revision, no revision without its signal."""
    store = TroubledStore()
    async with folding(store):
        await put(store, STORY[:1])
        await folded(store)
        commits = store.commits
        store.gate.clear()
        await put(store, STORY[1:2])
        await eventually(lambda: store.under_way == 1, "its commit is under way")
        assert await rows(store, PARTITION.signals) == []
        store.gate.set()
        await eventually(store.is_folded, "it is through")
        assert store.commits == commits + 1
        (told,) = await rows(store, PARTITION.signals)
        assert (told["type"], told["emitter"]) == ("CONFLICT_DETECTED", "SYNTHESIZER")
        await put(store, STORY[2:])
        await folded(store)
    said = [row["type"] for row in await rows(store, PARTITION.signals)]
    assert said == ["CONFLICT_DETECTED", "CONFLICT_DETECTED", "DECIDED", "SYNTHESIZED"]
    assert (await rows(store, KEYS.revisions))[-1]["final"] == "1"


def _installed(name: str, target: str) -> EntryPoint:
    return EntryPoint(name, f"tests.workers.reducing:{target}", extension.REDUCERS)


RULES = Rules(merges=(Merge("/n", "spread"), Merge("/t", "sum")))


async def test_a_packages_reducer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "entry_points", lambda group: [_installed("spread", "spread")])
    reducers = extension.reducers(RULES)
    store = TroubledStore()
    entries = [entry("A", 1, {"n": 3, "t": 1}), entry("B", 2, {"n": 10, "t": 1})]
    await put(store, entries)
    async with folding(store, rules=RULES, reducers=reducers):
        await folded(store)
    found = await part(store, "document:/n")
    assert (found["state"], found["value"], found["reducer"]) == ("reduced", 7, "spread")
    assert (await part(store, "document:/t"))["value"] == 2


@pytest.mark.parametrize("target", ["missing", "nothing"])
async def test_a_reducer_that_cannot_be_loaded_is_logged_and_shown(
    target: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = [_installed("spread", target)] if target == "nothing" else []
    monkeypatch.setattr(extension, "entry_points", lambda group: found)
    reducers = extension.reducers(RULES)
    assert reducers == {}
    assert "spread" in caplog.text
    assert "fabric.reducers" in caplog.text
    store = TroubledStore()
    await put(store, [entry("A", 1, {"n": 3})])
    async with folding(store, rules=RULES, reducers=reducers):
        await folded(store)
    shown = await part(store, "document:/n")
    assert (shown["state"], shown["error"]) == ("failed", "no reducer spread is installed here")
    assert shown["said"]["A"][0]["value"] == 3


async def test_a_reducer_that_fails_is_shown_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extension, "entry_points", lambda group: [_installed("spread", "failing")])
    store = TroubledStore()
    await put(store, [entry("A", 1, {"n": 3, "t": 1}), entry("B", 2, {"n": 4})])
    async with folding(store, rules=RULES, reducers=extension.reducers(RULES)):
        await folded(store)
    shown = await part(store, "document:/n")
    assert (shown["state"], shown["error"]) == ("failed", "spread failed: ZeroDivisionError: ours")
    assert (await part(store, "document:/t"))["value"] == 1
    assert await rows(store, PARTITION.dead) == []
