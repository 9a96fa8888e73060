"""`fabric replay`: a session as it was, or compared with Redis."""

import json
import re

import pytest

from tests.support.servers import RunningServer
from tests.support.shell import Shell
from tests.support.waiting import until


@pytest.fixture
def told(shell: Shell, server: RunningServer, session: str) -> Shell:
    """A session in which B has waited for what A made, and A has ended."""
    lines = [
        {"emitter": "A", "signal": "STARTED", "task": "t", "produces": ["schema"]},
        {"emitter": "B", "signal": "BLOCKED(schema)"},
        {"emitter": "A", "signal": "DEPENDENCY_RESOLVED(schema)"},
        {"emitter": "A", "signal": "COMPLETED"},
        {"emitter": "A", "signal": "PROGRESS(1%)"},
    ]
    shell.good("emit", "-", "-q", given="\n".join(map(json.dumps, lines)))
    until(lambda: server.cli("HGET", f"fabric:{{0}}:{session}:meta", "log") == "5")
    return shell


def test_the_same(told: Shell, session: str) -> None:
    said = "same: 5 events replayed, every key is as the log says"
    assert told.good("replay").lines == [said]
    document = told.good("replay", session, "--json", FABRIC_SESSION="").json
    assert document == {"session": session, "events": 5, "differences": []}


def test_differences(told: Shell, server: RunningServer, session: str) -> None:
    key = f"fabric:{{0}}:{session}:dependencies"
    record = json.loads(server.cli("HGET", key, "schema"))
    server.cli("HSET", key, "schema", json.dumps({**record, "status": "pending"}))
    done = told.run("replay")
    assert done.code == 1
    assert done.err == (f"fabric: Redis differs from what the log of {session} says in 1 place\n")
    assert [re.split(r"  +", line) for line in done.lines] == [
        ["KEY", "FIELD", "LOG SAYS", "REDIS HAS"],
        [key, "schema status", '"resolved"', '"pending"'],
    ]
    assert told.run("replay", "--json").json["differences"] == [
        {"key": key, "field": "schema status", "log": '"resolved"', "redis": '"pending"'}
    ]


def test_an_earlier_state(told: Shell, session: str) -> None:
    assert told.good("replay", "--until", "2-0").lines == [
        f"{session} at 0:00, after 2-0",
        "",
        "Agents",
        "  NAME  STATUS   INCARNATION  TASK  WAITS FOR",
        "  A     active   1            t",
        "  B     blocked  1                  schema",
        "",
        "Tasks",
        "  NAME  STATUS       AGENT",
        "  t     in_progress  A",
        "",
        "Dependencies",
        "  NAME    STATUS   PRODUCERS  WAITERS",
        "  schema  pending  A          B",
    ]
    then = told.good("replay", "--until", "2", "--json").json
    assert (then["session"], then["log"]) == (session, 2)
    assert then["agents"]["B"]["waits_for"] == ["schema"]
    assert then["dependencies"]["schema"]["waiters"] == {"B": "2-0"}
    assert then["claims"] == then["barriers"] == then["escalations"] == {}
    at_the_end = told.good("replay", "--until", "59:59", "--json").json
    assert at_the_end["log"] == 5
    assert at_the_end["agents"]["A"]["status"] == "completed"


def test_logs_that_cannot_be_replayed(told: Shell) -> None:
    done = told.run("replay", "--until", "soon")
    assert done.code == 2
    assert "until: got 'soon'; a log id (12-0)" in done.err
    done = told.run("replay", "nothing-there")
    assert done.code == 3
    assert "no session nothing-there" in done.err
