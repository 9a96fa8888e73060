"""A commit whose reply is lost takes effect once, whatever the worker does next."""

import json
from collections.abc import Callable

from fabric.store.keys import ORCHESTRATORS
from tests.support.daemon import StartDaemon
from tests.support.keyspace import LEASE, RESULTS, SIGNALS, add, is_settled, rows, session, values
from tests.support.proxy import Proxy
from tests.support.proxy_fault import Fault, carrying, every_of, script
from tests.support.servers import RunningServer
from tests.support.waiting import until

DEMO = session("demo")


def send(server: RunningServer, first: int, count: int) -> None:
    for number in range(first, first + count):
        add(
            server, session="demo", type="PARTIAL_RESULT", emitter="A",
            seq=number, incarnation=1, payload=json.dumps({"partial": {"n": number}}),
        )  # fmt: skip


def test_each_effect_happens_once(
    server: RunningServer, daemon: StartDaemon, proxy: Callable[[RunningServer], Proxy]
) -> None:
    between = proxy(server)
    orchestrator = daemon(between.url, "--batch-signals-max", "10")
    send(server, 1, 1)
    until(lambda: is_settled(server), orchestrator.said)

    lost = between.fault(Fault.CUT_REPLY, every_of(script("commit"), carrying(b"A")), times=5)
    send(server, 2, 200)
    until(lambda: lost.landed == 5 and is_settled(server), orchestrator.said)

    logged = rows(server, DEMO.log)
    assert [row["seq"] for row in logged] == [str(number) for number in range(1, 202)]
    assert [row.id for row in logged] == [f"{number}-0" for number in range(1, 202)]
    results = rows(server, RESULTS)
    assert [row["cause"] for row in results] == [row.id for row in logged]
    assert [row.payload["partial"]["n"] for row in results] == list(range(1, 202))
    assert "connection failed" in orchestrator.said()
    (group,) = server.cli("XINFO", "GROUPS", SIGNALS)
    assert group[group.index("name") + 1] == ORCHESTRATORS
    assert group[group.index("pending") + 1] == 0
    assert group[group.index("last-delivered-id") + 1] == values(server, LEASE)["committed"]


def test_a_request_that_is_lost_is_made_again(
    server: RunningServer, daemon: StartDaemon, proxy: Callable[[RunningServer], Proxy]
) -> None:
    between = proxy(server)
    orchestrator = daemon(between.url)
    lost = between.fault(Fault.CUT_REQUEST, every_of(script("commit"), carrying(b"A")), times=3)
    send(server, 1, 20)
    until(lambda: lost.struck == 3 and is_settled(server), orchestrator.said)
    assert [row["seq"] for row in rows(server, DEMO.log)] == [str(n) for n in range(1, 21)]


def test_a_commit_that_lands_after_the_worker_has_gone_on_is_refused(
    server: RunningServer, daemon: StartDaemon, proxy: Callable[[RunningServer], Proxy]
) -> None:
    """It was still in a dead connection's buffer while the worker loaded the session again."""
    between = proxy(server)
    orchestrator = daemon(between.url)
    late = between.fault(Fault.LATE_REQUEST, every_of(script("commit"), carrying(b"A")))
    send(server, 1, 20)
    until(lambda: late.struck and is_settled(server), orchestrator.said)
    before = rows(server, DEMO.log)
    version = values(server, LEASE)["version"]
    between.lift(late)
    until(lambda: late.landed, "the late commit reached the server")
    assert rows(server, DEMO.log) == before
    assert [row["seq"] for row in before] == [str(number) for number in range(1, 21)]
    assert len(rows(server, RESULTS)) == 20
    assert values(server, LEASE)["version"] == version
