"""How long a call is tried: one limit for all that it does, and for those that queue behind it."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from fabric import Fabric
from fabric.client.emitter import Emitter, Sender
from fabric.core.signal import SignalType
from fabric.errors import UnreachableError
from fabric.testing.store import MemoryStore
from tests.support.proxy import Proxy
from tests.support.servers import RunningServer
from tests.support.waiting import eventually


@pytest.mark.server
async def test_a_connection_is_made_when_the_server_is_back(
    server: RunningServer,
    proxy: Callable[[RunningServer], Proxy],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def connect() -> int:
        async with Fabric.connect(between.url) as fabric:
            return fabric.partitions

    between = proxy(server)
    between.refuse()
    connecting = asyncio.create_task(connect())
    await eventually(lambda: "trying again for up to 30 s" in caplog.text, "it tries again")
    assert not connecting.done()
    between.accept()
    assert await connecting == 1
    (said,) = caplog.records
    assert (said.name, said.levelno) == ("fabric.agent", logging.WARNING)


LIMIT_MS = 50


class Away(MemoryStore):
    """A server that cannot be reached, slow at first; it counts how often each signal is tried."""

    def __init__(self) -> None:
        super().__init__(lambda: 0)
        self.tried: dict[bytes, int] = {}

    async def emit(
        self, partition: int, entries: Any, *arguments: Any, **options: Any
    ) -> list[bytes]:
        (entry,) = entries
        fields = dict(zip(entry[::2], entry[1::2], strict=True))
        self.tried[fields[b"seq"]] = self.tried.get(fields[b"seq"], 0) + 1
        if fields[b"seq"] == b"1":
            await asyncio.sleep(2 * LIMIT_MS / 1000)
        raise UnreachableError("away")


async def test_signals_that_queue_behind_one_share_its_limit() -> None:
    store = Away()
    sender = Sender(Emitter(store, 0, ingress_max=1, limit_ms=LIMIT_MS), "s", "A", "")
    sender.begin(1)
    sending = [sender.send(SignalType.PROGRESS, {}) for _ in range(4)]
    found = await asyncio.gather(*sending, return_exceptions=True)
    assert all(isinstance(one, UnreachableError) for one in found)
    assert [*store.tried.values()] == [1, 1, 1, 1]
