"""Following the revisions of a synthesis, and waiting for the final one."""

import asyncio
import re
from collections.abc import Callable

import msgspec
import pytest

from fabric.client.synthesis import Revision
from fabric.errors import TamperedError, WaitTimeoutError
from fabric.store.keyspace import Keyspace
from fabric.store.redis import RedisStore
from tests.support.folding import Folding, entry
from tests.support.servers import RunningServer
from tests.support.stored_synthesis import KEYS, fields, put, session, store_of
from tests.support.waiting import eventually


async def test_a_foreign_revision_is_an_error_that_names_the_key() -> None:
    server = Keyspace()
    server.stream(KEYS.revisions).append(b"1-0", [b"by", b"hand"], 0)
    with pytest.raises(TamperedError, match=re.escape(KEYS.revisions)):
        [one async for one in session(store_of(server)).revisions(follow=False)]


def spoken(*ends: str) -> Folding:
    """Build a history in which A and B have started and the agents in `ends` have ended."""
    folding = Folding()
    folding.take([entry("A", 1, kind="STARTED"), entry("B", 2, kind="STARTED")])
    for log, agent in enumerate(ends, 3):
        folding.take([entry(agent, log, {"x": log}, kind="COMPLETED")])
    return folding


async def test_revisions_come_with_their_patches_and_causes() -> None:
    folding, server = spoken("A"), Keyspace()
    put(server, folding, folding.hash, 2)
    first, second = [one async for one in session(store_of(server)).revisions(follow=False)]
    assert (first.number, first.causes, first.is_final) == (1, ["1-0", "2-0"], False)
    assert (second.number, second.causes, second.ms) == (2, ["3-0"], 2)
    assert first.patch == msgspec.json.decode(folding.revisions[0])
    after = [one.number async for one in session(store_of(server)).revisions(1, follow=False)]
    assert after == [2]


async def test_a_printed_revision_shows_its_changes() -> None:
    folding, server = spoken("A"), Keyspace()
    put(server, folding, folding.hash, 2)
    first, second = [one async for one in session(store_of(server)).revisions(follow=False)]
    assert str(first).splitlines() == ["- 1 · A is active, 0 %; B is active, 0 %"]
    assert str(second).splitlines() == [
        "- 2 · document `/x`: `3`, agreed · A",
        "- 2 · A is completed",
    ]
    assert second._repr_markdown_() == str(second)
    assert repr(second) == "<Revision 2: 4 operations>"


def test_a_revision_that_only_changes_the_progress_can_be_printed() -> None:
    patch = [{"op": "add", "path": "/revision", "value": 9}]
    assert str(Revision(9, patch, [], 0, False)) == "- 9 · only how complete the synthesis is"
    assert str(Revision(9, [], [], 0, True)) == "- 9 · **final**"


def test_a_tampered_revision_can_be_printed() -> None:
    patch = [{"op": "add", "path": "/agents/A", "value": 3}]
    assert str(Revision(9, patch, [], 0, False)).startswith("- 9 · unreadable: ")
    assert repr(Revision(9, patch, [], 0, True)) == "<Revision 9: 1 operation, final>"


async def test_following_ends_after_a_final_revision_and_can_be_resumed() -> None:
    folding, server = spoken("A", "B"), Keyspace()
    store = store_of(server)
    put(server, folding, folding.hash, 1)
    seen: list[tuple[int, bool]] = []

    async def follow(after: int) -> None:
        async for one in session(store).revisions(after):
            seen.append((one.number, one.is_final))

    following = asyncio.create_task(follow(0))
    await eventually(lambda: seen, "the first one has come")
    put(server, folding, folding.hash, 3)
    server.wake()
    await following
    assert seen == [(1, False), (2, False), (3, True)]
    # An agent starts again: more revisions follow the final one, which is skipped.
    folding.take([entry("A", 5, kind="STARTED", incarnation=2)])
    folding.take([entry("A", 6, {"x": 0}, kind="COMPLETED", incarnation=2)])
    put(server, folding, folding.hash, len(folding.revisions))
    seen.clear()
    await follow(3)
    await follow(0)
    last = len(folding.revisions)
    assert seen[-1] == (last, True)
    assert [number for number, _ in seen] == [*range(4, last + 1), *range(1, last + 1)]


async def test_waiting_for_the_final_synthesis() -> None:
    folding, server = spoken("A", "B"), Keyspace()
    early = spoken("A")
    put(server, folding, early.hash, 2)
    waiting = asyncio.create_task(session(store_of(server)).until_final(timeout=20))
    await asyncio.sleep(0)
    put(server, folding, folding.hash, 3)
    server.wake()
    final = await waiting
    assert final.is_final
    assert final.document == folding.patched()
    assert (await session(store_of(server)).until_final(timeout=0.5)).document == final.document


@pytest.mark.parametrize(
    ("folding", "words"),
    [
        (Folding(), "there is no revision yet; has an agent started"),
        (spoken(), "A, B have not ended"),
        (spoken("A"), r"B has not ended \(revision 2\)"),
    ],
)
async def test_a_timeout_names_the_agents_that_have_not_ended(folding: Folding, words: str) -> None:
    server = Keyspace()
    put(server, folding, folding.hash, len(folding.revisions))
    with pytest.raises(WaitTimeoutError, match=f"waited 0.01 s for the synthesis of demo.*{words}"):
        await session(store_of(server)).until_final(timeout=0.01)


async def test_following_survives_an_outage(
    start: Callable[..., RunningServer],
) -> None:
    folding = spoken("A", "B")
    server = start("redis-7.0", "--appendonly", "yes", "--appendfsync", "always")
    store = RedisStore(server.url)

    def write(number: int) -> None:
        server.cli("XADD", KEYS.revisions, f"{number}-0", *fields(folding, number))

    try:
        write(1)
        seen = []
        async for one in session(store).revisions():
            seen.append(one.number)
            if one.number == 1:
                server.kill()
                server.start()
                write(2)
                write(3)
        assert seen == [1, 2, 3]
    finally:
        await store.close()
