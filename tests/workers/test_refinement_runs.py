"""One run of a refiner: bounded, killed, and when it fails, logged without a secret."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fabric.errors import UnreachableError
from tests.support.waiting import eventually
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
from tests.workers.troubled import TroubledStore, working
from workers import refinement
from workers.child_process import PROCESSES_MAX


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return prepare(tmp_path, monkeypatch)


def have_run(folder: Path, count: int) -> bool:
    """Whether that many runs have begun."""
    return len(runs(folder)) == count


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raising", "failed: KeyError at "),
        ("at_once", "failed: KeyError at "),
        ("crashing", "ended with exit code 3"),
        ("leaving", "failed: SystemExit at "),
        ("killed", "was ended by signal 9"),
        ("garbage", "its answer is not JSON (TypeError)"),
        ("infinite", "its answer is not JSON (ValueError)"),
        ("large", "bytes; at most 1000000"),
        ("deep", "levels of nesting"),
        ("hungry", "failed: MemoryError at "),
    ],
)
async def test_a_run_that_fails_is_logged_and_made_again(
    folder: Path, caplog: pytest.LogCaptureFixture, name: str, words: str
) -> None:
    store = TroubledStore()
    async with working(store), folding(store, rules(name)):
        for number in (1, 2):
            await find(store, str(number))
            await eventually(partial(have_run, folder, number), "it runs")
            await eventually(lambda: not timers(store), "it is over")
    said = [one.getMessage() for one in caplog.records if one.name == "fabric.refining"]
    assert len(said) == 2
    assert all(words in line and f"refiner {name} of session s" in line for line in said)
    assert "secret" not in caplog.text
    assert refined(store) == []


@pytest.mark.slow
async def test_a_run_over_its_time_is_killed_with_what_it_started(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = TroubledStore()
    async with working(store), folding(store, rules("hanging", ms_max=2_000)):
        await find(store, "a")
        await eventually(lambda: not timers(store) and runs(folder), "it is over")
        assert "hanging of session s: has not ended within 2 s and was killed" in caplog.text
        pids = [runs(folder)[0][3], int((folder / "child").read_text())]
        await eventually(lambda: all(map(is_gone, pids)))
        (folder / "free").touch()
        await find(store, "b")
        await eventually(lambda: values(store), "the next revision is another chance")
    assert values(store)["hanging"]["value"] == "free"


async def test_what_was_made_of_a_group_is_not_made_again(folder: Path) -> None:
    store = TroubledStore()

    def changed() -> Any:
        return values(store)["grouped"]["value"]["changed"]

    async with working(store), folding(store, rules("grouped")) as handlers:
        await find(store, "a")
        await eventually(lambda: values(store), "it is refined")
        await store.say("s", "A", "PROGRESS", '{"percent": 50}')
        nothing = {"since": 1, "findings": [], "gone": [], "document": False}
        await eventually(lambda: changed() == nothing, "it is refined again")
        assert (folder / "mapped").read_text() == "\n"
        # Another synthesizer knows nothing of it.
        handlers[0].forget()
        await find(store, "b")
        await eventually(lambda: changed()["findings"] == ["a", "b"], "once more")


async def test_nothing_to_say_is_no_signal(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = TroubledStore()
    async with working(store), folding(store, rules("nothing")):
        await find(store, "a")
        await eventually(lambda: runs(folder) and not timers(store), "it is over")
    assert refined(store) == []
    assert not [one for one in caplog.records if one.name == "fabric.refining"]


async def test_few_run_at_a_time(folder: Path) -> None:
    store = TroubledStore()
    names = tuple(f"s{number}" for number in range(PROCESSES_MAX + 2))
    async with working(store), folding(store, rules("gated")):
        for name in names:
            await find(store, "a", name)
        await eventually(lambda: len(runs(folder)) >= PROCESSES_MAX, "some run")
        commits = store.commits
        await eventually(lambda: store.commits > commits + 30, "all were looked at many times")
        (folder / "go").touch()
        await eventually(lambda: not timers(store), "all have run")
    at_once = most = 0
    for mark in (folder / "turns").read_text():
        at_once += 1 if mark == "+" else -1
        most = max(most, at_once)
    assert (most, len(runs(folder))) == (PROCESSES_MAX, len(names))


async def test_a_document_that_is_too_large_is_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = TroubledStore()
    monkeypatch.setattr(refinement, "PARTS_MAX", 2)
    monkeypatch.setattr(refinement, "PAGE_PARTS", 1)
    async with working(store), folding(store, rules("count")):
        for key in ("a", "b"):
            await find(store, key)
        await eventually(lambda: len(runs(folder)) and not timers(store), "two are not too many")
        done = len(runs(folder))
        await find(store, "c")
        await eventually(lambda: b"findings:c" in store.data.hash(KEYS.synthesis), "it is folded")
        await eventually(lambda: not timers(store), "it is given up")
    assert "is not run: the document has more than 2 parts" in caplog.text
    assert len(runs(folder)) == done


async def test_after_a_lost_connection_it_is_run_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, read = TroubledStore(), refinement.read_document
    troubles = [UnreachableError("the connection is gone")]

    async def troubled(*arguments: Any) -> dict[str, bytes]:
        if troubles:
            raise troubles.pop()
        return await read(*arguments)

    monkeypatch.setattr(refinement, "read_document", troubled)
    async with working(store), folding(store, rules("count")):
        await find(store, "a")
        await eventually(lambda: values(store), "it is refined")
    assert "is run later: the connection is gone" in caplog.text
