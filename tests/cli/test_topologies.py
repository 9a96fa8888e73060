"""The command line, workers and the doctor with Sentinel and Cluster."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric.store.keys import Namespace, partition_of
from tests.support.cluster import Cluster
from tests.support.sentinel import Sentinels
from tests.support.servers import FLAVOUR_DEFAULT, binary
from tests.support.shell import Shell, end
from tests.support.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(FLAVOUR_DEFAULT) as running:
        yield running


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    with Sentinels(FLAVOUR_DEFAULT) as running:
        yield running


@pytest.fixture(params=["cluster", "seeds", "sentinels"])
def shell(lone: Shell, request: pytest.FixtureRequest) -> Shell:
    """A shell with an empty fabric behind each kind of URL."""
    if request.param == "sentinels":
        service: Sentinels = request.getfixturevalue("sentinels")
        nodes, url = [service.primary], service.url
    else:
        running: Cluster = request.getfixturevalue("cluster")
        nodes, url = running.primaries, running.url if request.param == "cluster" else running.seeds
    for node in nodes:
        node.flush()
    lone.variables |= {"FABRIC_REDIS_URL": url, "FABRIC_SESSION": "demo"}
    return lone


def tell(shell: Shell) -> None:
    """Have two agents work with one another."""
    architect, scheduler = {"FABRIC_AGENT": "ARCHITECT"}, {"FABRIC_AGENT": "SCHEDULER"}
    shell.good("emit", "STARTED", 'produces=["schema"]', **architect)
    waiting = shell.start("wait", "schema", **scheduler)
    until(lambda: "NUDGE" in shell.good("inbox", "--peek", **architect).out)
    shell.good(
        "emit", "PARTIAL_RESULT", 'partial={"findings": [{"key": "k", "value": 1}]}', **architect
    )
    shell.good("emit", "DEPENDENCY_RESOLVED(schema)", "--location", "x.py", **architect)
    assert end(waiting) == (0, "x.py\n", "")
    shell.good("emit", "COMPLETED", **architect)
    shell.good("emit", "COMPLETED", **scheduler)
    shell.good("wait", "--all")
    until(lambda: "final" in shell.run("synthesis").out)


def test_two_agents_and_all_reading_commands(shell: Shell) -> None:
    workers = [shell.start("orchestrator"), shell.start("synthesizer")]
    tell(shell)
    for words in (("status",), ("status", "--sessions"), ("synthesis",), ("tail", "--all")):
        assert shell.good(*words).out
    assert shell.good("replay").out
    for worker in workers:
        worker.terminate()
        assert end(worker).code == 0
    assert "FAIL" not in shell.good("doctor").out.upper().replace("FAILOVER", "")


def test_an_unnumbered_signal_on_too_few_replicas(lone: Shell, sentinels: Sentinels) -> None:
    sentinels.primary.flush()
    lone.variables |= {"FABRIC_REDIS_URL": sentinels.url, "FABRIC_WAIT_REPLICAS": "3"}
    done = lone.run("emit", "STARTED", FABRIC_SESSION="demo", FABRIC_AGENT="A")
    assert done.code == 6
    assert "on 2 of 3 replicas" in done.err
    assert sentinels.primary.cli("XLEN", Namespace().partition(0).signals) == 1


def test_the_lines_that_keys_prints_work(shell: Shell) -> None:
    workers = [shell.start("orchestrator"), shell.start("synthesizer")]
    tell(shell)
    for worker in workers:
        worker.terminate()
        end(worker)
    folder = Path(binary(FLAVOUR_DEFAULT)).parent
    path = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    for words in (("keys",), ("keys", "demo")):
        shown = shell.good(*words, "--json").json
        answered = 0
        for key in shown:
            argv = shlex.split(key["command"])
            said = subprocess.run(argv, env=path, capture_output=True, text=True, timeout=20)
            assert said.returncode == 0, (key, said)
            assert not said.stdout.startswith(("MOVED", "ERR", "(error)")), said.stdout
            answered += bool(said.stdout.strip())
        assert answered > 5


def test_the_doctor_finds_faults_on_every_node(lone: Shell, cluster: Cluster) -> None:
    for node in cluster.primaries:
        node.flush()
    lone.variables |= {"FABRIC_REDIS_URL": cluster.url, "FABRIC_SESSION": "demo"}
    worker = lone.start("orchestrator")
    lone.good("emit", "STARTED", FABRIC_AGENT="A")
    until(lambda: lone.run("status").code == 0)
    worker.terminate()
    end(worker)
    found = {row["check"]: row for row in lone.good("doctor", "--json").json["checks"]}
    assert found["cluster"]["found"].startswith("cluster of 3 primaries, each with a replica")
    assert found["keys"]["level"] == "ok"
    assert found["orchestrators"]["found"].startswith("none holds a partition")

    spoilt, names = 0, Namespace()
    for number in range(64):
        lease = names.partition(number).lease("orchestrators")
        if spoilt < 5:
            spoilt += cluster.owner(lease).cli("HDEL", lease, "epoch")
    log = names.partition(partition_of("demo", 64)).session("demo").log
    cluster.owner(log).cli("DEL", log)
    cluster.owner(log).cli("SET", log, "by hand")
    done = lone.run("doctor", "--json")
    assert done.code == 1
    failed = {row["check"]: row for row in done.json["checks"] if row["level"] == "fail"}
    assert log in failed["key"]["found"]
    assert "has lost its epoch" in failed["orchestrators"]["found"]

    cluster.owner(log).cli("DEL", log)
    assert lone.run("doctor", "--reseed").code == 0
    assert lone.run("doctor").code == 0

    evicting = cluster.primaries[1]
    evicting.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        done = lone.run("orchestrator")
        assert done.code == 6
        assert evicting.address in done.err
    finally:
        evicting.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
