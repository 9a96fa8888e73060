"""A server that has lost what it had taken, by a failover say: nothing freezes after that."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
import redis

from fabric.client import grant
from fabric.client.session import pages
from fabric.errors import ReconnectedError, UnavailableError
from fabric.store.keys import Namespace
from fabric.store.port import BEGINNING
from fabric.testing.store import MemoryStore
from tests.client.fleet import S, connected, fleet, logged
from tests.support.keyspace import DEAD, SIGNALS, records, rows
from tests.support.proxy import Proxy
from tests.support.servers import RunningServer
from tests.support.waiting import eventually

MakeProxy = Callable[[RunningServer], Proxy]


def saved(server: RunningServer) -> dict[bytes, Any]:
    """Return everything that the server has."""
    with redis.Redis(unix_socket_path=str(server.socket)) as raw:
        return {key: raw.dump(key) for key in raw.scan_iter()}


def put_back(server: RunningServer, kept: dict[bytes, Any]) -> None:
    """Take the server back to an earlier moment."""
    with redis.Redis(unix_socket_path=str(server.socket)) as raw:
        raw.flushall()
        for key, value in kept.items():
            raw.restore(key, 0, value)


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


async def test_what_was_lost_goes_before_the_next_signal(
    server: RunningServer, proxy: MakeProxy
) -> None:
    """A number that was skipped is never accepted."""
    between = proxy(server)
    async with connected(between.url) as fabric, fabric.agent("A") as agent:
        for number in range(1, 6):
            await agent.progress(number)
        for row in rows(server, SIGNALS)[3:]:
            server.cli("XDEL", SIGNALS, row.id)
        between.cut_all()
        await agent.progress(6)
        left = [row["seq"] for row in rows(server, SIGNALS)]
        assert left == ["1", "2", "3", "4", "5", "6", "7"]


async def test_another_signal_under_the_same_id_is_another(
    server: RunningServer, proxy: MakeProxy
) -> None:
    between = proxy(server)
    async with connected(between.url) as fabric, fabric.agent("A") as agent:
        await agent.progress(1)
        before = saved(server)
        await agent.progress(2)
        lost = rows(server, SIGNALS)[-1]
        put_back(server, before)
        server.cli("XADD", SIGNALS, lost.id, "session", "s", "type", "STARTED", "emitter", "B")
        between.cut_all()
        await agent.progress(3)
        own = [row for row in rows(server, SIGNALS) if row["emitter"] == "A"]
        assert [row["seq"] for row in own] == ["1", "2", "3", "4"]


async def test_a_backlog_is_not_sent_again(server: RunningServer, proxy: MakeProxy) -> None:
    between = proxy(server)
    async with connected(between.url) as fabric, fabric.agent("A") as agent:
        for number in range(20):
            await agent.progress(number)
        for _ in range(3):
            between.cut_all()
            await agent._sender.send_lost_again()
        assert len(rows(server, SIGNALS)) == 21


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


async def test_an_older_file_has_a_claim_that_its_holder_has_given_back(
    server: RunningServer, proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The RELEASE is older than what is kept: the claim is given back all the same."""
    monkeypatch.setattr(grant, "COMPARE_PAUSE_S", 0.05)
    between = proxy(server)
    async with connected(between.url) as fabric, fabric.agent("A") as agent:
        async with fleet(server.url):
            async with agent.writing("x"):
                before = saved(server)
            await eventually(lambda: not records(server, S.claims), "it is given back")
        agent._sender._sent._kept.popleft()
        while len(agent._sender._sent._kept) > 1:
            agent._sender._sent._kept.popleft()
        await agent.progress(50)
        agent._sender._sent._kept.popleft()
        put_back(server, before)
        assert records(server, S.claims)
        between.cut_all()
        async with fleet(server.url):
            await eventually(lambda: not records(server, S.claims), "it is given back again")


async def test_a_request_that_is_too_old_to_be_sent_again_fails(
    server: RunningServer, proxy: MakeProxy
) -> None:
    between = proxy(server)
    async with connected(between.url) as fabric, fabric.agent("A") as agent:
        await agent.progress(1)
        before = saved(server)
        waiting = asyncio.create_task(agent.wait_for("schema"))
        await eventually(lambda: rows(server, SIGNALS, type="BLOCKED"), "it is asked for")
        await agent.progress(2)
        while len(agent._sender._sent._kept) > 1:
            agent._sender._sent._kept.popleft()
        put_back(server, before)
        between.cut_all()
        with pytest.raises(UnavailableError, match="ask again"):
            await waiting


class WentBack(MemoryStore):
    """A server that breaks the connection, and has other entries when it is read again."""

    is_broken = False

    async def read_streams(self, *arguments: Any) -> Any:
        if self.is_broken:
            self.is_broken = False
            raise ReconnectedError("another server may have taken its place")
        return await super().read_streams(*arguments)


async def test_who_follows_a_log_is_shown_what_came_instead() -> None:
    """Also if the log has already come further than it was read."""
    store, keys = WentBack(lambda: 1_000), Namespace().partition(0).session("demo")
    store.data.hash(keys.meta)[b"opened_ms"] = b"1"

    def log(*numbers: int, said: bytes) -> None:
        for number in numbers:
            entry = [b"type", said, b"cause", b"%d-0" % number]
            store.data.stream(keys.log).append(b"%d-0" % number, entry, 1_000)

    log(1, 2, 3, said=b"first")
    went_back: list[bytes] = []
    following = pages(store, keys, BEGINNING, follow=True, on_went_back=went_back.append)
    async with aclosing(following):
        assert len(await anext(following)) == 3
        store.data.stream(keys.log).delete({(2, 0), (3, 0)})
        store.data.stream(keys.log).last = (1, 0)
        log(2, 3, 4, said=b"second")
        store.is_broken = True
        assert [(i, f[1]) for i, f in await anext(following)] == [
            (b"2-0", b"second"), (b"3-0", b"second"), (b"4-0", b"second"),
        ]  # fmt: skip
    assert went_back == [b"1-0"]
