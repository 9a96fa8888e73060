"""Asking sentinels: cancelled at any moment, and once for all callers that want to know."""

import asyncio

import pytest
from redis.asyncio.sentinel import Sentinel

from fabric.store import address, sentinel

URL = "redis+sentinel://127.0.0.1:1/fabric"
PRIMARY = ("127.0.0.1", 7)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The services that the driver was asked for; it waits for the answer as it really does."""
    services: list[str] = []

    async def discover_master(self: Sentinel, service: str) -> tuple[str, int]:
        services.append(service)
        for _ in range(3):  # the handshake, sending and reading
            await asyncio.wait_for(asyncio.sleep(0), 10)
        return PRIMARY

    monkeypatch.setattr(Sentinel, "discover_master", discover_master)
    return services


async def test_a_cancelled_caller_does_not_go_on(asked: list[str]) -> None:
    for steps in range(100):
        _, sentinels = sentinel.primary_server(address.parse(URL, "test"))
        asking = asyncio.create_task(sentinels.discover_master("fabric"))
        for _ in range(steps):
            await asyncio.sleep(0)
        is_answered = asking.done()
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled() != is_answered, f"after {steps} steps"
        await sentinels.aclose()
        if is_answered:
            assert steps > 3, "it was never cancelled half-way"
            return
    raise AssertionError("it was never answered")


async def test_callers_that_ask_at_the_same_time_get_one_answer(asked: list[str]) -> None:
    _, sentinels = sentinel.primary_server(address.parse(URL, "test"))
    asking = [asyncio.create_task(sentinels.discover_master("fabric")) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()  # the others get the answer all the same
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert answers[1:] == [PRIMARY] * 4
    assert asked == ["fabric"]
    await sentinels.aclose()
