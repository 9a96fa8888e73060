"""When refiners run, and what they add to the synthesis; the refiners are real processes."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

from fabric.core.rules import Rules
from fabric.core.synthesis.publish import Operation, Revision
from fabric.store.keys import SYNTHESIZERS
from fabric.store.port import Batch
from fabric.wire.effective import effective
from tests.support import daemon as daemons
from tests.support.daemon import StartDaemon
from tests.support.keyspace import rows, session
from tests.support.keyspace import values as fields
from tests.support.servers import ROOT, RunningServer
from tests.support.waiting import eventually, until
from tests.workers.refined import (
    KEYS,
    find,
    folding,
    prepare,
    refined,
    rules,
    runs,
    timers,
    values,
)
from tests.workers.test_hook import is_gone
from tests.workers.troubled import PARTITION, TroubledStore, working
from workers.refinement import Refinements

#: What `count` makes of one finding: it must not see the server's URL, which may hold a password.
COUNTED = {"findings": 1, "url": None}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return prepare(tmp_path, monkeypatch)


def patches(store: TroubledStore) -> list[Any]:
    return [json.loads(row["patch"]) for row in store.rows(KEYS.revisions)]


async def test_a_refiners_answer_is_a_revision_of_its_own(folder: Path) -> None:
    store = TroubledStore()
    async with working(store), folding(store, rules("count")):
        await find(store, "a")
        await eventually(lambda: values(store), "it is refined")
        # It does not trigger itself.
        assert timers(store) == []
    made = values(store)["count"]
    assert (made["value"], made["log"], made["revision"]) == (COUNTED, 2, 1)
    assert [one["path"] for one in patches(store)[1]] == [
        "/revision",
        "/complete",
        "/refined/count",
    ]
    assert store.rows(KEYS.revisions)[1]["causes"] == "2-0"
    assert [run[:2] for run in runs(folder)] == [[1, ["a"]]]
    (told,) = refined(store)
    assert told["emitter"] == "SYNTHESIZER"


async def test_it_is_given_what_holds_at_one_revision() -> None:
    store = TroubledStore()
    async with working(store), folding(store, rules("whole", "later")):
        for key in ("a/b", "~", 'ü"'):
            await find(store, key)
        contrary = {"partial": {"findings": [{"key": "~", "value": 2}], "n": {"x": [1]}}}
        await store.say("s", "B", "PARTIAL_RESULT", json.dumps(contrary))
        await eventually(lambda: {"whole", "later"} == values(store).keys(), "both have run")
        await eventually(lambda: not timers(store), "nothing is left to do")
    assert values(store)["later"]["value"] == "later"
    made = values(store)["whole"]
    document: Any = {}
    for patch in patches(store)[: made["revision"]]:
        document = jsonpatch.apply_patch(document, patch)
    given = made["value"]
    assert given.pop("changed") == {
        "since": 0, "findings": sorted(given["findings"]), "gone": [], "document": True,
    } or given["refined"]  # fmt: skip
    assert given == effective(document)


async def test_results_that_come_during_a_run_are_refined_after_it(folder: Path) -> None:
    store = TroubledStore()
    async with working(store), folding(store, rules("gated")):
        await find(store, "a")
        await eventually(lambda: runs(folder), "it runs")
        for key in ("b", "c"):
            await find(store, key)
        await eventually(lambda: b"findings:c" in store.data.hash(KEYS.synthesis), "it is folded")
        assert not values(store), "the loop goes on meanwhile"
        assert len(runs(folder)) == 1, "one at a time"
        (folder / "go").touch()
        await eventually(lambda: not timers(store), "nothing is left to do")
    assert [run[1] for run in runs(folder)] == [["a"], ["a", "b", "c"]]
    assert len(refined(store)) == 2


async def test_it_runs_once_more_when_the_session_is_final(folder: Path) -> None:
    store = TroubledStore()
    async with working(store), folding(store, rules("count")):
        await find(store, "a")
        await eventually(lambda: values(store), "it is refined")
        await store.say("s", "A", "COMPLETED")
        await eventually(lambda: len(refined(store)) == 2, "it is refined again")
        await eventually(lambda: len(patches(store)) == 4, "that is folded")
        assert timers(store) == []
    assert [run[2] for run in runs(folder)] == [False, True]
    assert [row["final"] for row in store.rows(KEYS.revisions)] == ["0", "0", "1", "1"]
    assert len([row for row in store.rows(KEYS.log) if row["type"] == "SYNTHESIZED"]) == 1


def test_a_timer_that_stands_is_not_put_off() -> None:
    frequent = Rules(refine_pause_ms=1_000)
    schedule = Refinements(TroubledStore(), PARTITION, ("count",), frequent)
    news = Revision(1, [Operation("findings", "a", b"{}")])
    batch = Batch()
    due_ms = schedule.plan(batch, "s", news, 50_000)
    assert due_ms is not None
    assert 50_000 < due_ms <= 51_000
    assert [schedule.plan(batch, "s", news, ms) for ms in (due_ms - 1, due_ms)] == [None, None]
    # A new holder knows of no timer, and yet puts off none that is not due.
    schedule.forget()
    assert schedule.plan(batch, "s", news, due_ms - 1) == due_ms
    schedule.forget()
    assert schedule.plan(batch, "s", news, due_ms) == due_ms + 1_000


async def test_the_next_holder_runs_it_again(folder: Path) -> None:
    store = TroubledStore()
    async with working(store):
        async with folding(store, rules("gated")):
            await find(store, "a")
            await eventually(lambda: runs(folder), "it runs")
            commits = store.commits
            await eventually(lambda: store.commits > commits + 2, "it was looked at")
        assert is_gone(runs(folder)[0][3])
        assert timers(store) == ["s:refine:gated"]
        (folder / "go").touch()
        async with folding(TroubledStore(store.data), rules("gated")):
            await eventually(lambda: values(store), "it is refined")
    assert len(runs(folder)) == 2
    assert len(refined(store)) == 1


async def test_a_timer_of_a_refiner_that_is_not_there_goes(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = TroubledStore()
    for timer in (b"s:refine:gone", b"s:refine:\xff", b"\xff", b"s:"):
        store.data.sorted_set(PARTITION.timers(SYNTHESIZERS))[timer] = 1
    async with working(store), folding(store, rules("gone", "count"), installed=["count"]):
        await find(store, "a")
        await eventually(lambda: values(store) and not timers(store), "the timers are gone")
    assert "nothing here is the refiner gone of s" in caplog.text
    assert values(store).keys() == {"count"}


@pytest.mark.slow
def test_a_synthesizer_killed_during_a_run_leaves_it_to_the_next(
    server: RunningServer,
    daemon: StartDaemon,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = daemons.environment() | {"PYTHONPATH": f"{ROOT}:{folder / 'site'}"}
    monkeypatch.setattr(daemons, "environment", lambda: ours)
    book = folder / "fabric.toml"
    book.write_text('[synthesis]\nrefiners = ["gated"]\nrefine_pause_ms = 100\n')
    daemon(server.url, rules=book)
    first = daemon(server.url, worker="synthesizer", rules=book)
    keys = session("s")
    finding = '{"partial": {"findings": [{"key": "a", "value": 1}]}}'
    server.cli(
        *("XADD", PARTITION.signals, "*", "session", "s", "type", "PARTIAL_RESULT"),
        *("emitter", "A", "payload", finding),
    )
    until(lambda: runs(folder), first.said)
    first.kill()
    other = daemon(server.url, worker="synthesizer", rules=book)
    until(lambda: len(runs(folder)) == 2, other.said)
    (folder / "go").touch()
    until(lambda: "refined:gated" in fields(server, keys.synthesis), other.said)
    assert len(rows(server, keys.log, type="REFINED")) == 1
    for run in runs(folder):
        until(partial(is_gone, run[3]), "no process is left")
