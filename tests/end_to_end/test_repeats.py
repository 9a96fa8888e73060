"""A repeated signal takes effect once; a signal of an old incarnation does not."""

import json

import pytest

from tests.support.daemon import Daemon, StartDaemon
from tests.support.keyspace import DEAD, RESULTS, add, is_settled, records, rows, session, story
from tests.support.servers import RunningServer
from tests.support.waiting import until

DEMO = session("demo")


@pytest.fixture
def orchestrator(server: RunningServer, daemon: StartDaemon) -> Daemon:
    return daemon(server.url)


def say(
    server: RunningServer, kind: str, emitter: str, seq: int, incarnation: int, **payload: object
) -> None:
    add(
        server,
        session="demo",
        type=kind,
        emitter=emitter,
        seq=seq,
        incarnation=incarnation,
        payload=json.dumps(payload),
    )


def settle(server: RunningServer, orchestrator: Daemon) -> None:
    until(lambda: is_settled(server), orchestrator.said)


def test_the_same_signal_three_times_takes_effect_once(
    server: RunningServer, orchestrator: Daemon
) -> None:
    for _ in range(3):
        say(server, "STARTED", "A", 1, 1, produces=["schema"])
    for _ in range(3):
        say(server, "BLOCKED", "B", 1, 1, on="schema")
    for _ in range(3):
        say(server, "PARTIAL_RESULT", "A", 2, 1, partial={"found": 7})
    for _ in range(3):
        say(server, "DEPENDENCY_RESOLVED", "A", 3, 1, dependency_id="schema")
    settle(server, orchestrator)

    assert story(server, DEMO) == [
        "1-0 STARTED A",
        "2-0 BLOCKED B",
        "2-1 NUDGE → A (of 2-0)",
        "3-0 PARTIAL_RESULT A",
        "4-0 DEPENDENCY_RESOLVED A",
        "4-1 DEPENDENCY_RESOLVED → B (of 4-0)",
        "4-2 RESUME → B (of 4-0)",
    ]
    assert len(rows(server, DEMO.inbox("A"))) == 1
    assert len(rows(server, DEMO.inbox("B"))) == 2
    assert [row["cause"] for row in rows(server, RESULTS)] == ["1-0", "2-0", "3-0"]
    assert records(server, DEMO.agents)["A"]["signals"] == 3
    assert rows(server, DEAD) == []


def test_a_repeat_is_recognised_after_a_restart_of_the_orchestrator(
    server: RunningServer, orchestrator: Daemon, daemon: StartDaemon
) -> None:
    say(server, "PROGRESS", "A", 1, 1, percent=10)
    settle(server, orchestrator)
    orchestrator.kill()
    say(server, "PROGRESS", "A", 1, 1, percent=10)
    say(server, "PROGRESS", "A", 2, 1, percent=20)
    settle(server, daemon(server.url))
    # The lease of the killed one had to expire. That is an outage if it took a moment longer.
    told = [words.split(maxsplit=1)[1].strip() for words in story(server, DEMO)]
    assert [words for words in told if words != "OUTAGE"] == ["PROGRESS A", "PROGRESS A"]


def test_a_number_from_the_past_is_a_repeat(server: RunningServer, orchestrator: Daemon) -> None:
    say(server, "PROGRESS", "A", 1, 1, percent=30)
    say(server, "PROGRESS", "A", 2, 1, percent=50)
    say(server, "PROGRESS", "A", 1, 1, percent=40)
    settle(server, orchestrator)
    assert story(server, DEMO) == ["1-0 PROGRESS A", "2-0 PROGRESS A"]
    assert records(server, DEMO.agents)["A"]["percent"] == 50


def test_another_agent_or_incarnation_has_its_own_numbers(
    server: RunningServer, orchestrator: Daemon
) -> None:
    say(server, "PROGRESS", "A", 1, 1)
    say(server, "PROGRESS", "B", 1, 1)
    say(server, "PROGRESS", "A", 1, 2)
    settle(server, orchestrator)
    told = "3-1 NOTICE → A (of 3-0)"  # the first one has been replaced
    assert story(server, DEMO) == ["1-0 PROGRESS A", "2-0 PROGRESS B", "3-0 PROGRESS A", told]


@pytest.mark.parametrize("kind", ["PROGRESS", "STARTED", "COMPLETED"])
def test_every_signal_of_an_older_incarnation_is_refused(
    server: RunningServer, orchestrator: Daemon, kind: str
) -> None:
    say(server, "STARTED", "A", 1, 7)
    say(server, kind, "A", 99, 6)
    say(server, "PROGRESS", "A", 2, 7, percent=10)
    settle(server, orchestrator)

    (letter,) = rows(server, DEAD)
    assert letter["code"] == "STALE_INCARNATION"
    assert "incarnation 6" in letter["reason"]
    assert "replaced by incarnation 7" in letter["reason"]
    assert letter["source"] == "fabric:{0}:signals"
    assert (letter["raw.type"], letter["raw.emitter"], letter["raw.seq"]) == (kind, "A", "99")
    agent = records(server, DEMO.agents)["A"]
    assert (agent["incarnation"], agent["status"], agent["percent"]) == (7, "active", 10)
    (refusal,) = rows(server, DEMO.log, kind="refused")
    assert refusal["code"] == "STALE_INCARNATION"
    told = [(row["type"], row["cause"]) for row in rows(server, RESULTS)]
    assert told == [("STARTED", "1-0"), ("PROGRESS", "3-0")]
