"""Waiting until the refiners are through with what is final."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from fabric.client.session import Session
from fabric.errors import WaitTimeoutError
from tests.support.waiting import eventually
from tests.workers.refined import KEYS, folding, install, prepare, rules
from tests.workers.troubled import TroubledStore, working

#: A refiner that waits until a file is there, and then has this to say.
GATED = """
import os, pathlib, time

def {name}(document):
    while not (pathlib.Path(os.environ["FOLDER"]) / "{name}").exists():
        time.sleep(0.01)
    {then}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return prepare(tmp_path, monkeypatch)


def add(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, then: str) -> None:
    site = install(folder / name, f"refiner_{name}", GATED.format(name=name, then=then),
                   refiners=[name])  # fmt: skip
    monkeypatch.setenv("PYTHONPATH", f"{site}:{os.environ['PYTHONPATH']}")


async def end(store: TroubledStore) -> None:
    payload = '{"result": {"findings": [{"key": "k", "value": 1}]}}'
    await store.say("s", "A", "COMPLETED", payload)


def is_final(store: TroubledStore) -> bool:
    return any(row["type"] == "SYNTHESIZED" for row in store.rows(KEYS.log))


@pytest.mark.parametrize("then", ["return 'said'", "return None", "raise KeyError"])
async def test_until_final_waits_for_the_last_refinement(
    folder: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    add(folder, monkeypatch, "slow", then)
    store = TroubledStore()
    async with working(store), folding(store, rules("slow", "count")):
        session = Session(store, KEYS)
        await end(store)
        await eventually(lambda: is_final(store), "it is final")
        assert (await session.until_final()).is_final
        waiting = asyncio.create_task(session.until_final(refined=True))
        with pytest.raises(WaitTimeoutError, match=r"not refined yet by .*slow"):
            await session.until_final(refined=True, timeout=0.2)
        assert not waiting.done()
        (folder / "slow").touch()
        final = await asyncio.wait_for(waiting, 60)
        assert final.refined["count"].revision == 1
        assert ("slow" in final.refined) is ("said" in then)
        assert (await session.until_final(refined=True)).refined == final.refined


async def test_following_goes_on_until_the_last_refinement(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(folder, monkeypatch, "slow", "return 'said'")
    store = TroubledStore()
    async with working(store), folding(store, rules("slow")):
        session = Session(store, KEYS)
        seen: list[int] = []

        async def follow() -> None:
            async for revision in session.revisions(refined=True):
                seen.append(revision.number)

        following = asyncio.create_task(follow())
        await end(store)
        await eventually(lambda: seen == [1], "the final revision")
        (folder / "slow").touch()
        await asyncio.wait_for(following, 60)
        assert seen == [1, 2]
        kinds = [one["type"] async for one in session.state_events(refined=True)]
        assert kinds == ["STATE_SNAPSHOT"]


async def test_nobody_waits_where_no_refiner_is_named(folder: Path) -> None:
    store = TroubledStore()
    async with working(store), folding(store, rules()):
        await end(store)
        await eventually(lambda: is_final(store), "it is final")
        final = await Session(store, KEYS).until_final(refined=True, timeout=60)
        assert final.revision == 1


async def test_nobody_waits_for_a_refiner_that_is_not_there_any_more(folder: Path) -> None:
    store = TroubledStore()
    async with working(store), folding(store, rules("hanging")):
        await end(store)
        await eventually(lambda: is_final(store), "it is final")
    async with working(store), folding(store, rules("hanging"), installed=[]):
        final = await Session(store, KEYS).until_final(refined=True, timeout=60)
        assert final.refined == {}
