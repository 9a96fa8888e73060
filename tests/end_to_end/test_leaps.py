"""Numbers that a sender chooses: one far above the last cannot shut out the agent it names."""

import pytest

from tests.support.daemon import Daemon, StartDaemon
from tests.support.keyspace import DEAD, SIGNALS, add, is_settled, records, rows, session
from tests.support.servers import RunningServer
from tests.support.waiting import until

pytestmark = pytest.mark.server

S = session("s")
HUGE = 2**53 - 1


def send(server: RunningServer, daemon: Daemon, kind: str, emitter: str, **numbers: int) -> None:
    add(server, SIGNALS, session="s", type=kind, emitter=emitter, payload="{}", **numbers)
    until(lambda: is_settled(server), daemon.said)


def test_an_incarnation_far_ahead_is_refused(server: RunningServer, daemon: StartDaemon) -> None:
    worker = daemon(server.url)
    send(server, worker, "STARTED", "BOB", incarnation=1)
    send(server, worker, "STARTED", "BOB", incarnation=HUGE)
    send(server, worker, "STARTED", "ANN", incarnation=HUGE)
    for name in ("BOB", "ANN"):
        send(server, worker, "STARTED", name, incarnation=2)
        assert records(server, S.agents)[name]["incarnation"] == 2
    assert [row["code"] for row in rows(server, DEAD)] == ["LEAP", "LEAP"]
    told = [row.payload["code"] for row in rows(server, S.inbox("BOB"), type="NOTICE")]
    assert told == ["LEAP", "REPLACED"]


def test_a_number_far_ahead_is_refused(server: RunningServer, daemon: StartDaemon) -> None:
    worker = daemon(server.url)
    send(server, worker, "STARTED", "A", incarnation=1, seq=1)
    send(server, worker, "HEARTBEAT", "A", incarnation=1, seq=HUGE)
    send(server, worker, "COMPLETED", "A", incarnation=1, seq=2)
    assert records(server, S.agents)["A"]["status"] == "completed"
    (letter,) = rows(server, DEAD)
    assert (letter["code"], letter["raw.seq"]) == ("LEAP", str(HUGE))


def test_what_a_smaller_step_shuts_out_is_kept(server: RunningServer, daemon: StartDaemon) -> None:
    worker = daemon(server.url)
    send(server, worker, "STARTED", "A", incarnation=1, seq=1)
    send(server, worker, "HEARTBEAT", "A", incarnation=1, seq=1_000)
    send(server, worker, "COMPLETED", "A", incarnation=1, seq=2)
    (letter,) = rows(server, DEAD)
    assert (letter["code"], letter["raw.type"]) == ("SKIPPED", "COMPLETED")
    notices = [row.payload for row in rows(server, S.inbox("A"), type="NOTICE")]
    assert [(one["code"], one["seq"]) for one in notices] == [("SKIPPED", 1_000), ("SKIPPED", 2)]
