"""Barriers with agents and orchestrators that are killed, late, new, or many."""

from pathlib import Path

import pytest

from tests.end_to_end.crowd import (
    DEMO,
    arrive,
    arrived,
    barrier,
    inbox,
    say,
    settle,
    statuses,
    timer,
    told_all,
)
from tests.end_to_end.member import StartMember
from tests.support.daemon import Daemon, StartDaemon
from tests.support.keyspace import rows
from tests.support.servers import RunningServer
from tests.support.waiting import until

#: Long enough for agents to arrive in time on a busy machine, ms.
DEADLINE_MS = 3_000

#: A policy is applied within this time after the deadline, by the log's times, ms.
DELAY_MS_MAX = 1_000

RULES = """
[barriers]
policy = "release"
"""


@pytest.fixture
def orchestrator(server: RunningServer, daemon: StartDaemon) -> Daemon:
    return daemon(server.url)


def call(server: RunningServer, leader: str = "LEAD", name: str = "release") -> None:
    say(server, "INTEGRATION_REQUIRED", leader, name=name, level=3, deadline_ms=60_000)


@pytest.mark.slow
@pytest.mark.chaos
def test_a_member_that_is_killed_is_named_at_the_deadline(
    server: RunningServer, daemon: StartDaemon, member: StartMember, tmp_path: Path
) -> None:
    rules = tmp_path / "fabric.toml"
    rules.write_text(RULES)
    orchestrator = daemon(server.url, rules=rules)
    quick = [member(server.url, name, "arrives") for name in ("QUICK", "SWIFT")]
    killed = member(server.url, "KILLED", "dawdles")
    until(lambda: set(statuses(server)) == {"QUICK", "SWIFT", "KILLED"}, orchestrator.said)
    killed.kill()

    say(server, "INTEGRATION_REQUIRED", "LEAD", name="release", deadline_ms=DEADLINE_MS)
    until(lambda: arrived(server) == 2, orchestrator.said)
    until(lambda: timer(server, "barrier:1:release"), orchestrator.said)

    (rang,) = timer(server, "barrier:1:release")
    (pause,) = told_all(server, "PAUSE")
    assert pause["members"] == ["KILLED", "QUICK", "SWIFT"]
    assert 0 <= int(rang["ms"]) - pause["deadline_ms"] <= DELAY_MS_MAX
    (told,) = inbox(server, "LEAD", "ESCALATE")
    assert told["question"].startswith("The deadline of barrier release has passed without KILLED.")
    assert inbox(server, "LEAD", "PROCEED") == [{"resources": [], "barrier": "release"}]
    assert barrier(server)["state"] == "integrating"

    say(server, "INTEGRATED", "LEAD", name="release")
    assert [one.ended_on()["reason"] for one in quick] == ["integrated", "integrated"]


@pytest.mark.chaos
def test_the_arrived_stay_arrived_when_the_orchestrator_is_killed(
    server: RunningServer, daemon: StartDaemon
) -> None:
    first = daemon(server.url, "--name", "first")
    members = [f"m{number}" for number in range(10)]
    say(server, "STARTED", *members, "LEAD")
    call(server)
    arrive(server, "release", 1, *members[:5])
    until(lambda: arrived(server) == 5, first.said)
    settle(server, first)
    before = server.cli("ZRANGE", DEMO.arrived("release"), 0, -1, "WITHSCORES")
    first.kill()

    # One agent arrives while no orchestrator runs, the others after the next has taken over.
    arrive(server, "release", 1, members[5])
    assert arrived(server) == 5
    second = daemon(server.url, "--name", "second")
    until(lambda: arrived(server) == 6, second.said)
    assert barrier(server)["state"] == "gathering"
    arrive(server, "release", 1, *members[6:])
    until(lambda: inbox(server, "LEAD", "PROCEED"), second.said)

    assert arrived(server) == 10
    after = server.cli("ZRANGE", DEMO.arrived("release"), 0, -1, "WITHSCORES")
    assert after[:10] == before, "who arrived before, when it did"
    assert len(inbox(server, "LEAD", "PROCEED")) == 1
    say(server, "INTEGRATED", "LEAD")
    settle(server, second)
    assert set(statuses(server).values()) == {"active"}


