"""`python -m workers`: how it starts, what it logs, how it ends."""

import os
import signal
import subprocess
import sys

import pytest

from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace
from tests.support.daemon import StartDaemon, environment
from tests.support.keyspace import (
    LEASE,
    RESULTS,
    is_settled,
    records,
    results,
    rows,
    session,
    values,
)
from tests.support.servers import RunningServer
from tests.support.waiting import until

S = session("s")


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "workers", *arguments],
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_drains_and_gives_the_lease_up(
    server: RunningServer, daemon: StartDaemon, number: signal.Signals
) -> None:
    orchestrator = daemon(server.url, "--name", "one", lease_ms=600_000)
    orchestrator.hear("taken by one")
    results(server, *range(1, 2_001))
    until(lambda: rows(server, S.log), orchestrator.said)
    orchestrator.process.send_signal(number)
    assert orchestrator.wait() == 0, orchestrator.said()
    for words in ("draining", "given up by one", "one: stopped"):
        assert words in orchestrator.said()
    assert values(server, LEASE)["owner"] == ""
    assert server.cli("EXISTS", Namespace().replicas(ORCHESTRATORS)) == 0

    # The lease would have run for ten minutes; the next replica has it at once.
    other = daemon(server.url, "--name", "other")
    until(lambda: is_settled(server), other.said)
    assert [int(row["seq"]) for row in rows(server, S.log, kind="signal")] == list(range(1, 2_001))
    assert len(rows(server, RESULTS)) == 2_000


def test_a_second_signal_stops_it_at_once(server: RunningServer, daemon: StartDaemon) -> None:
    """Even while the server does not answer; nothing is lost."""
    orchestrator = daemon(server.url, "--name", "one")
    orchestrator.hear("taken by one")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        orchestrator.terminate()
        orchestrator.hear("draining")
        orchestrator.terminate()
        assert orchestrator.wait() == 1
        assert "stopping at once" in orchestrator.said()
        assert "one: stopped" not in orchestrator.said()
        assert "Traceback" not in orchestrator.said()
    finally:
        os.kill(server.pid, signal.SIGCONT)
    results(server, 1)
    other = daemon(server.url)
    until(lambda: is_settled(server), other.said)
    assert len(rows(server, S.log)) == 1


def test_it_waits_for_a_server_that_is_not_there_yet(
    server: RunningServer, daemon: StartDaemon
) -> None:
    server.stop()
    orchestrator = daemon(server.url)
    orchestrator.hear("ALARM")
    server.start()
    results(server, 1)
    until(lambda: rows(server, S.log), orchestrator.said)
    orchestrator.hear("works again")
    assert orchestrator.said().count("ALARM") == 1


def test_it_can_be_stopped_while_the_server_is_away(
    server: RunningServer, daemon: StartDaemon
) -> None:
    server.stop()
    orchestrator = daemon(server.url)
    orchestrator.hear("ALARM")
    orchestrator.terminate()
    assert orchestrator.wait() == 0


def test_two_replicas_without_a_name_choose_different_ones(
    server: RunningServer, daemon: StartDaemon
) -> None:
    one, other = daemon(server.url), daemon(server.url)
    replicas = Namespace().replicas(ORCHESTRATORS)
    until(lambda: server.cli("ZCARD", replicas) == 2, lambda: one.said() + other.said())


def test_the_synthesizer_counts_every_result_once(
    server: RunningServer, daemon: StartDaemon
) -> None:
    daemon(server.url)
    synthesizer = daemon(server.url, worker="synthesizer")
    results(server, *range(1, 301))
    until(
        lambda: records(server, S.synthesis).get("document:/n", {}).get("value") == 300,
        synthesizer.said,
    )
    until(lambda: server.cli("XLEN", RESULTS) == 0, synthesizer.said)
    revisions = rows(server, S.revisions)
    assert [row.id for row in revisions] == [f"{n}-0" for n in range(1, len(revisions) + 1)]
    causes = [cause for row in revisions for cause in row["causes"].split()]
    assert causes == [f"{n}-0" for n in range(1, 301)]
    synthesizer.terminate()
    assert synthesizer.wait() == 0
    lease = values(server, Namespace().partition(0).lease(SYNTHESIZERS))
    assert lease["owner"] == ""


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (("orchestrator",), {}, "no server"),
        (("orchestrator", "--redis-url", "redis://h", "--namespace", "a:b"), {}, "namespace"),
        (("orchestrator", "--redis-url", "redis://h", "--lease-ms", "1"), {}, "lease"),
        (("orchestrator",), {"FABRIC_REDIS_URL": "http://h"}, "redis://"),
        (("nothing",), {}, "invalid choice"),
    ],
)
def test_a_failure_to_start_is_reported_in_one_line(
    arguments: tuple[str, ...],
    variables: dict[str, str],
    words: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("nowhere"))
    result = run(*arguments, **variables)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
