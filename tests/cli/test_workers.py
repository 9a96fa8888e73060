"""`fabric workers`, and what `fabric doctor` says of the workers."""

import signal
import time

import pytest

from fabric.store.keys import ORCHESTRATORS, Namespace
from fabric.wire.worker import WorkerRecord, encode
from tests.support.servers import RunningServer
from tests.support.shell import Shell, end
from tests.support.waiting import until

pytestmark = pytest.mark.server


def pretend(
    quiet: Shell, server: RunningServer, name: str, *, until_ms: int = 2**50, rests: str = ""
) -> None:
    said = WorkerRecord("i", "far.example", 7, "0.1.0+other", "feed", 1, until_ms, 200.0, 0, rests)
    key = Namespace(quiet.variables["FABRIC_NAMESPACE"]).workers(ORCHESTRATORS)
    server.cli("HSET", key, name, encode(said).decode())


def test_who_serves_who_stands_by_and_who_is_gone(quiet: Shell, server: RunningServer) -> None:
    done = quiet.run("workers")
    assert done.code == 1
    assert "no orchestrator is alive" in done.err
    first = quiet.start("orchestrator", "--name", "one")
    pretend(quiet, server, "two", rests="it is far away")
    pretend(quiet, server, "three", until_ms=int(time.time() * 1000) - 9_000)
    until(lambda: "serves 0" in quiet.run("workers").out)
    done = quiet.run("workers")
    assert [line.split()[0] for line in done.lines] == ["WORKER", "one", "two", "three"]
    assert "serves 0" in done.lines[1]
    assert "defaults" in done.lines[1]
    assert "resting" in done.lines[2]
    assert "gone for" in done.lines[3]
    assert "two rests: it is far away" in done.err
    assert "different builds" in done.err
    assert "different rules: defaults, feed" in done.err
    assert done.code == 1, "there is no synthesizer"
    shown = {one["name"]: one for one in quiet.run("workers", "--json").json["workers"]}
    assert shown["one"]["serves"] == [0]
    assert shown["one"]["build"].startswith("0.")
    assert shown["two"]["trip_ms"] == 200.0

    done = quiet.run("doctor", "--json")
    said = [one["found"] for one in done.json["checks"] if one["check"] == ORCHESTRATORS]
    assert any("2 rule files" in found for found in said)
    assert any("different code" in found for found in said)
    assert any("two on far.example rests" in found for found in said)
    assert done.code == 1
    first.send_signal(signal.SIGTERM)
    assert end(first).code == 0


def test_strict_wants_workers_that_work(quiet: Shell, server: RunningServer) -> None:
    assert quiet.run("doctor").code == 0
    done = quiet.run("doctor", "--strict", "--json")
    assert done.code == 1
    failed = {one["check"] for one in done.json["checks"] if one["level"] == "fail"}
    assert failed == {"orchestrators", "synthesizers"}


def test_strict_sees_a_backlog_that_stands_still(quiet: Shell, server: RunningServer) -> None:
    pretend(quiet, server, "two")
    names = Namespace(quiet.variables["FABRIC_NAMESPACE"])
    server.cli("ZADD", names.replicas(ORCHESTRATORS), 2**50, "two")
    quiet.good("emit", "PROGRESS(1%)", "-s", "s", "-a", "A")
    found = [
        one["found"]
        for one in quiet.run("doctor", "--strict", "--json").json["checks"]
        if one["check"] == ORCHESTRATORS and one["level"] == "fail"
    ]
    assert any("stand still" in one for one in found), found