def test_an_agent_that_joins_is_held_until_the_end(
    server: RunningServer, orchestrator: Daemon
) -> None:
    say(server, "STARTED", "A", "B", "LEAD")
    call(server)
    arrive(server, "release", 1, "A")
    say(server, "STARTED", "NEW")
    settle(server, orchestrator)
    (held,) = inbox(server, "NEW", "PAUSE")
    assert (held["barrier"], held["generation"]) == ("release", 1)
    assert statuses(server)["NEW"] == "paused"
    assert barrier(server)["members"] == '["A","B"]'

    # The barrier does not wait for it, and its arrival opens nothing.
    arrive(server, "release", 1, "NEW")
    settle(server, orchestrator)
    assert (arrived(server), barrier(server)["state"]) == (1, "gathering")

    arrive(server, "release", 1, "B")
    settle(server, orchestrator)
    assert (arrived(server), barrier(server)["state"]) == (2, "integrating")
    assert statuses(server)["NEW"] == "paused"

    say(server, "INTEGRATED", "LEAD")
    settle(server, orchestrator)
    assert set(statuses(server).values()) == {"active"}
    assert [told["barrier"] for told in told_all(server, "RESUME")] == ["release"]


def test_a_late_arrival_of_the_last_generation_does_not_count(
    server: RunningServer, orchestrator: Daemon
) -> None:
    say(server, "STARTED", "A", "B", "LEAD")
    for generation in (1, 2):
        call(server)
        settle(server, orchestrator)
        assert barrier(server)["generation"] == str(generation)
        assert arrived(server) == 0
        arrive(server, "release", generation - 1, "A", "B")
        settle(server, orchestrator)
        assert (arrived(server), barrier(server)["state"]) == (0, "gathering")

        # A repeated arrival counts once.
        arrive(server, "release", generation, "A", "A")
        settle(server, orchestrator)
        assert (arrived(server), barrier(server)["state"]) == (1, "gathering")
        arrive(server, "release", generation, "B")
        say(server, "INTEGRATED", "LEAD")
        settle(server, orchestrator)
        assert barrier(server)["state"] == "over"
    assert len(inbox(server, "LEAD", "PROCEED")) == 2


def test_five_hundred_members(server: RunningServer, orchestrator: Daemon) -> None:
    members = [f"member-{number:03}" for number in range(500)]
    say(server, "STARTED", *members, "LEAD")
    call(server)
    arrive(server, "release", 1, *members[:-1])
    settle(server, orchestrator)
    assert (arrived(server), barrier(server)["state"]) == (499, "gathering")
    assert inbox(server, "LEAD", "PROCEED") == []

    arrive(server, "release", 1, members[-1])
    settle(server, orchestrator)
    assert (arrived(server), barrier(server)["state"]) == (500, "integrating")
    assert len(inbox(server, "LEAD", "PROCEED")) == 1
    found = statuses(server)
    assert {found[name] for name in members} == {"paused"}

    say(server, "INTEGRATED", "LEAD")
    settle(server, orchestrator)
    assert set(statuses(server).values()) == {"active"}
    # What concerns all agents is written once.
    assert len(told_all(server, "PAUSE")) == len(told_all(server, "RESUME")) == 1


def test_two_barriers_take_turns(server: RunningServer, orchestrator: Daemon) -> None:
    say(server, "STARTED", "A", "L1", "L2")
    call(server, "L1", "api")
    call(server, "L2", "docs")
    settle(server, orchestrator)
    # An agent that waits for its turn to lead has arrived at the first barrier.
    assert (barrier(server, "api")["state"], arrived(server, "api")) == ("gathering", 1)
    assert (barrier(server, "docs")["state"], arrived(server, "docs")) == ("queued", 0)

    arrive(server, "api", 1, "A")
    settle(server, orchestrator)
    assert (len(inbox(server, "L1", "PROCEED")), len(inbox(server, "L2", "PROCEED"))) == (1, 0)
    say(server, "INTEGRATED", "L1", name="api")
    settle(server, orchestrator)
    assert (barrier(server, "api")["state"], barrier(server, "docs")["state"]) == (
        "over",
        "gathering",
    )

    arrive(server, "docs", 1, "A", "L1")
    settle(server, orchestrator)
    assert inbox(server, "L2", "PROCEED") == [{"resources": [], "barrier": "docs"}]
    say(server, "INTEGRATED", "L2", name="docs")
    settle(server, orchestrator)
    assert set(statuses(server).values()) == {"active"}
    order = [
        (row["type"], row.payload["barrier"])
        for row in rows(server, DEMO.log, kind="directive")
        if row["type"] in ("PAUSE", "PROCEED", "RESUME")
    ]
    assert order == [
        (kind, name) for name in ("api", "docs") for kind in ("PAUSE", "PROCEED", "RESUME")
    ]
