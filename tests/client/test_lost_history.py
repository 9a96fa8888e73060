"""A server that has lost what it had taken, by a failover say: agents send it again."""

from collections.abc import Callable

from tests.client.fleet import S, connected, fleet, logged
from tests.support.keyspace import DEAD, SIGNALS, records, rows
from tests.support.proxy import Proxy
from tests.support.servers import RunningServer
from tests.support.waiting import eventually

MakeProxy = Callable[[RunningServer], Proxy]


async def test_a_release_in_the_lost_history_is_sent_again(
    server: RunningServer, proxy: MakeProxy
) -> None:
    """Or its sender, alive, would hold the file without knowing, and others wait for ever."""
    between = proxy(server)
    async with connected(between.url) as fabric, fabric.agent("A") as agent:
        writing = agent.writing("x")
        async with fleet(server.url):
            await writing.__aenter__()
        # No orchestrator runs: the RELEASE stays in the ingress, and is lost there.
        await writing.__aexit__(None, None, None)
        release = rows(server, SIGNALS, type="RELEASE")[-1]
        assert records(server, S.claims)
        server.cli("XDEL", SIGNALS, release.id)
        between.cut_all()
        async with fleet(server.url):
            await eventually(lambda: not records(server, S.claims), "it is released again")
            async with agent.writing("x"):
                pass


async def test_what_is_sent_again_although_it_was_there_acts_once(
    server: RunningServer, proxy: MakeProxy
) -> None:
    between = proxy(server)
    async with fleet(server.url):
        async with connected(between.url) as fabric, fabric.agent("A") as agent:
            for number in range(5):
                await agent.progress(number)
            await logged(server, 6)
            between.cut_all()
            tell = ("XADD", S.inbox("A"), "9-1", "type", "NUDGE", "cause", "9-0", "payload", "{}")
            server.cli(*tell)
            await agent.progress(7)
            await logged(server, 7)
            await agent._sender.send_lost_again()
        signals = await logged(server, 8)
    assert rows(server, DEAD) == []
    assert [row["seq"] for row in signals] == [str(number) for number in range(1, 9)]
