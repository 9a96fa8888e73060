"""Two namespaces on one server are separate, even if one name is a prefix of the other."""

import asyncio
from functools import partial

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.core.record import AgentStatus
from fabric.store.keys import Namespace, SessionKeys
from tests.support.daemon import StartDaemon
from tests.support.keyspace import records, rows, session, story
from tests.support.servers import RunningServer
from tests.support.waiting import eventually


async def live(url: str, namespace: str, location: str) -> str | None:
    """Run the same session with the same names and the same dependency."""
    async with (
        Fabric.connect(url, namespace=namespace) as fabric,
        fabric.agent("B", session="demo") as waiter,
        fabric.agent("A", session="demo", produces=["schema"]) as producer,
    ):
        waiting = asyncio.create_task(waiter.wait_for("schema", timeout=20))
        await eventually(lambda: _is_blocked(waiter), "B waits")
        await producer.resolve("schema", location=location)
        return await waiting


async def _is_blocked(waiter: Agent) -> bool:
    found = (await waiter.session.agents()).get(waiter.name)
    return found is not None and found.status is AgentStatus.BLOCKED


async def test_the_same_names_in_two_namespaces(server: RunningServer, daemon: StartDaemon) -> None:
    daemon(server.url, "--namespace", "fab")
    daemon(server.url, "--namespace", "fabric")
    found = await asyncio.gather(
        live(server.url, "fab", "of fab"), live(server.url, "fabric", "of fabric")
    )
    assert list(found) == ["of fab", "of fabric"]
    for namespace in ("fab", "fabric"):
        keys = session("demo", namespace)
        await eventually(partial(_both_have_ended, server, keys), "both have completed")
        (told,) = rows(server, keys.inbox("B"), type="DEPENDENCY_RESOLVED")
        assert told.payload["output_location"] == f"of {namespace}"
        assert {row["emitter"] for row in rows(server, keys.log, kind="signal")} == {"A", "B"}
        assert set(records(server, keys.agents)) == {"A", "B"}


def _both_have_ended(server: RunningServer, keys: SessionKeys) -> bool:
    return len(rows(server, keys.log, type="COMPLETED", kind="signal")) == 2


async def test_a_namespace_without_its_own_worker_stands_still(
    server: RunningServer, daemon: StartDaemon
) -> None:
    daemon(server.url, "--namespace", "one")
    async with (
        Fabric.connect(server.url, namespace="two") as two,
        Fabric.connect(server.url, namespace="one") as one,
    ):
        document = {"session": "demo", "type": "PROGRESS", "emitter": "A"}
        await two.emit([document])
        await one.emit([document])
    mine, other = session("demo", "one"), session("demo", "two")
    await eventually(lambda: story(server, mine) == ["1-0 PROGRESS A"], "one goes on")
    assert rows(server, other.log) == []
    assert server.cli("XLEN", Namespace("two").partition(0).signals) == 1
    assert all(key.startswith(("one:", "two:")) for key in server.cli("KEYS", "*"))
