"""Somebody uses up the ids of a stream: a worker replaces it; nothing is lost or done twice."""

from contextlib import suppress

import pytest
import redis.exceptions

from fabric.client.fabric import Fabric
from fabric.store.keys import Namespace
from fabric.store.value import SEQUENCE_MAX
from tests.support.daemon import Daemon, StartDaemon
from tests.support.keyspace import DEAD, RESULTS, SIGNALS, add, is_settled, rows, session, story
from tests.support.servers import RunningServer
from tests.support.waiting import eventually, until

pytestmark = pytest.mark.server

NAMES = Namespace().partition(0)
LAST = f"{SEQUENCE_MAX}-{SEQUENCE_MAX}"
NEARLY = f"{SEQUENCE_MAX}-{SEQUENCE_MAX - 5}"
S = session("s")


def signal(kind: str, emitter: str = "A", payload: str = "{}") -> dict[str, str]:
    return {"session": "s", "type": kind, "emitter": emitter, "payload": payload}


def put(server: RunningServer, key: str, entry_id: str, fields: dict[str, str]) -> None:
    """XADD under an id of our own choice."""
    server.cli("XADD", key, entry_id, *(part for pair in fields.items() for part in pair))


def send(server: RunningServer, kind: str, emitter: str = "A", payload: str = "{}") -> None:
    """Send a signal as a person does, who tries again when the server refuses."""

    def is_sent() -> bool:
        with suppress(redis.exceptions.ResponseError):
            add(server, SIGNALS, **signal(kind, emitter, payload))
            return True
        return False

    until(is_sent, f"the server takes {kind}")


def settle(server: RunningServer, daemon: Daemon) -> None:
    until(lambda: is_settled(server), daemon.said)


@pytest.mark.parametrize("is_deleted", [False, True], ids=["there", "deleted"])
@pytest.mark.parametrize("last", [LAST, NEARLY])
def test_the_ingress_heals_while_a_worker_runs(
    server: RunningServer, daemon: StartDaemon, last: str, is_deleted: bool
) -> None:
    worker = daemon(server.url)
    send(server, "STARTED")
    settle(server, worker)
    put(server, SIGNALS, last, signal("PROGRESS", payload='{"percent": 10}'))
    if is_deleted:
        with suppress(redis.exceptions.ResponseError):
            server.cli("XDEL", SIGNALS, last)
    until(lambda: f"{SIGNALS} is replaced" in worker.said(), worker.said)
    send(server, "COMPLETED")
    settle(server, worker)
    expected = ["1-0 STARTED A", "2-0 PROGRESS A", "3-0 COMPLETED A"]
    # The worker may have read it before it was deleted.
    possible = [expected, ["1-0 STARTED A", "2-0 COMPLETED A"]]
    assert story(server, S) in (possible if is_deleted else [expected])


@pytest.mark.parametrize("last", [LAST, NEARLY])
def test_the_ingress_heals_when_a_worker_starts(
    server: RunningServer, daemon: StartDaemon, last: str
) -> None:
    add(server, SIGNALS, **signal("STARTED"))
    for number in range(1_200):
        add(server, SIGNALS, **signal("PROGRESS", payload=f'{{"percent": {number % 100}}}'))
    put(server, SIGNALS, last, {"junk": "1"})
    if last == NEARLY:
        add(server, SIGNALS, **signal("CHECKPOINT_REACHED", payload='{"checkpoint": "c"}'))
    worker = daemon(server.url)
    send(server, "COMPLETED")
    settle(server, worker)
    kinds = [row["type"] for row in rows(server, S.log, kind="signal")]
    reached = ["CHECKPOINT_REACHED"] if last == NEARLY else []
    assert kinds == ["STARTED", *["PROGRESS"] * 1_200, *reached, "COMPLETED"]
    (letter,) = rows(server, DEAD)
    assert letter["raw.junk"] == "1"


async def test_an_agent_goes_on_through_an_ingress_without_ids(
    server: RunningServer, daemon: StartDaemon
) -> None:
    """Its signals are refused until a worker has replaced the stream."""
    put(server, SIGNALS, LAST, signal("STARTED", "B"))
    daemon(server.url)
    async with Fabric.connect(server.url) as fabric, fabric.agent("A", session="s") as agent:
        await agent.ready()
        await agent.progress(10)
    await eventually(lambda: is_settled(server), "all is decided")
    assert {row["emitter"] for row in rows(server, S.log, type="STARTED")} == {"A", "B"}


@pytest.mark.parametrize("by_hand", ["50-0", LAST])
async def test_an_agent_hears_what_comes_after_an_entry_that_is_removed(
    server: RunningServer, daemon: StartDaemon, by_hand: str
) -> None:
    daemon(server.url)
    async with (
        Fabric.connect(server.url) as fabric,
        fabric.agent("A", session="s", produces=["x"]) as maker,
        fabric.agent("B", session="s") as waiter,
    ):
        await waiter.ready()
        put(server, S.inbox("B"), by_hand, {"by": "hand"})
        await eventually(lambda: waiter._mailbox._place[0] == by_hand.encode(), "B has read it")
        await maker.resolve("x", location="there", consumers=["B"])
        assert await waiter.wait_for("x", timeout=25) == "there"


@pytest.mark.parametrize("by_hand", ["50-0", LAST])
@pytest.mark.parametrize("key", [S.log, S.inbox("B"), S.broadcast, RESULTS, DEAD])
@pytest.mark.parametrize("is_deleted", [False, True], ids=["there", "deleted"])
def test_a_stream_that_the_worker_writes_heals(
    server: RunningServer, daemon: StartDaemon, key: str, by_hand: str, is_deleted: bool
) -> None:
    """After the test, a replay gives what the log and the inboxes hold."""
    worker = daemon(server.url)
    send(server, "STARTED", "A", '{"produces": ["x"]}')
    send(server, "STARTED", "B")
    settle(server, worker)
    if key == RESULTS:
        by_hand = LAST  # it has entries with ids of the server's time
    put(server, key, by_hand, {"by": "hand"})
    if is_deleted:
        server.cli("XDEL", key, by_hand)
    send(server, "CHECKPOINT_REACHED", "A", '{"checkpoint": "c"}')
    send(server, "BLOCKED", "B", '{"on": "x"}')
    send(server, "NO_SUCH", "B")
    send(server, "DEPENDENCY_RESOLVED", "A", '{"dependency_id": "x"}')
    send(server, "COMPLETED", "A")
    settle(server, worker)
    assert [row["type"] for row in rows(server, S.log, kind="signal")] == [
        *("STARTED", "STARTED", "CHECKPOINT_REACHED", "BLOCKED", "DEPENDENCY_RESOLVED"),
        "COMPLETED",
    ]
    if by_hand == LAST or key not in (RESULTS, DEAD):
        worker.hear(f"{key} is replaced")
    assert len(rows(server, DEAD, **{"raw.type": "NO_SUCH"})) == 1
    assert len(rows(server, RESULTS, type="COMPLETED")) == 1
    for stream in (S.log, S.inbox("B"), S.broadcast):
        assert not [row.id for row in rows(server, stream) if row["by"]]
