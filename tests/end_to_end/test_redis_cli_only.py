"""Two agents that only use XADD and XRANGE: the protocol is enough."""

import json

import pytest

from tests.support.daemon import Daemon, StartDaemon
from tests.support.keyspace import SIGNALS, add, is_settled, records, rows, session, story
from tests.support.servers import RunningServer
from tests.support.waiting import until

DEMO = session("demo")


@pytest.fixture
def orchestrator(server: RunningServer, daemon: StartDaemon) -> Daemon:
    return daemon(server.url)


def say(server: RunningServer, kind: str, emitter: str, **payload: object) -> None:
    """XADD a signal with the fields of the protocol only."""
    fields = {"session": "demo", "type": kind, "emitter": emitter}
    if payload:
        fields["payload"] = json.dumps(payload)
    add(server, **fields)


def settle(server: RunningServer, orchestrator: Daemon, signals: int) -> None:
    """Wait until `count` signals have taken effect."""
    until(
        lambda: len(rows(server, DEMO.log, kind="signal")) == signals and is_settled(server),
        lambda: f"{signals} signals handled; {story(server, DEMO)}; {orchestrator.said()}",
    )


def test_the_wait_comes_first(server: RunningServer, orchestrator: Daemon) -> None:
    say(server, "STARTED", "A", produces=["schema"])
    say(server, "STARTED", "B")
    say(server, "BLOCKED", "B", on="schema", reason="needs the columns")
    settle(server, orchestrator, 3)

    (nudge,) = rows(server, DEMO.inbox("A"))
    assert (nudge["type"], nudge["from"], nudge["cause"]) == ("NUDGE", "ORCHESTRATOR", "3-0")
    assert nudge.payload == {"on": "schema", "waiting": ["B"]}
    assert rows(server, DEMO.inbox("B")) == []
    assert records(server, DEMO.agents)["B"]["status"] == "blocked"
    assert records(server, DEMO.dependencies)["schema"]["waiters"] == {"B": "3-0"}

    say(server, "DEPENDENCY_RESOLVED", "A", dependency_id="schema", output_location="x.py")
    settle(server, orchestrator, 4)

    assert len(rows(server, DEMO.inbox("A"))) == 1
    passed_on, resume = rows(server, DEMO.inbox("B"))
    assert (passed_on["type"], passed_on["from"]) == ("DEPENDENCY_RESOLVED", "A")
    assert passed_on.payload == {"dependency_id": "schema", "output_location": "x.py"}
    assert (resume["type"], resume["from"]) == ("RESUME", "ORCHESTRATOR")
    assert resume.payload["dependency"] == "schema"
    assert passed_on["cause"] == resume["cause"] == "4-0"
    assert records(server, DEMO.agents)["B"]["status"] == "active"
    assert story(server, DEMO) == [
        "1-0 STARTED A",
        "2-0 STARTED B",
        "3-0 BLOCKED B",
        "3-1 NUDGE → A (of 3-0)",
        "4-0 DEPENDENCY_RESOLVED A",
        "4-1 DEPENDENCY_RESOLVED → B (of 4-0)",
        "4-2 RESUME → B (of 4-0)",
    ]


def test_the_dependency_is_there_already(server: RunningServer, orchestrator: Daemon) -> None:
    say(server, "STARTED", "A", produces=["schema"])
    say(server, "STARTED", "B")
    say(server, "DEPENDENCY_RESOLVED", "A", dependency_id="schema", output_location="x.py")
    settle(server, orchestrator, 3)
    assert rows(server, DEMO.inbox("B")) == []

    say(server, "BLOCKED", "B", on="schema")
    settle(server, orchestrator, 4)

    told, resume = rows(server, DEMO.inbox("B"))
    assert (told["type"], told["from"], told["cause"]) == ("DEPENDENCY_RESOLVED", "A", "4-0")
    assert told.payload["output_location"] == "x.py"
    assert (resume["type"], resume["cause"]) == ("RESUME", "4-0")
    assert rows(server, DEMO.inbox("A")) == []
    assert records(server, DEMO.agents)["B"]["status"] == "active"
    assert story(server, DEMO)[3:] == [
        "4-0 BLOCKED B",
        "4-1 DEPENDENCY_RESOLVED → B (of 4-0)",
        "4-2 RESUME → B (of 4-0)",
    ]


def test_ids_in_the_inbox_are_those_of_the_log(server: RunningServer, orchestrator: Daemon) -> None:
    say(server, "BLOCKED", "B", on="schema")
    say(server, "DEPENDENCY_RESOLVED", "A", dependency_id="schema", consumers=["C", "B"])
    settle(server, orchestrator, 2)
    logged = {row.id: (row["to"], row["type"]) for row in rows(server, DEMO.log) if row["to"]}
    delivered = {
        row.id: (name, row["type"]) for name in "ABC" for row in rows(server, DEMO.inbox(name))
    }
    assert delivered == logged
    assert [row["type"] for row in rows(server, DEMO.inbox("C"))] == ["DEPENDENCY_RESOLVED"]


def test_shorthand_and_flat_fields_are_accepted(
    server: RunningServer, orchestrator: Daemon
) -> None:
    """They mean the same as the canonical fields."""
    server.cli("XADD", SIGNALS, "*", "session", "demo", "signal", "PROGRESS(25%)", "emitter", "D")
    server.cli(
        *("XADD", SIGNALS, "*", "session", "demo", "signal_type", "PROGRESS", "emitter", "D"),
        *("percent", "50", "checkpoint", "files_read"),
    )
    settle(server, orchestrator, 2)
    agent = records(server, DEMO.agents)["D"]
    assert (agent["percent"], agent["checkpoint"], agent["signals"]) == (50, "files_read", 2)
