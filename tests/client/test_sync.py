"""The synchronous twin: the same methods, for code without an event loop."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fabric.client.sync import SyncFabric
from fabric.core.signal import SignalType
from fabric.errors import (
    DependencyFailedError,
    NotAllowedError,
    SignalError,
    UnreachableError,
    WaitTimeoutError,
)
from tests.client.fleet import S, said
from tests.support.daemon import Daemon, StartDaemon, environment
from tests.support.keyspace import Row, records, rows
from tests.support.servers import ROOT, RunningServer
from tests.support.waiting import until


@pytest.fixture
def orchestrator(server: RunningServer, daemon: StartDaemon) -> Daemon:
    return daemon(server.url)


@pytest.fixture
def fabric(server: RunningServer, orchestrator: Daemon) -> Iterator[SyncFabric]:
    with SyncFabric.connect(
        server.url, session="s", heartbeat_ms=600_000, confirm_ms=0
    ) as connected:
        yield connected


def logged(server: RunningServer, count: int) -> list[Row]:
    """Return the signals in the log, once there are `count` of them."""
    until(lambda: len(rows(server, S.log, kind="signal")) >= count, f"{count} signals")
    return rows(server, S.log, kind="signal")


def test_every_verb_is_a_signal(server: RunningServer, fabric: SyncFabric) -> None:
    with fabric.agent("A", stream="B", produces=["x"]) as agent:
        assert (agent.name, agent.incarnation) == ("A", 1)
        agent.progress(25, checkpoint="c", next_checkpoint="d")
        agent.partial_result({"k": 1})
        agent.checkpoint("d")
        agent.resolve("x", location="x.py", consumers=["C"])
        agent.ahead(capacity=1)
        agent.emit(SignalType.ESCALATE, {"question": "Which?"})
        agent.complete({"done": True})
    with fabric.agent("B") as other:
        other.fail("no use", retryable=True)
    signals = logged(server, 10)
    assert [row["type"] for row in signals] == [
        "STARTED", "PROGRESS", "PARTIAL_RESULT", "CHECKPOINT_REACHED", "DEPENDENCY_RESOLVED",
        "EARLY_COMPLETION", "ESCALATE", "COMPLETED", "STARTED", "FAILED",
    ]  # fmt: skip
    assert signals[1].payload == {"percent": 25, "checkpoint": "c", "next_checkpoint": "d"}
    assert signals[9].payload == {"error": "no use", "retryable": True}


def test_documents_in_any_spelling(server: RunningServer, fabric: SyncFabric) -> None:
    ids = fabric.emit(
        [
            {"signal": "PROGRESS", "percent": 50, "emitter": "A"},
            {"signal_type": "BLOCKED", "emitter": "A", "payload": {"on": "x"}},
            {"type": "PROGRESS(75%)", "emitter": "A", "session": "s"},
        ]
    )
    assert len(set(ids)) == 3
    assert said(logged(server, 3)) == [("A", "PROGRESS"), ("A", "BLOCKED"), ("A", "PROGRESS")]
    with pytest.raises(SignalError, match="percent"):
        fabric.emit([{"type": "PROGRESS(7500%)", "emitter": "A"}])


def test_waiting(server: RunningServer, fabric: SyncFabric) -> None:
    with fabric.agent("A", produces=["x", "y"]) as maker, fabric.agent("B") as waiter:
        maker.resolve("x", location="x.py")
        assert waiter.wait_for("x", timeout=20) == "x.py"
        with pytest.raises(WaitTimeoutError, match="for y: to be produced by A"):
            waiter.wait_for("y", timeout=0.1)
        maker.fail("gone")
        with pytest.raises(DependencyFailedError, match="A failed to produce y: gone"):
            waiter.wait_for("y", timeout=20)


def test_two_threads_share_one_fabric(server: RunningServer, fabric: SyncFabric) -> None:
    found: list[Any] = []

    def wait() -> None:
        with fabric.agent("B") as waiter:
            found.append(waiter.wait_for("x", timeout=20))

    with fabric.agent("A", produces=["x"]) as maker:
        thread = threading.Thread(target=wait)
        thread.start()
        nudge = next(maker.messages())
        assert (nudge.type, nudge.payload["waiting"]) == ("NUDGE", ["B"])
        maker.resolve("x", location="x.py")
        thread.join()
    assert found == ["x.py"]


def test_messages_are_read_from_where_the_agent_was(
    server: RunningServer, fabric: SyncFabric
) -> None:
    with fabric.agent("A") as other:  # so that what B is told has higher ids
        for percent in range(5):
            other.progress(percent)
    logged(server, 7)
    for number in (1, 2, 3):
        server.cli("XADD", S.inbox("B"), f"{number}-1", "type", "NUDGE", "payload", "{}")
    for expected in (["1-1", "2-1"], ["2-1", "3-1"]):
        with fabric.agent("B") as agent:
            messages = agent.messages()
            assert [next(messages).id for _ in range(2)] == expected
            messages.close()


def test_an_exception_fails_the_agent(server: RunningServer, fabric: SyncFabric) -> None:
    with pytest.raises(ValueError, match="boom"), fabric.agent("A"):
        raise ValueError("boom")
    assert logged(server, 2)[1].payload["error"] == "ValueError: boom"


def test_heartbeats_go_on_while_the_caller_computes(
    server: RunningServer, orchestrator: Daemon
) -> None:
    with SyncFabric.connect(server.url, session="s", heartbeat_ms=100) as fabric, fabric.agent("A"):
        until(lambda: len(rows(server, S.log, type="HEARTBEAT")) >= 2, "its heart beats")


def test_an_unreachable_server(server: RunningServer) -> None:
    server.stop()
    before = threading.active_count()
    with pytest.raises(UnreachableError), SyncFabric.connect(server.url, emit_limit_ms=0):
        pass
    assert threading.active_count() == before


def test_nothing_is_left_behind(server: RunningServer, orchestrator: Daemon) -> None:
    before = threading.active_count()
    for _ in range(3):
        with SyncFabric.connect(server.url, session="s") as fabric, fabric.agent("A") as agent:
            agent.progress(1)
            following = agent.messages()
            server.cli("XADD", S.inbox("A"), "*", "type", "NUDGE")
            next(following)
    assert threading.active_count() == before
    until(lambda: "name=fabric-client" not in server.cli("CLIENT", "LIST"), "no connection is left")


def test_it_can_be_used_only_inside_its_block(server: RunningServer) -> None:
    closed = SyncFabric.connect(server.url)
    with closed:
        agent = closed.agent("A", session="s")
    with pytest.raises(NotAllowedError, match="closed"):
        agent.progress(1)


def test_closing_it_ends_a_wait_in_another_thread(
    server: RunningServer, orchestrator: Daemon
) -> None:
    found: list[BaseException] = []
    with SyncFabric.connect(server.url, session="s") as shared:
        agent = shared.agent("B").__enter__()

        def wait() -> None:
            try:
                agent.wait_for("never")
            except NotAllowedError as error:
                found.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: rows(server, S.log, type="BLOCKED"), orchestrator.said)
    thread.join()
    assert "closed while a call was under way" in str(found[0])


def test_ctrl_c_withdraws_the_wait(server: RunningServer, orchestrator: Daemon) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.client.blocker", server.url],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            until(
                lambda: records(server, S.agents).get("B", {}).get("status") == "blocked",
                orchestrator.said,
            )
            process.send_signal(signal.SIGINT)
            until(lambda: rows(server, S.log, type="PROGRESS"), "it goes on")
            until(lambda: records(server, S.agents)["B"]["status"] == "active", "it does not wait")
            waiters = records(server, S.dependencies)["never"].get("waiters", {})
            assert waiters == {}
            output, _ = process.communicate("\n", timeout=30)
        finally:
            process.kill()
    assert output.split("\n")[:3] == ["interrupted", "goes on", "ended"]
    assert said(logged(server, 5))[-1] == ("B", "COMPLETED")


def test_the_methods_that_wait(server: RunningServer, fabric: SyncFabric) -> None:
    with fabric.agent("A") as agent:
        agent.ready(timeout=20)
        with agent.writing("x", timeout=20) as grant:
            assert grant.is_current
            with fabric.agent("B") as other, pytest.raises(WaitTimeoutError, match="A has it"):
                other.writing("x", timeout=0.5).__enter__()
        with agent.integrating("release", timeout=20):
            agent.progress(50)
        agent.checkpoint("c", timeout=20)
        with pytest.raises(WaitTimeoutError, match="fabric decide q"):
            agent.escalate("Which?", id="q", timeout=0.1)
        agent.decide("q", "v1")
        agent.release("x")
        assert (agent.cancelled, agent.resumed) == (None, None)


def test_answers_carry_their_hops(server: RunningServer, fabric: SyncFabric) -> None:
    with fabric.agent("A") as one, fabric.agent("B") as other:
        one.checkpoint("c", timeout=20)
        messages = other.messages()
        while next(messages).type != "CHECKPOINT_REACHED":
            pass
        other.progress(1)
        messages.close()
        other.progress(2)
        until(lambda: len(rows(server, S.log, type="PROGRESS")) == 2, "both are handled")
    assert [row["hops"] for row in rows(server, S.log, type="PROGRESS")] == ["1", ""]


def test_a_session_shows_its_synthesis(
    fabric: SyncFabric, server: RunningServer, daemon: StartDaemon
) -> None:
    daemon(server.url, worker="synthesizer")
    with fabric.agent("A") as agent:
        agent.partial_result({"findings": [{"key": "port", "value": 6379}]})
    session = fabric.session()
    final = session.until_final(timeout=30)
    assert final.is_final
    assert final.findings["port"].value == 6379
    revisions = list(session.revisions())
    assert [one.number for one in revisions] == list(range(1, final.revision + 1))
    assert revisions[-1].is_final
    assert session.synthesis(revision=final.revision).document == final.document
