"""A synthesis as state events of AG-UI: whole, in changes, and resumed at any revision."""

import asyncio
from typing import Any

import jsonpatch
import pytest

from fabric.store.keyspace import Keyspace
from tests.support.folding import Folding, entry
from tests.support.stored_synthesis import put, session, store_of, worked

events_of = pytest.importorskip("ag_ui.core")


async def events(server: Keyspace, after: int | None = None) -> list[dict[str, Any]]:
    found = [one async for one in session(store_of(server)).state_events(after, follow=False)]
    for one in found:  # by the protocol's own reader
        kind = {"STATE_SNAPSHOT": "StateSnapshotEvent", "STATE_DELTA": "StateDeltaEvent"}
        getattr(events_of, kind[one["type"]]).model_validate(one)
    return found


def state_of(found: list[dict[str, Any]], state: Any = None) -> Any:
    """What an interface has after these events."""
    for one in found:
        if one["type"] == "STATE_SNAPSHOT":
            state = one["snapshot"]
        else:
            state = jsonpatch.apply_patch(state, one["delta"])
    return state


@pytest.mark.parametrize("seed", range(5))
async def test_an_interface_has_the_document_wherever_it_goes_on(seed: int) -> None:
    folding, _ = worked(seed)
    server = Keyspace()
    last = len(folding.revisions)
    put(server, folding, folding.hash, last)
    assert state_of(await events(server)) == folding.document()
    all_ = await events(server, 0)
    assert [one["type"] for one in all_] == ["STATE_SNAPSHOT"] + ["STATE_DELTA"] * (last - 1)
    assert all_[-1]["timestamp"] == last
    for number in range(1, last + 1):
        state = state_of(all_[:number])
        assert state["revision"] == number
        assert state_of(await events(server, number), state) == folding.document()


async def test_a_state_that_the_session_never_reached_is_sent_anew() -> None:
    folding, server = Folding(), Keyspace()
    folding.take([entry("A", 1, {"x": 1})])
    put(server, folding, folding.hash, 1)
    assert [one["type"] for one in await events(server, 7)] == ["STATE_SNAPSHOT"]


async def test_following_sends_what_comes_until_it_is_final() -> None:
    folding, server = Folding(), Keyspace()
    folding.take([entry("A", 1, {"x": 1})])
    put(server, folding, folding.hash, 1)
    following = session(store_of(server)).state_events()
    assert (await anext(following))["type"] == "STATE_SNAPSHOT"
    coming = asyncio.ensure_future(anext(following))
    folding.take([entry("A", 2, kind="COMPLETED")])
    put(server, folding, folding.hash, 2)
    assert (await coming)["type"] == "STATE_DELTA"
    assert [one async for one in following] == []
