"""What `fabric watch` reads of a session that is opened while it reads."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fabric.client.session import pages
from fabric.store.port import Entry
from fabric.testing import running
from fabric.watch import follow
from fabric.watch.board import Board
from fabric.watch.frame import chart


async def test_a_session_opened_after_its_log_was_read_begins_at_nought(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its revisions are read before its log: their times count from its opening all the same."""
    async with running() as fabric:
        keys = fabric.session().keys
        follower = follow.Follower(fabric.store, keys, Board(keys.name))
        is_open = False

        async def slowly(*read: Any, **how: Any) -> AsyncIterator[list[Entry]]:
            nonlocal is_open
            async for page in pages(*read, **how):
                yield page
            if not is_open:
                is_open = True
                await fabric.emit([{"type": "STARTED", "emitter": "A"}])
                await fabric.settle()

        monkeypatch.setattr(follow, "pages", slowly)
        assert await follower.read() == []
        await fabric.advance(8)
        finding = {"findings": [{"key": "port", "value": 1}]}
        await fabric.emit(
            [{"type": "PARTIAL_RESULT", "emitter": "A", "payload": {"partial": finding}}]
        )
        await fabric.settle()
        rows = await follower.read()
        growth = follower.board.growth
        assert [point.made_ms // 1_000 for point in growth.points] == [0, 8]
        assert growth.points[0].at_ms < growth.points[1].at_ms
        assert rows[0].ms == follower.board.opened_ms
        assert chart(growth, 8) == "       █"
