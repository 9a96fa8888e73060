"""Dead agents are detected, what they held is passed on, and their late signals are refused."""

from pathlib import Path

import pytest

from tests.end_to_end.crowd import DEMO, inbox, say, settle, statuses, timer
from tests.end_to_end.member import RESOURCE, StartMember
from tests.support.daemon import Daemon, StartDaemon
from tests.support.keyspace import DEAD, RESULTS, Row, records, rows, session, values
from tests.support.servers import RunningServer
from tests.support.shell import Shell
from tests.support.waiting import until

#: A live agent of these tests sends heartbeats far more often, even on a slow machine, ms.
SILENCE_MS = 2_000

#: A death is detected within this time, by the log's times, ms.
DELAY_MS_MAX = 1_000

RULES = f"""
[liveness]
silence_ms_min = {SILENCE_MS}
silence_ms_max = {SILENCE_MS}
"""


@pytest.mark.slow
@pytest.mark.chaos
def test_what_a_killed_agent_held_goes_to_the_waiting_agent(
    server: RunningServer, daemon: StartDaemon, member: StartMember, tmp_path: Path
) -> None:
    rules = tmp_path / "fabric.toml"
    rules.write_text(RULES)
    orchestrator = daemon(server.url, rules=rules)
    holder = member(server.url, "HOLDER", "holds")
    until(lambda: inbox(server, "HOLDER", "PROCEED"), orchestrator.said)
    waiter = member(server.url, "WAITER", "waits")
    until(lambda: inbox(server, "WAITER", "WAIT"), orchestrator.said)
    assert values(server, DEMO.lock(RESOURCE))["holder"] == "HOLDER"
    (first,) = {given["token"] for given in inbox(server, "HOLDER", "PROCEED")}

    holder.kill()
    given = waiter.ended_on()
    assert given["resources"] == [RESOURCE]
    assert given["token"] > first

    (found,) = timer(server, "silence:HOLDER")
    last = rows(server, DEMO.log, kind="signal", emitter="HOLDER")[-1]
    silent_ms = int(found["ms"]) - int(last["ms"])
    assert SILENCE_MS <= silent_ms <= SILENCE_MS + DELAY_MS_MAX
    assert statuses(server)["HOLDER"] == "dead"

    # If it was only slow: its late signals are refused, and kept with the reason.
    say(server, "RELEASE", "HOLDER", incarnation=1)
    settle(server, orchestrator)
    (letter,) = rows(server, DEAD)
    assert (letter["code"], letter["raw.type"]) == ("ENDED", "RELEASE")
    assert "declared dead as incarnation 1" in letter["reason"]

    told = member(server.url, "HOLDER", "restarts").ended_on()
    assert (told["held"], told["task"]) == ([RESOURCE], "migrate")
    assert "incarnation 2" in told["reason"]


def test_the_end_of_an_old_incarnation_changes_nothing(
    server: RunningServer, daemon: StartDaemon, tmp_path: Path
) -> None:
    orchestrator: Daemon = daemon(server.url)
    say(server, "STARTED", "A", incarnation=1, task="migrate", produces=["schema"])
    say(server, "BLOCKED", "W", on="schema")
    say(server, "STARTED", "A", incarnation=2, task="migrate", produces=["schema"])
    say(server, "INTENT", "A", incarnation=2, writes=[RESOURCE])
    settle(server, orchestrator)
    hashes = (DEMO.agents, DEMO.tasks, DEMO.dependencies, DEMO.claims)
    before = [records(server, key) for key in hashes]

    say(server, "COMPLETED", "A", incarnation=1, result={"late": True})
    settle(server, orchestrator)

    after = [records(server, key) for key in hashes]
    # But that A was told of the refusal.
    assert after[0]["A"].pop("told_ms") > 0
    assert after == before
    assert statuses(server) == {"A": "active", "W": "blocked"}
    assert [row["type"] for row in rows(server, RESULTS)] == ["STARTED", "BLOCKED", "STARTED"]
    assert values(server, DEMO.lock(RESOURCE))["holder"] == "A"
    shell = Shell(tmp_path, {"FABRIC_REDIS_URL": server.url})
    (letter,) = shell.good("dead", "--json").json_lines
    assert (letter["code"], letter["fields"]["type"]) == ("STALE_INCARNATION", "COMPLETED")
    assert letter["reason"] == "incarnation 1 of A was replaced by incarnation 2"
    assert "STALE_INCARNATION" in shell.good("dead").out


def test_a_fleet_that_falls_silent_together_is_asked_about(
    server: RunningServer, daemon: StartDaemon, tmp_path: Path
) -> None:
    rules = tmp_path / "fabric.toml"
    rules.write_text(RULES)
    orchestrator = daemon(server.url, rules=rules)
    fleet = ("A", "B", "C", "D")
    for name in fleet:
        say(server, "STARTED", name, incarnation=1)
        say(server, "INTENT", name, incarnation=1, writes=[RESOURCE])

    def questions() -> list[Row]:
        return [one | {"id": id_} for id_, one in records(server, DEMO.escalations).items()]

    until(questions, orchestrator.said)
    (asked,) = questions()
    assert (asked["subject"], asked["state"]) == ("mass_silence", "open")
    assert statuses(server) == {"A": "active"} | dict.fromkeys(("B", "C", "D"), "blocked")
    shell = Shell(tmp_path, {"FABRIC_REDIS_URL": server.url, "FABRIC_SESSION": "demo"})
    assert "A, B, C, D" in shell.good("escalations").out

    def is_closed() -> bool:
        for name in fleet:
            say(server, "HEARTBEAT", name, incarnation=1)
        return questions()[0]["state"] == "decided"

    until(is_closed, orchestrator.said)
    assert set(statuses(server).values()) == {"active", "blocked"}
    assert not rows(server, DEAD)
    assert "every key is as the log says" in shell.good("replay", "demo").out


def test_small_sessions_that_fall_silent_together_are_asked_about(
    server: RunningServer, daemon: StartDaemon, tmp_path: Path
) -> None:
    rules = tmp_path / "fabric.toml"
    rules.write_text(RULES)
    orchestrator = daemon(server.url, rules=rules)
    names = ("one", "three", "two")
    for name in names:
        say(server, "STARTED", "A", incarnation=1, in_session=name)
    shell = Shell(tmp_path, {"FABRIC_REDIS_URL": server.url})

    until(
        lambda: all(records(server, session(name).escalations) for name in names), orchestrator.said
    )
    found = shell.good("escalations", "--json").json_lines
    assert sorted(one["session"] for one in found) == list(names)
    assert {one["subject"] for one in found} == {"mass_silence"}
    for one in found:
        assert "In other sessions about 2 are silent too" in one["question"]
        assert records(server, session(one["session"]).agents)["A"]["status"] == "active"
        shell.good("decide", "-s", one["session"], one["id"], "give up")

    def are_dead() -> bool:
        agents = [records(server, session(name).agents)["A"] for name in names]
        return {one["status"] for one in agents} == {"dead"}

    until(are_dead, orchestrator.said)
    for name in names:
        assert "every key is as the log says" in shell.good("replay", name).out
