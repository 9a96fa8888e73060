"""A worker that is frozen for longer than its lease, and then resumes."""

from tests.support.daemon import Daemon, StartDaemon
from tests.support.keyspace import (
    LEASE,
    RESULTS,
    add,
    client,
    is_settled,
    rows,
    server_ms,
    session,
    story,
    values,
)
from tests.support.servers import RunningServer
from tests.support.waiting import until

DEMO = session("demo")
LEASE_MS = 500


def report(server: RunningServer, seq: int) -> None:
    add(
        server,
        session="demo",
        type="PARTIAL_RESULT",
        emitter="A",
        seq=seq,
        incarnation=1,
        payload='{"partial": {"n": 1}}',
    )


def freeze_while_it_reads(server: RunningServer, worker: Daemon) -> None:
    """When it resumes, the next signals are in its socket, so it has something to commit."""
    while True:
        worker.freeze()
        with client(server) as asking:
            if any("b" in line["flags"] for line in asking.client_list()):
                return
        worker.thaw()


def test_it_commits_nothing_after_it_resumes(server: RunningServer, daemon: StartDaemon) -> None:
    frozen = daemon(server.url, "--name", "frozen", lease_ms=LEASE_MS)
    frozen.hear("taken by frozen")
    report(server, 1)
    until(lambda: is_settled(server), frozen.said)
    epoch = values(server, LEASE)["epoch"]

    freeze_while_it_reads(server, frozen)
    frozen_ms = server_ms(server)
    report(server, 2)
    other = daemon(server.url, "--name", "other", lease_ms=LEASE_MS)
    other.hear("taken by other")
    report(server, 3)
    until(lambda: is_settled(server), other.said)
    new_epoch = values(server, LEASE)["epoch"]
    assert int(new_epoch) > int(epoch)
    until(lambda: server_ms(server) > frozen_ms + 3 * LEASE_MS, "three leases go by")
    version = values(server, LEASE)["version"]

    frozen.thaw()
    # Its commit, or the renewal of its lease, whichever is the first.
    frozen.hear(f"on partition 0 under epoch {epoch} refused: fenced; other holds epoch")
    assert values(server, LEASE)["version"] == version

    report(server, 4)
    until(lambda: is_settled(server), other.said)
    # Without outages: on a busy machine each of the two can be late with its lease.
    signals = [line for line in story(server, DEMO) if not line.endswith(" OUTAGE ")]
    logged = rows(server, DEMO.log, kind="signal")
    assert [row["seq"] for row in logged] == ["1", "2", "3", "4"]
    causes = [row["cause"] for row in rows(server, RESULTS)]
    assert signals == [f"{cause} PARTIAL_RESULT A" for cause in causes]
