"""The synthesizer in trouble: nothing lost, nothing twice, and the other sessions go on."""

from typing import Any

import pytest

from fabric.core.synthesis import publish
from fabric.core.synthesis.fold import fold
from fabric.core.synthesis.state import SynthesisState
from fabric.errors import FencedError, ServerError, UnavailableError, UnreachableError
from fabric.store.keys import SYNTHESIZERS
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
    put,
    rows,
)
from tests.workers.test_synthesizer import STORY, finding
from tests.workers.troubled import PARTITION, TroubledStore
from workers import synthesizer

#: Results of two agents that contradict each other all the time.
MANY = [entry("AB"[n % 2], n, finding(f"k{n % 7}", n)) for n in range(1, 61)]


def logs(causes: list[list[int]]) -> list[int]:
    return [log for group in causes for log in group]


@pytest.mark.parametrize("is_done", [False, True], ids=["refused", "reply-lost"])
@pytest.mark.parametrize(
    "error",
    [FencedError("somebody else's"), UnreachableError("cut"), UnavailableError("loading")],
    ids=lambda error: error.code,
)
async def test_a_commit_fails(error: ServerError, is_done: bool) -> None:
    store = TroubledStore()
    async with folding(store, batch_signals_max=4):
        for start in range(0, 60, 10):
            await put(store, MANY[start : start + 10])
            if start % 30 == 10:
                store.trouble("commit", error, is_done=is_done)
        await folded(store)
        await eventually(lambda: not store.is_troubled, "all errors were met")
    found = await outcome(store)
    assert logs(found.causes) == list(range(1, 61)), "each once, in order"
    assert found.content() == expected(MANY)


@pytest.mark.parametrize("call", ["fields", "members", "due", "read"])
async def test_a_read_fails(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesizer, "SWEEP_PARTS", 1)
    store = TroubledStore()
    store.trouble(call, UnreachableError("cut"))
    async with folding(store):
        await put(store, STORY)
        await folded(store)
        await eventually(lambda: not store.is_troubled, "the error was met")
    assert (await outcome(store)).content() == expected(STORY)


async def test_another_replica_takes_over_half_way() -> None:
    """The first one is committing when its lease is taken: its decisions are void."""
    store = TroubledStore()
    other = TroubledStore(store.data)
    async with folding(store, name="one", lease_ms=1_000):
        await put(store, MANY[:20])
        await folded(store)
        store.gate.clear()
        await put(store, MANY[20:40])
        await eventually(lambda: store.under_way == 1, "a commit is under way")
        lease = store.data.hash(PARTITION.lease(SYNTHESIZERS))
        lease |= {b"owner": b"", b"nonce": b"", b"expires": b"0"}
        async with folding(other, name="two", lease_ms=1_000):
            await put(other, MANY[40:])
            await folded(other)
            store.gate.set()
            await eventually(lambda: not store.under_way, "the late commit is refused")
    found = await outcome(other)
    assert logs(found.causes) == list(range(1, 61))
    assert found.content() == expected(MANY)


#: More parts of an agent than one slice of a sweep has; then it starts again, and all end.
SWEPT = [
    entry("A", 1, {"findings": [{"key": f"k{n}", "value": n} for n in range(10)]}),
    entry("B", 2, finding("k3", "other")),
    entry("A", 3, kind="STARTED", incarnation=2),
    entry("A", 4, finding("k3", "other"), incarnation=2),
    entry("A", 5, kind="COMPLETED", incarnation=2),
    entry("B", 6, kind="COMPLETED"),
]


async def test_a_sweep_goes_on_over_several_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesizer, "SWEEP_PARTS", 3)
    store = TroubledStore()
    await put(store, SWEPT)
    async with folding(store) as handlers:
        await folded(store)
    found = await outcome(store)
    assert found.content() == expected(SWEPT)
    # The batch; 3, 3, 3 and 1 of the ten parts.
    assert [taken for taken in handlers[0].taken if taken] == [6, 1, 1, 1, 1]
    finals = [row["final"] for row in await rows(store, KEYS.revisions)]
    assert finals == ["0"] * (len(finals) - 1) + ["1"], "final waits for the sweep"
    said = [row["type"] for row in await rows(store, PARTITION.signals)]
    assert said.count("SYNTHESIZED") == 1
    assert "sweep:A" not in found.hash


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
async def test_a_sweep_outlives_a_worker_between_its_slices(
    count: int, is_done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesizer, "SWEEP_PARTS", 3)
    store = TroubledStore()
    await put(store, SWEPT)
    seen: list[int] = []
    original = TroubledStore.commit

    async def commit(self: TroubledStore, *arguments: Any, **named: Any) -> int:
        seen.append(len(seen))
        if len(seen) == count + 1:
            self.trouble("commit", UnreachableError("killed"), is_done=is_done)
        return await original(self, *arguments, **named)

    monkeypatch.setattr(TroubledStore, "commit", commit)
    async with folding(store) as handlers:
        await folded(store)
        await eventually(lambda: len(seen) > count, "it was killed")
    assert (await outcome(store)).content() == expected(SWEPT)
    assert len(handlers) == 1


async def test_a_sweep_is_the_same_on_a_server(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesizer, "SWEEP_PARTS", 3)
    store = RedisStore(server.url)
    try:
        await put(store, SWEPT)
        async with folding(store):
            await folded(store)
        assert (await outcome(store)).content() == expected(SWEPT)
    finally:
        await store.close()


async def test_a_result_on_which_the_fold_fails_is_a_dead_letter(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(synthesis: SynthesisState, result: Any, *arguments: Any) -> Any:
        folded = fold(synthesis, result, *arguments)
        if result.origin.log == 5:
            raise ZeroDivisionError("a defect")
        return folded

    monkeypatch.setattr(synthesizer, "fold", failing)
    store = TroubledStore()
    async with folding(store):
        await put(store, MANY)
        await folded(store)
    (letter,) = await rows(store, PARTITION.dead)
    assert (letter["code"], letter["raw.cause"]) == ("DEFECT", "5-0")
    assert "ZeroDivisionError" in letter["reason"]
    assert "a defect" in caplog.text
    found = await outcome(store)
    assert found.content() == expected([*MANY[:4], *MANY[5:]])


async def test_a_synthesis_that_cannot_be_published_keeps_nobody_else_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = publish.Publisher.publish

    def failing(self: publish.Publisher, synthesis: SynthesisState, *times: int) -> Any:
        if synthesis.name == "demo":
            raise ZeroDivisionError("a defect")
        return original(self, synthesis, *times)

    monkeypatch.setattr(publish.Publisher, "publish", failing)
    store = TroubledStore()
    async with folding(store):
        await put(store, [one for fields in MANY[:5] for one in (fields, of("sound", fields))])
        await folded(store)
    letters = await rows(store, PARTITION.dead)
    assert [(row["code"], row["raw.session"]) for row in letters] == [("DEFECT", "demo")] * 5
    assert logs((await outcome(store, "sound")).causes) == [1, 2, 3, 4, 5]


async def test_timers_of_the_orchestrators_keep_no_synthesizer_busy() -> None:
    store = TroubledStore()
    store.data.sorted_set(PARTITION.deadlines)[b"demo:silence:A"] = 1
    async with folding(store):
        before = store.looks
        for number in range(1, 21):
            await put(store, MANY[number - 1 : number])
            await eventually(store.is_folded, "it is taken")
        # Once at its start: nothing is due that it could look at again.
        assert store.looks - before <= 1
    assert store.data.sorted_set(PARTITION.deadlines) == {b"demo:silence:A": 1}
    assert int((await outcome(store)).hash["revision"]) == 20
