"""What `fabric doctor` says of sentinels, and of a second primary."""

import asyncio
from collections.abc import Iterator

import pytest

from fabric.doctor.sentinel import sentinels
from fabric.doctor.server import Finding, Level
from fabric.store.redis import RedisStore
from tests.support.sentinel import Sentinels
from tests.support.servers import FLAVOUR_DEFAULT, RunningServer

pytestmark = pytest.mark.server


@pytest.fixture
def service() -> Iterator[Sentinels]:
    with Sentinels(FLAVOUR_DEFAULT) as running:
        yield running


def look(url: str) -> list[Finding]:
    async def asked() -> list[Finding]:
        store = RedisStore(url)
        try:
            return await sentinels(store)
        finally:
            await store.close()

    return asyncio.run(asked())


def test_nothing_is_said_without_sentinels(server: RunningServer) -> None:
    assert look(server.url) == []


@pytest.mark.slow
def test_sentinels_and_the_servers_that_they_know(service: Sentinels) -> None:
    primary = service.primary
    agreed, single = look(service.url)
    assert (agreed.level, agreed.found) == (Level.OK, f"3 sentinels: 3 name {primary.address}")
    assert (single.level, single.found) == (Level.OK, f"one primary, {primary.address}")

    # A second primary, as after a cut: the sentinels are frozen, or they would mend it.
    other = service.replicas[0]
    for one in service.sentinels[1:]:
        one.freeze()
    other.cli("REPLICAOF", "NO", "ONE")
    agreed, single = look(service.url)
    assert agreed.level is Level.WARN
    assert "does not answer" in agreed.found
    assert single.level is Level.FAIL
    assert "are primaries at once" in single.found
    assert primary.address in single.found
    assert other.address in single.found
    for one in service.sentinels[1:]:
        one.thaw()
