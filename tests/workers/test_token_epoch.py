"""Tokens that a server may have forgotten are handed out to nobody else."""

from collections.abc import Callable

import pytest

from fabric.ops.replay import rebuild
from tests.client.fleet import S, connected, fleet
from tests.support.keyspace import rows
from tests.support.servers import FLAVOUR_DEFAULT, RunningServer

pytestmark = pytest.mark.server


async def test_after_a_restart_tokens_go_on_above_all_before(
    start: Callable[..., RunningServer],
) -> None:
    server = start(FLAVOUR_DEFAULT, "--appendonly", "yes", "--appendfsync", "always")
    tokens = []
    for _ in range(2):
        async with fleet(server.url) as fabric:
            for _ in range(2):
                async with fabric.agent("A") as agent, agent.writing("x") as grant:
                    tokens.append(grant.token)
            if server.alive:
                found = await rebuild(fabric.store, fabric.keys("s")[1])
                assert found.session.token == tokens[-1]
        server.kill()
        server.start()
    first, second, third, fourth = tokens
    assert (first, second) == (1, 2)
    assert third > 2**50
    assert fourth == third + 1
    assert [row["type"] for row in rows(server, S.log, kind="derived")] == ["TOKENS"]


async def test_a_worker_that_dies_leaves_the_tokens_as_they_are(server: RunningServer) -> None:
    async with connected(server.url) as fabric, fabric.agent("A") as agent:
        for number in (1, 2):
            async with fleet(server.url), agent.writing("x") as grant:
                assert grant.token == number
