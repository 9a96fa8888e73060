"""A primary that is cut off from its replicas grants nothing that counts (`wait_replicas`)."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from fabric.client.fabric import Fabric
from fabric.errors import UnavailableError
from fabric.ops.guard import check
from tests.client.fleet import QUIET
from tests.support.in_process import serving
from tests.support.sentinel import Sentinels
from tests.support.servers import flavours
from tests.support.waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(params=flavours())
def service(request: pytest.FixtureRequest) -> Iterator[Sentinels]:
    with Sentinels(request.param) as running:
        yield running


async def test_neither_a_grant_nor_the_guard(service: Sentinels) -> None:
    primary = service.primary
    others = [*service.sentinels, *(node for node in service.nodes if node is not primary)]
    options = {"session": "s", "confirm_ms": 0, "emit_limit_ms": 3_000, **QUIET}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving(primary.url))
        careless = await stack.enter_async_context(Fabric.connect(primary.url, **options))
        careful = await stack.enter_async_context(
            Fabric.connect(primary.url, wait_replicas=1, **options)
        )
        holder = await stack.enter_async_context(careless.agent("B"))
        waiter = await stack.enter_async_context(careful.agent("A"))
        try:
            async with holder.writing("x") as grant:
                assert (await check(careful.session(), "x", token=grant.token, agent="B")).allowed
                asking = asyncio.create_task(waiter.writing("x").__aenter__())

                async def is_waiting() -> bool:
                    return any(one.agent == "A" for one in (await waiter.session.claims()).values())

                await eventually(is_waiting, "A is in the queue")
                for node in others:
                    node.freeze()
                with pytest.raises(UnavailableError, match="on 0 of 1 replicas"):
                    await check(careful.session(), "x", token=grant.token, agent="B")
                assert (await check(careless.session(), "x", token=None, agent="B")).allowed
            with pytest.raises(UnavailableError, match="on 0 of 1 replicas"):
                await asking
        finally:
            for node in others:
                node.thaw()
        async with waiter.writing("x", timeout=60):
            pass
