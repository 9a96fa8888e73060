"""`wait_replicas`: a signal counts as sent when that many replicas have it."""

from collections.abc import Iterator

import pytest

from fabric.client.emitter import Emitter
from fabric.errors import OverloadedError, UnavailableError
from fabric.store.redis import RedisStore
from tests.support.outage import MANY, emit, emitted
from tests.support.sentinel import Sentinels
from tests.support.servers import flavours
from tests.support.waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(params=flavours())
def service(request: pytest.FixtureRequest) -> Iterator[Sentinels]:
    with Sentinels(request.param) as running:
        yield running


async def test_enough_replicas_have_it(service: Sentinels) -> None:
    store = RedisStore(service.url, wait_replicas=2)
    try:
        for number in range(3):
            await emit(store, number)
            # The replicas have it when the call returns.
            for replica in service.replicas:
                assert replica.cli("XLEN", "fabric:{0}:signals") == number + 1
        with pytest.raises(OverloadedError):
            await store.emit(0, [[b"n", b"4"]], 3)
    finally:
        await store.close()


async def test_too_few_have_it(service: Sentinels) -> None:
    store = RedisStore(service.url, wait_replicas=2)
    try:
        await emit(store, 1)
        lame = service.replicas[0]
        lame.freeze()
        with pytest.raises(UnavailableError, match="on 1 of 2 replicas") as caught:
            await emit(store, 2)
        assert caught.value.took_effect
        # Without a number: an error at once, and it is not sent again.
        emitter = Emitter(store, 0, ingress_max=MANY, limit_ms=60_000)
        with pytest.raises(UnavailableError, match="on 1 of 2 replicas"):
            await emitter.send([[b"n", b"3"]], numbered=False)
        assert await emitted(store) == [1, 2, 3]
        # With a number: sent again until enough have it; the core drops the repeats.
        lame.thaw()
        await emitter.send([[b"n", b"4"]])
        sent = await emitted(store)
        assert sent[:3] == [1, 2, 3]
        assert set(sent[3:]) == {4}
        await eventually(lambda: lame.cli("XLEN", "fabric:{0}:signals") == len(sent))
    finally:
        await store.close()


async def test_a_server_without_replicas(service: Sentinels) -> None:
    """Fewer replicas than required: every emitter gets an error."""
    store = RedisStore(service.url, wait_replicas=3)
    try:
        with pytest.raises(UnavailableError, match="on 2 of 3 replicas"):
            await emit(store, 1)
    finally:
        await store.close()
