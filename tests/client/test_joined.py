"""Revisions that come at once are followed as one."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from fabric.cli import synthesis
from fabric.cli.synthesis import joined
from fabric.client.synthesis import Revision
from fabric.view.change import joined_changes


def revision(number: int, *patch: tuple[str, object]) -> Revision:
    operations = [{"op": "add", "path": path, "value": value} for path, value in patch]
    return Revision(number, operations, [], 0, False)


async def given(*waits: asyncio.Event | None) -> AsyncGenerator[Revision, None]:
    """Yield a revision for each of these; an event has to come first."""
    for number, wait in enumerate(waits, 1):
        if wait is not None:
            await wait.wait()
        yield revision(number)


async def test_what_comes_at_once_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # No machine is so slow that it would cut in two what is there already.
    monkeypatch.setattr(synthesis, "JOIN_S", 30)
    monkeypatch.setattr(synthesis, "JOIN_S_MAX", 60)
    found = [[one.number for one in some] async for some in joined(given(None, None, None))]
    assert found == [[1, 2, 3]]


async def test_what_comes_later_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "JOIN_S", 0.01)
    later = asyncio.Event()
    found = []
    async for some in joined(given(None, None, later)):
        found += [one.number for one in some]
        if found == [1, 2]:
            later.set()
    assert found == [1, 2, 3]


async def test_an_error_is_passed_on() -> None:
    async def broken() -> AsyncGenerator[Revision, None]:
        yield revision(1)
        raise LookupError

    with pytest.raises(LookupError):
        [some async for some in joined(broken())]


def test_the_last_word_on_each_member_is_told_once() -> None:
    def agent(percent: int) -> dict[str, object]:
        return {"status": "active", "incarnation": 1, "percent": percent}

    found = [revision(number, ("/agents/A", agent(10 * number))) for number in range(1, 31)]
    assert list(joined_changes(found)) == ["- 1–30 · A is active, 300 %"]
