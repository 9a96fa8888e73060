"""A backlog of large signals drains over a slow link, and the lease stays with its holder."""

from collections.abc import Callable

import pytest

from fabric.store.keys import ORCHESTRATORS, Namespace
from fabric.store.redis import RedisStore
from tests.support.in_process import serving
from tests.support.keyspace import session, values
from tests.support.proxy import Proxy
from tests.support.servers import RunningServer
from tests.support.waiting import eventually

SIGNALS = Namespace().partition(0).signals
LEASE = Namespace().partition(0).lease(ORCHESTRATORS)


@pytest.mark.slow
@pytest.mark.one_server
@pytest.mark.parametrize(
    ("count", "size", "bytes_a_second"),
    [(40, 900_000, 12_000_000), (300, 10_000, 500_000), (12, 200_000, 250_000)],
    ids=["large", "many", "slowest"],
)
async def test_a_backlog_drains(
    server: RunningServer,
    proxy: Callable[[RunningServer], Proxy],
    count: int,
    size: int,
    bytes_a_second: int,
) -> None:
    store = RedisStore(server.url)
    text = b'{"partial": {"text": "%s"}}' % (b"x" * size)
    for number in range(count):
        fields = (b"session", b"s", b"type", b"PARTIAL_RESULT", b"emitter", b"A", b"payload", text)
        assert await store.emit(0, [fields], 10_000), number
    slow = proxy(server)
    slow.bytes_a_second = bytes_a_second
    # A lease is over long before all has come.
    async with serving(slow.url, name="a", lease_ms=1_500):
        await eventually(lambda: server.cli("XLEN", SIGNALS) == 0, "all is decided")
        lease = values(server, LEASE)
    assert await store.length(session("s").log) >= count
    first = values(server, Namespace().meta)[f"seeded:{ORCHESTRATORS}:0"]
    assert lease["epoch"] == first, "nobody had to take the lease again"
    await store.close()
